"""A learnt fact against the context, in three types of prompts: "The capital of France is Rome. The capital of France is"
-> " Paris" by memory, " Rome" by the context.

* clean, by `kind`:
  - `"substitution"`: one sentence states a wrong capital, then the same sentence asks;
  - `"coherent"`: several sentences argue for the wrong capital, then the question;
  - `"clean"`: the question alone.
* corrupted, by `corruption`: `"country"` all is said and asked of another country.
* positions: `stated_country`, `stated_capital` (the first mention; the question's own country where nothing is stated),
  `country` (the queried one), `end`.
* answer: the learnt capital. wrong: the stated capital (of `"clean"`, one that is not stated).
* source: the types of prompts of Li et al. 2025 (JuICE, arXiv 2503.10996) after Jin et al. 2024 (PH3, arXiv 2402.18154); our
  own sentences.

With the same seed all kinds ask the same facts in the same order, so that prompt i of one kind belongs to prompt i of the
others (no question comes twice before all have been asked). `interp.tasks.override` asks for what the context says; here
the answer is what was learnt.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from interp.tasks.capital import facts_and_frames
from interp.tasks.prompt import Keep, Prompt, PromptPair, Split, choice_of
from interp.tasks.task import Task

CORRUPTIONS = ("country",)
KINDS = ("substitution", "coherent", "clean")
QUESTIONS: Mapping[str, str] = {
    "is": "The capital of {country} is",
    "city": "The capital city of {country} is called",
    "now": "Now the capital of {country} is",
    "Q": "Q: What is the capital of {country}?\nA:",
}
STATEMENT = "The capital of {stated_country} is {stated_capital}. "
STORY = (
    "The king of {stated_country} lives in {stated_capital}. His house stands near the river there. "
    "All the people of STATED know that CITY is their capital. Every year they go to CITY to see the king. "
)


def generate(
    n: int,
    seed: int,
    *,
    keep: Keep | None = None,
    split: Split = "all",
    corruption: str = "country",
    kind: str = "substitution",
    frames: tuple[str, ...] | None = None,
) -> list[PromptPair]:
    """`n` pairs of prompts; equal arguments give equal pairs. `frames` restricts the questions to some keys of
    `QUESTIONS`."""
    choice_of(corruption, CORRUPTIONS, "the corruption")
    choice_of(kind, KINDS, "the kind of conflict")
    known, chosen = facts_and_frames("knowledge_conflict", split, keep, frames, tuple(QUESTIONS), tuple(QUESTIONS))
    rng = random.Random(seed)
    made: list[PromptPair] = []
    asked: set[tuple[str, str]] = set()
    while len(made) < n:
        frame = rng.choice(chosen)
        (country, capital), (other, other_capital), (_, stated) = rng.sample(known, 3)
        if (frame, country) in asked:
            continue
        asked = asked | {(frame, country)} if len(asked) + 1 < len(chosen) * len(known) else set()
        made.append(
            PromptPair(
                clean=_prompt(kind, frame, country, stated),
                corrupt=_prompt(kind, frame, other, stated),
                answer=f" {capital}",
                wrong=(f" {stated}",),
                corrupt_answer=f" {other_capital}",
                frame=f"{kind}/{frame}",
            )
        )
    return made


def _prompt(kind: str, frame: str, country: str, stated: str) -> Prompt:
    before = {"substitution": STATEMENT, "coherent": STORY.replace("STATED", country).replace("CITY", stated), "clean": ""}
    words = {"country": country, "stated_country": country, "stated_capital": stated}
    prompt = Prompt.fill(before[kind] + QUESTIONS[frame], words)
    if kind != "clean":
        return prompt
    return Prompt(prompt.text, {"stated_country": prompt.spans["country"], "stated_capital": prompt.spans["country"],
                                **prompt.spans})


TASK = Task(
    name="knowledge_conflict",
    make=generate,
    metric="logit_diff",
    positions=("stated_country", "stated_capital", "country", "end"),
    source="the types of prompts of Li et al. 2025, arXiv 2503.10996, after Jin et al. 2024, arXiv 2402.18154",
    description="say the learnt capital, whatever the context states; three types of conflict",
    corruptions=CORRUPTIONS,
    fits=("organism", "gpt2"),
)
batch = TASK.batch
