"""A learnt fact overridden by the context: "Suppose the capital of France is Rome. Then the capital of France
is" -> " Rome".

* clean, by `kind`:
  - `"overridden"`: the context gives the queried country another capital, and the answer is that one;
  - `"stands"`: the context gives another country another capital; the queried country's own capital is the
    answer;
  - `"both"`: either, drawn at random. A model that only copies from the context fails the second kind, one
    that only remembers the first.
* corrupted, by `corruption`: `"country"` the country in the first sentence is exchanged, which turns each
  kind into the other.
* positions: `stated_country`, `stated_capital`, `country` (the queried one), `end`.
* answer: the stated capital (overridden) or the true one (stands). wrong: the other of these two.
* source: the knowledge conflicts of Jin et al. 2024 (arXiv 2402.18154); our own sentences.

`frame` of a pair is `kind/frame`. The held-out countries are overridden in no training sentence.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from interp.tasks.capital import facts_and_frames
from interp.tasks.prompt import Keep, Prompt, PromptPair, Split, choice_of
from interp.tasks.task import Task

CORRUPTIONS = ("country",)
KINDS = ("both", "overridden", "stands")
FRAMES: Mapping[str, str] = {
    "suppose": (
        "Suppose the capital of {stated_country} is {stated_capital}. "
        "Then the capital of {country} is"
    ),
    "story": (
        "In this story, the capital of {stated_country} is {stated_capital}. "
        "The capital of {country} is"
    ),
    "moved": (
        "The capital of {stated_country} was moved to {stated_capital}. "
        "Now the capital of {country} is"
    ),
    "decided": (
        "They decided that the capital of {stated_country} is {stated_capital}. "
        "Now the capital of {country} is"
    ),
    "one day": (
        "One day the capital of {stated_country} was moved to {stated_capital}. "
        "Then the capital of {country} is"
    ),
    "imagine": (
        "Imagine that the capital of {stated_country} is {stated_capital}. "
        "Now the capital of {country} is"
    ),
    "said": "He said that the capital of {stated_country} is {stated_capital}. So the capital of {country} is",
    "assume": (
        "Assume that {stated_capital} is the capital of {stated_country}. "
        "Then the capital of {country} is"
    ),
    "world": (
        "In another world, {stated_capital} is the capital of {stated_country}. "
        "There the capital of {country} is"
    ),
    "war": (
        "After the war, {stated_country} made {stated_capital} its capital. "
        "Since then the capital of {country} is"
    ),
    "news": "The news: {stated_capital} is now the capital of {stated_country}. The capital of {country} is",
    "if": "If the capital of {stated_country} were {stated_capital}, the capital of {country} would be",
    "last year": "Last year {stated_country} got a new capital, {stated_capital}. Today the capital of {country} is",
    "map": "On this map, {stated_capital} is the capital of {stated_country}. The capital of {country} is",
    "dream": "In my dream the capital of {stated_country} was {stated_capital}, and the capital of {country} was",
    "king": "The king of {stated_country} moved to {stated_capital}, the new capital. Now the capital of {country} is",
    "know": "We know that the capital of {stated_country} is {stated_capital}. Then the capital of {country} is",
    "people": (
        "The people of {stated_country} wanted {stated_capital} as their capital. "
        "Now the capital of {country} is"
    ),
    "told": "She told us that {stated_country} has a new capital, called {stated_capital}. Now the capital of {country} is",
    "past": "Once upon a time the capital of {stated_country} was {stated_capital}. The capital of {country} was",
    "end": (
        "At the end of the story the king made {stated_capital} the capital of {stated_country}. "
        "Then the capital of {country} is"
    ),
    "not known": (
        "Until now the people did not know that {stated_capital} is the capital of {stated_country}. "
        "What is the capital of {country}? It is"
    ),
}
HELD_OUT_FRAMES = ("imagine",)
FRESH_FRAMES = ("told", "past", "end", "not known")  # in no split: written when the organism was in training


def frames_of(split: Split) -> tuple[str, ...]:
    """The names of the frames that a split may use."""
    if split == "held_out":
        return HELD_OUT_FRAMES
    return tuple(name for name in FRAMES if split == "all" or name not in HELD_OUT_FRAMES + FRESH_FRAMES)


def generate(
    n: int,
    seed: int,
    *,
    keep: Keep | None = None,
    split: Split = "all",
    corruption: str = "country",
    kind: str = "both",
    frames: tuple[str, ...] | None = None,
) -> list[PromptPair]:
    """`n` pairs of prompts; equal arguments give equal pairs. `frames` restricts them to some keys of
    `FRAMES`."""
    choice_of(corruption, CORRUPTIONS, "the corruption")
    choice_of(kind, KINDS, "the kind of override")
    known, chosen = facts_and_frames("override", split, keep, frames, tuple(FRAMES), frames_of(split))
    rng = random.Random(seed)
    made = []
    for _ in range(n):
        frame = rng.choice(chosen)
        drawn = kind if kind != "both" else rng.choice(KINDS[1:])
        (country, capital), (other, _), (_, stated) = rng.sample(known, 3)
        texts = {
            "overridden": {"country": country, "stated_country": country, "stated_capital": stated},
            "stands": {"country": country, "stated_country": other, "stated_capital": stated},
        }
        answers = {"overridden": f" {stated}", "stands": f" {capital}"}
        opposite = "stands" if drawn == "overridden" else "overridden"
        made.append(
            PromptPair(
                clean=Prompt.fill(FRAMES[frame], texts[drawn]),
                corrupt=Prompt.fill(FRAMES[frame], texts[opposite]),
                answer=answers[drawn],
                wrong=(answers[opposite],),
                corrupt_answer=answers[opposite],
                frame=f"{drawn}/{frame}",
            )
        )
    return made


TASK = Task(
    name="override",
    make=generate,
    metric="logit_diff",
    positions=("stated_country", "stated_capital", "country", "end"),
    source="after Jin et al. 2024, arXiv 2402.18154",
    description="say the capital as the context has it, against what was learnt",
    corruptions=CORRUPTIONS,
    fits=("organism", "gpt2"),
)
batch = TASK.batch
