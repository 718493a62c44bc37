"""Induction: a sequence of random tokens is repeated; at a repeated token the answer is what followed it
before.

* clean: `length` different random tokens, then the same tokens again up to some point: `a b c d a b` -> `c`.
* corrupted, by `corruption`:
  - `"successor"`: only the answer's earlier occurrence is exchanged for another token, which becomes the
    answer;
  - `"no_repeat"`: the whole first copy is exchanged for other random tokens, so that nothing repeats.
* positions: `first` (the earlier occurrence of the last token), `successor` (the token after it, the answer),
  `end`.
* answer: the successor. wrong: the token that stands there in the corrupted prompt (`"successor"`), or one of
  the first copy's other tokens (`"no_repeat"`).
* source: Elhage et al. 2021, Olsson et al. 2022 (arXiv 2209.11895).

With `tokens` (token ids of the model at hand) the prompts are token ids, as in the papers; without it they
are texts of random words. The held-out split draws other sequences: on random tokens there is nothing else to
hold out.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from interp.tasks import words as lists
from interp.tasks.prompt import Keep, Prompt, PromptPair, Split, choice_of, usable
from interp.tasks.task import Task

CORRUPTIONS = ("successor", "no_repeat")


def _all_words() -> tuple[str, ...]:
    found: dict[str, None] = {}
    for listed in (
        lists.NAMES,
        lists.PLACES,
        lists.OBJECTS,
        lists.THINGS,
        lists.COLORS,
        lists.EVENTS,
        lists.ANIMALS,
        lists.FOODS,
    ):
        found |= dict.fromkeys(listed.of("all"))
    return tuple(found)


def generate(
    n: int,
    seed: int,
    *,
    keep: Keep | None = None,
    split: Split = "all",
    corruption: str = "successor",
    tokens: Sequence[int] | None = None,
    length: int | tuple[int, int] = (16, 32),
) -> list[PromptPair]:
    """`n` pairs of prompts; equal arguments give equal pairs. `length` (of one copy) is a number or an
    inclusive range to draw from."""
    choice_of(corruption, CORRUPTIONS, "the corruption")
    low, high = (length, length) if isinstance(length, int) else length
    if not 2 <= low <= high:
        raise ValueError(
            f"the length of one copy must be at least 2, and a range must not be empty; it is {length}"
        )
    least = 2 * high + 1
    pool: list[str] | list[int]
    pool = (
        usable(_all_words(), keep, least, "random words") if tokens is None else list(dict.fromkeys(tokens))
    )
    if len(pool) < least:
        raise ValueError(f"random tokens: {least} different ones are needed, {len(pool)} are given")
    rng = random.Random(f"{seed}/{split}")
    return [_pair(rng, pool, rng.randint(low, high), corruption) for _ in range(n)]


def _pair(rng: random.Random, pool: list[str] | list[int], length: int, corruption: str) -> PromptPair:
    drawn = rng.sample(pool, 2 * length)
    copy, other = drawn[:length], drawn[length:]
    at = rng.randrange(length // 2, length - 1)  # the last token is this one of the second copy
    clean = [*copy, *copy[: at + 1]]
    corrupt = list(clean)
    if corruption == "successor":
        corrupt[at + 1] = other[0]
        wrong, corrupt_answer = other[0], other[0]
    else:
        corrupt[:length] = other
        wrong, corrupt_answer = (
            rng.choice([token for i, token in enumerate(copy) if i not in (at, at + 1)]),
            None,
        )
    answers = [_answer(answer) for answer in (copy[at + 1], wrong)]
    return PromptPair(
        clean=_prompt(clean, at),
        corrupt=_prompt(corrupt, at),
        answer=answers[0],
        wrong=(answers[1],),
        corrupt_answer=None if corrupt_answer is None else _answer(corrupt_answer),
        frame=f"length {length}",
    )


def _answer(token: str | int) -> str | int:
    return token if isinstance(token, int) else f" {token}"


def _prompt(tokens: Sequence[str | int], at: int) -> Prompt:
    if isinstance(tokens[0], int):
        return Prompt(
            "", {"first": (at, at + 1), "successor": (at + 1, at + 2)}, tuple(int(token) for token in tokens)
        )
    spans = {at: "first", at + 1: "successor"}
    return Prompt.of(*((spans.get(i, ""), f" {token}") for i, token in enumerate(tokens)))


TASK = Task(
    name="induction",
    make=generate,
    metric="logit_diff",
    positions=("first", "successor", "end"),
    source="Elhage et al. 2021; Olsson et al. 2022, arXiv 2209.11895",
    description="continue a repeated sequence of random tokens",
    corruptions=CORRUPTIONS,
    fits=("organism", "gpt2"),
)
batch = TASK.batch
