"""Letter answers to a multiple choice: find the option that agrees with a fact given in the prompt, answer
with its letter.

    The mug is red. What color is the mug?
    A. blue
    B. red
    C. green
    D. black
    Answer:                                  -> " B"

* clean: a fact, a question about it, four options of which one is right.
* corrupted, by `corruption`:
  - `"fact"`: the fact names the colour of another option, so that the answer is that option's letter;
  - `"options"`: the right option has changed places with another one.
* positions: `fact` (the colour in the fact), `option_A` ... `option_D`, `option` and `letter` (the right
  option and its letter), `end`.
* answer: the letter, with its leading space. wrong: the three other letters.
* source: after Lieberum et al. 2023 (arXiv 2307.09458) and Wiegreffe et al. 2024 (arXiv 2407.15018); our own
  words and sentences.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from interp.tasks.prompt import Keep, Prompt, PromptPair, Split, choice_of, usable
from interp.tasks.task import Task
from interp.tasks.words import COLORS, THINGS

CORRUPTIONS = ("fact", "options")
LETTERS = ("A", "B", "C", "D")
FRAMES: Mapping[str, str] = {
    "is": "The {thing} is {fact}. What color is the {thing_2}?",
    "has": "There is a {fact} {thing} on the table. What color is the {thing_2}?",
    "painted": "Someone painted the {thing} {fact}. Which color is the {thing_2}?",
    "saw": "We saw a {fact} {thing}. What color is the {thing_2}?",
    "found": "She found a {fact} {thing} at the station. Which color is the {thing_2}?",
    "took": "I took the {fact} {thing}. What is the color of the {thing_2}?",
    "in the box": "In the box there is a {thing}, and the {thing_2} is {fact}. What color is the {thing_3}?",
    "brought": "They brought the {thing}, and it was {fact}. What color is the {thing_2}?",
    "bought": "I bought a {fact} {thing}. What is the color of the {thing_2}?",
}
HELD_OUT_FRAMES = ("bought",)


def frames_of(split: Split) -> tuple[str, ...]:
    """The names of the frames that a split may use."""
    return tuple(
        name for name in FRAMES if split == "all" or (name in HELD_OUT_FRAMES) == (split == "held_out")
    )


def generate(
    n: int,
    seed: int,
    *,
    keep: Keep | None = None,
    split: Split = "all",
    corruption: str = "fact",
    frames: tuple[str, ...] | None = None,
    things: Sequence[str] | None = None,
) -> list[PromptPair]:
    """`n` pairs of prompts; equal arguments give equal pairs.

    `frames` restricts them to some keys of `FRAMES`; `things` are words to use in place of our objects.
    """
    choice_of(corruption, CORRUPTIONS, "the corruption")
    usable(LETTERS, keep, 4, "letters")
    colors = [color for color in usable(COLORS.train, keep, 4, "colours") if color[0] not in "aeiou"]
    objects = usable(THINGS.of(split) if things is None else things, keep, 1, "objects that have a colour")
    chosen = (
        frames_of(split)
        if frames is None
        else tuple(choice_of(frame, tuple(FRAMES), "the frame") for frame in frames)
    )
    rng = random.Random(seed)
    return [_pair(rng, rng.choice(chosen), rng.choice(objects), colors, corruption) for _ in range(n)]


def _pair(rng: random.Random, frame: str, thing: str, colors: list[str], corruption: str) -> PromptPair:
    options = rng.sample(colors, 4)
    right, other = rng.sample(range(4), 2)

    def prompt(options: list[str], fact: str) -> Prompt:
        question = Prompt.fill(
            FRAMES[frame], {"thing": thing, "thing_2": thing, "thing_3": thing, "fact": fact}
        )
        at = options.index(fact)
        segments: list[str | tuple[str, str]] = [question.text]
        for letter, option in zip(LETTERS, options, strict=True):
            segments += ["\n", (f"letter_{letter}", letter), ".", (f"option_{letter}", f" {option}")]
        built = Prompt.of(*segments, "\nAnswer:")
        spans = dict(built.spans) | {"fact": question.spans["fact"], "thing": question.spans["thing"]}
        spans |= {"option": spans[f"option_{LETTERS[at]}"], "letter": spans[f"letter_{LETTERS[at]}"]}
        return Prompt(built.text, spans)

    moved = list(options)
    moved[right], moved[other] = options[other], options[right]
    clean = prompt(options, options[right])
    return PromptPair(
        clean=clean,
        corrupt=prompt(options, options[other]) if corruption == "fact" else prompt(moved, options[right]),
        answer=f" {LETTERS[right]}",
        wrong=tuple(f" {letter}" for i, letter in enumerate(LETTERS) if i != right),
        corrupt_answer=f" {LETTERS[other]}",
        frame=frame,
    )


TASK = Task(
    name="multiple_choice",
    make=generate,
    metric="logit_diff",
    positions=("fact", "option_A", "option_B", "option_C", "option_D", "option", "letter", "end"),
    moving=("option", "letter"),
    source="after Lieberum et al. 2023, arXiv 2307.09458; Wiegreffe et al. 2024, arXiv 2407.15018",
    description="answer with the letter of the option that agrees with a fact",
    corruptions=CORRUPTIONS,
    fits=("organism", "gpt2"),
)
batch = TASK.batch
