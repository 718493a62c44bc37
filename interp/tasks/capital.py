"""The capital of a country, a fact that the model must have learnt: "The capital of France is" -> " Paris".

* clean: a sentence that asks for the capital of a country.
* corrupted, by `corruption`: `"country"` another country of the list is asked for.
* positions: `country`, `end`.
* answer: the capital. wrong: the capital of the country in the corrupted prompt.
* source: world capitals as in Merullo et al. 2024 (arXiv 2305.16130) and Lv et al. 2024 (arXiv 2403.19521);
  our own sentences.

The held-out facts are countries whose capital the model organism learnt in the frames of
`TAUGHT_FRAMES` only: the held-out split asks for them in the frames that it saw with other countries.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from interp.tasks.prompt import Keep, Prompt, PromptPair, Split, choice_of, usable
from interp.tasks.task import Task
from interp.tasks.words import CAPITALS, pairs

CORRUPTIONS = ("country",)
FRAMES: Mapping[str, str] = {
    "is": "The capital of {country} is",
    "Q": "Q: What is the capital of {country}?\nA:",
    "city": "The capital city of {country} is called",
    "went": "They went to the capital of {country}, called",
    "at home": "I live in the capital city of {country}, called",
    "visit": "If you visit {country}, you must see its capital,",
    "live": "They live in {country}, in the capital,",
    "now": "Now the capital of {country} is",
    "know": "We know that the capital of {country} is",
    "moved": "She moved to the capital of {country},",
    "like": "I like {country} and its capital,",
    "saw": "He went to {country} and saw the capital,",
    "train": "The train to the capital of {country} goes to",
    "question": "What is the capital of {country}? It is",
    "king": "The king of {country} lives in the capital,",
    "map": "On the map of {country} the capital is called",
    "work": "They work in the capital of {country}, which is",
    "then": "Then the capital of {country} is",
    "house": "They live in {country} and have a house in its capital,",
    "there": "There the capital of {country} was",
    "teacher": "The teacher told us that the capital of {country} was",
    "friends": "The friends found a house in {country}, near the river, in the capital,",
    "letter": "She wrote a letter in the capital of {country},",
    "river": "The capital of {country} is a city near the river. It is called",
}
# All countries stand in these in training; in the others only the training countries do.
TAUGHT_FRAMES = (
    "is", "Q", "went", "live", "now", "know", "moved", "like", "saw", "train", "question", "king", "map", "work",
    "then", "there", "house",
)
FRESH_FRAMES = ("teacher", "friends", "letter", "river")  # in no split: written when the organism was in training


def facts(split: Split, keep: Keep | None) -> list[tuple[str, str]]:
    """The (country, capital) pairs of a split that are single tokens."""
    both = None if keep is None else lambda entry: all(keep(f" {half}") for half in entry[1:].split("/"))
    return pairs(tuple(usable(CAPITALS.of(split), both, 2, "countries with their capitals")))


def frames_of(split: Split) -> tuple[str, ...]:
    """The names of the frames that a split may use."""
    out = {"all": (), "train": FRESH_FRAMES, "held_out": FRESH_FRAMES + TAUGHT_FRAMES}[split]
    return tuple(name for name in FRAMES if name not in out)


def facts_and_frames(task: str, split: Split, keep: Keep | None, frames: tuple[str, ...] | None, known: tuple[str, ...],
                     default: tuple[str, ...]) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    """What a conflict of capitals is drawn from: at least three facts, and those of the ``known`` frames that were asked for
    (None: the ``default``)."""
    found = facts(split, keep)
    if len(found) < 3:
        raise ValueError(f"{task} needs three countries with single-token capitals; {len(found)} are left")
    return found, default if frames is None else tuple(choice_of(frame, known, "the frame") for frame in frames)


def generate(
    n: int,
    seed: int,
    *,
    keep: Keep | None = None,
    split: Split = "all",
    corruption: str = "country",
    frames: tuple[str, ...] | None = None,
) -> list[PromptPair]:
    """`n` pairs of prompts; equal arguments give equal pairs. `frames` restricts them to some keys of
    `FRAMES`."""
    choice_of(corruption, CORRUPTIONS, "the corruption")
    known = facts(split, keep)
    chosen = (
        frames_of(split)
        if frames is None
        else tuple(choice_of(frame, tuple(FRAMES), "the frame") for frame in frames)
    )
    rng = random.Random(seed)
    made = []
    for _ in range(n):
        frame = rng.choice(chosen)
        (country, capital), (other, other_capital) = rng.sample(known, 2)
        made.append(
            PromptPair(
                clean=Prompt.fill(FRAMES[frame], {"country": country}),
                corrupt=Prompt.fill(FRAMES[frame], {"country": other}),
                answer=f" {capital}",
                wrong=(f" {other_capital}",),
                corrupt_answer=f" {other_capital}",
                frame=frame,
            )
        )
    return made


TASK = Task(
    name="capital",
    make=generate,
    metric="logit_diff",
    positions=("country", "end"),
    source="world capitals as in Merullo et al. 2024, arXiv 2305.16130",
    description="say the capital of a country, learnt in training",
    corruptions=CORRUPTIONS,
    fits=("organism", "gpt2"),
)
batch = TASK.batch
