"""Greater-than: "The war lasted from the year 1732 to the year 17" -> any of "33" ... "99".

* clean: an event that starts in the year `century` + `start`, and the first two digits of the year in which
  it ends.
* corrupted, by `corruption`:
  - `"01"`: the start year's last two digits are 01, so that nearly every end year is right;
  - `"random"`: they are another start year's.
* positions: `century` (first two digits of the start), `start` (its last two digits, one token), `end` (the
  second "17").
* answers: every two-digit number above `start`; `answer` is one of them. wrong: `start` itself and every
  two-digit number up to it. The metric of the literature is the probability of `answers` less that of
  `wrong`.
* source: Hanna, Liu and Variengien 2023 (arXiv 2305.00586).

The years are two tokens each (" 17" and "32"). Years that a tokenizer cuts otherwise are left out when a
batch is made.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from interp.tasks.prompt import Keep, Prompt, PromptPair, Split, choice_of, usable
from interp.tasks.task import Task
from interp.tasks.words import EVENTS

CORRUPTIONS = ("01", "random")
CENTURIES = ("11", "12", "13", "14", "15", "16", "17", "18")
FRAMES: Mapping[str, str] = {
    "lasted": "The {event} lasted from the year {century}{start} to the year {end_century}",
    "went on": "The {event} went on from {century}{start} to {end_century}",
    "started": "The {event} started in the year {century}{start} and ended in the year {end_century}",
    "began": "The {event} began in {century}{start} and was over in {end_century}",
    "late": "The {event} was late, from the year {century}{start} to the year {end_century}",
    "saw": "We saw the {event} that went on from the year {century}{start} to the year {end_century}",
    "in the year": (
        "In the year {century}{start} the {event} began, and it was over in the year {end_century}"
    ),
    "of the year": "The {event} of the year {century}{start} lasted to the year {end_century}",
    "took": "The {event} took place from the year {century}{start} to the year {end_century}",
}
HELD_OUT_FRAMES = ("took",)
NUMBERS = tuple(f"{number:02d}" for number in range(100))


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
    corruption: str = "01",
    frames: tuple[str, ...] | None = None,
) -> list[PromptPair]:
    """`n` pairs of prompts; equal arguments give equal pairs. `frames` restricts them to some keys of
    `FRAMES`."""
    choice_of(corruption, CORRUPTIONS, "the corruption")
    events = usable(EVENTS.of(split), keep, 1, "events")
    centuries = usable(CENTURIES, keep, 1, "centuries")
    numbers = [number for number in NUMBERS if keep is None or keep(number)]
    if len(numbers) < 50 or numbers[-1] != "99":
        raise ValueError(
            f"only {len(numbers)} of the two-digit numbers are single tokens; "
            "greater-than needs 50, 99 among them"
        )
    starts = [number for number in numbers if "02" <= number <= "98"]
    chosen = (
        frames_of(split)
        if frames is None
        else tuple(choice_of(frame, tuple(FRAMES), "the frame") for frame in frames)
    )
    rng = random.Random(seed)
    return [
        _pair(rng, rng.choice(chosen), rng.choice(events), rng.choice(centuries), starts, numbers, corruption)
        for _ in range(n)
    ]


def _pair(
    rng: random.Random,
    frame: str,
    event: str,
    century: str,
    starts: list[str],
    numbers: list[str],
    corruption: str,
) -> PromptPair:
    start, other = rng.sample(starts, 2)
    answers = tuple(number for number in numbers if number > start)
    words = {"event": event, "century": century, "start": start, "end_century": century}
    return PromptPair(
        clean=Prompt.fill(FRAMES[frame], words),
        corrupt=Prompt.fill(FRAMES[frame], words | {"start": "01" if corruption == "01" else other}),
        answer=rng.choice(answers),
        wrong=tuple(number for number in numbers if number <= start),
        frame=frame,
        answers=answers,
    )


TASK = Task(
    name="greater_than",
    make=generate,
    metric="prob_diff",
    positions=("century", "start", "end"),
    source="Hanna, Liu and Variengien 2023, arXiv 2305.00586",
    description="end an event in a later year than it began",
    corruptions=CORRUPTIONS,
    fits=("organism", "gpt2"),
)
batch = TASK.batch
