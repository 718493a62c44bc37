"""Subject-verb agreement across a distractor: "Today the keys near the cabinet" -> " are", not " is".

* clean: a subject, a preposition or a short relative clause, and a second noun (the distractor) of the same
  or the other number. The word at the front fixes the tense, so that one verb form is right: today are/is,
  yesterday were/was, for years have/has.
* corrupted, by `corruption`: `"number"` the subject is put into the other number; `"other"` the subject
  becomes another noun of the other number.
* positions: `subject`, `distractor`, `end`.
* answer: the verb form of the subject's number. wrong: the form of the other number.
* source: Linzen, Dupoux and Goldberg 2016; Finlayson et al. 2021 (arXiv 2106.06087).
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from interp.tasks.prompt import Keep, Prompt, PromptPair, Split, choice_of, usable
from interp.tasks.task import Task
from interp.tasks.words import NOUNS, pairs

CORRUPTIONS = ("number", "other")
TENSES: Mapping[str, tuple[str, str]] = {
    "Today": ("is", "are"),
    "Yesterday": ("was", "were"),
    "For years": ("has", "have"),
}
FRAMES: Mapping[str, str] = {
    "near": "{front} the {subject} near the {distractor}",
    "with": "{front} the {subject} with the {distractor}",
    "behind": "{front} the {subject} behind the {distractor}",
    "by": "{front} the {subject} by the {distractor}",
    "of": "{front} the {subject} of the {distractor}",
    "that saw": "{front} the {subject} that saw the {distractor}",
    "next to": "{front} the {subject} next to the {distractor}",
}
HELD_OUT_FRAMES = ("behind", "next to")
DISTRACTORS = ("both", "same", "other")


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
    corruption: str = "number",
    distractor: str = "both",
    frames: tuple[str, ...] | None = None,
) -> list[PromptPair]:
    """`n` pairs of prompts; equal arguments give equal pairs.

    `distractor`: whether the second noun has the subject's number ("same"), the other one ("other"), or
    either ("both").
    """
    choice_of(corruption, CORRUPTIONS, "the corruption")
    choice_of(distractor, DISTRACTORS, "the distractor's number")
    nouns = usable(
        NOUNS.of(split),
        None if keep is None else lambda w: all(keep(f" {form}") for form in w[1:].split("/")),
        3,
        "nouns",
    )
    chosen = (
        frames_of(split)
        if frames is None
        else tuple(choice_of(frame, tuple(FRAMES), "the frame") for frame in frames)
    )
    rng = random.Random(seed)
    forms = pairs(tuple(nouns))
    return [_pair(rng, rng.choice(chosen), forms, corruption, distractor) for _ in range(n)]


def _pair(
    rng: random.Random, frame: str, forms: list[tuple[str, str]], corruption: str, distractor: str
) -> PromptPair:
    subject, second, third = rng.sample(forms, 3)
    number = rng.randrange(2)
    second_number = {"same": number, "other": 1 - number, "both": rng.randrange(2)}[distractor]
    front = rng.choice(tuple(TENSES))
    words = {"front": front, "subject": subject[number], "distractor": second[second_number]}
    changed = {"subject": (subject if corruption == "number" else third)[1 - number]}
    answers = [f" {form}" for form in TENSES[front]]
    return PromptPair(
        clean=Prompt.fill(FRAMES[frame], words),
        corrupt=Prompt.fill(FRAMES[frame], words | changed),
        answer=answers[number],
        wrong=(answers[1 - number],),
        corrupt_answer=answers[1 - number],
        frame=frame,
    )


TASK = Task(
    name="agreement",
    make=generate,
    metric="logit_diff",
    positions=("subject", "distractor", "end"),
    source="Linzen et al. 2016, arXiv 1611.01368; Finlayson et al. 2021, arXiv 2106.06087",
    description="choose the verb form of the subject's number, not of a nearer noun's",
    corruptions=CORRUPTIONS,
    fits=("organism", "gpt2"),
)
batch = TASK.batch
