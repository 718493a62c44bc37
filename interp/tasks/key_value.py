"""Key-value retrieval: a long list of pairs, then one key again: "List: Mary red, ring John, ... Query: ring"
-> " John".

* clean: `size` pairs of a key and a value in random order, then the queried key (3 tokens a pair: 128 pairs
  make a context of some 390 tokens). Keys are all different; values are different too as long as there are
  words enough, and the queried value occurs once.
* corrupted, by `corruption`:
  - `"value"`: only the queried pair's value is exchanged for a word that is not in the list, which becomes
    the answer;
  - `"key"`: another key of the list is queried, so that its value is the answer.
* positions: `key` and `value` (the queried pair in the list: `value` is the needle), `query` (the key again,
  the last token), `end`.
* answer: the value of the queried key. wrong: the answer of the corrupted prompt, and up to two other values
  of the list.
* source: synthetic retrieval as in Liu et al. 2023 (arXiv 2307.03172), for retrieval heads as of Wu et al.
  2024 (arXiv 2404.15574).

In the held-out split the queried key and value are words that never stood in such a list in training; the
other pairs are of any words.
"""

from __future__ import annotations

import random

from interp.tasks import words as lists
from interp.tasks.prompt import Keep, Prompt, PromptPair, Split, choice_of, usable
from interp.tasks.task import Task
from interp.tasks.words import Words

CORRUPTIONS = ("value", "key")


def entries() -> Words:
    """The words that may be keys and values; the held-out ones stand in no list of the training."""
    train: dict[str, None] = {}
    for listed in (lists.NAMES, lists.PLACES, lists.OBJECTS, lists.THINGS, lists.COLORS, lists.EVENTS):
        train |= dict.fromkeys(listed.of("all"))
    train |= dict.fromkeys(lists.ANIMALS.train + lists.FOODS.train)
    return Words(tuple(train), lists.ANIMALS.held_out + lists.FOODS.held_out)


def generate(
    n: int,
    seed: int,
    *,
    keep: Keep | None = None,
    split: Split = "all",
    corruption: str = "value",
    size: int | tuple[int, int] = (4, 24),
) -> list[PromptPair]:
    """`n` pairs of prompts; equal arguments give equal pairs. `size` (pairs in the list) is a number or an
    inclusive range."""
    choice_of(corruption, CORRUPTIONS, "the corruption")
    low, high = (size, size) if isinstance(size, int) else size
    if not 3 <= low <= high:
        raise ValueError(f"a list needs at least 3 pairs, and a range must not be empty; the size is {size}")
    train = usable(entries().train, keep, high + 12, "keys and values")
    queried = train if split == "train" else usable(entries().held_out, keep, 4, "held-out keys and values")
    if split == "all":
        queried = train + queried
    rng = random.Random(seed)
    return [_pair(rng, rng.randint(low, high), train, queried, corruption) for _ in range(n)]


def _pair(rng: random.Random, size: int, words: list[str], queried: list[str], corruption: str) -> PromptPair:
    key, value, new_value = rng.sample(queried, 3)
    others = [word for word in rng.sample(words, len(words)) if word not in (key, value, new_value)]
    keys, rest = [key, *others[: size - 1]], others[size - 1 :]
    values = [
        value,
        *(rng.sample(rest, size - 1) if len(rest) >= size - 1 else rng.choices(rest, k=size - 1)),
    ]
    order = rng.sample(range(size), size)
    second = rng.randrange(1, size)  # the other key, queried by corruption "key"

    def prompt(target: int, needle: str) -> Prompt:
        segments: list[str | tuple[str, str]] = ["List:"]
        for place, i in enumerate(order):
            shown = needle if i == 0 else values[i]
            spans = ("key", "value") if i == target else ("", "")
            segments += [
                (spans[0], f" {keys[i]}"),
                (spans[1], f" {shown}"),
                "." if place == size - 1 else ",",
            ]
        return Prompt.of(*segments, " Query:", ("query", f" {keys[target]}"))

    decoys = list(dict.fromkeys(word for word in values if word not in (value, values[second])))[:2]
    corrupt_answer = new_value if corruption == "value" else values[second]
    return PromptPair(
        clean=prompt(0, value),
        corrupt=prompt(0, new_value) if corruption == "value" else prompt(second, value),
        answer=f" {value}",
        wrong=(f" {corrupt_answer}", *(f" {word}" for word in decoys)),
        corrupt_answer=f" {corrupt_answer}",
        frame=f"{size} pairs",
    )


TASK = Task(
    name="key_value",
    make=generate,
    metric="logit_diff",
    positions=("key", "value", "query", "end"),
    moving=("key", "value"),
    source="Liu et al. 2023, arXiv 2307.03172; Wu et al. 2024, arXiv 2404.15574",
    description="look up the value of a key in a list of pairs",
    corruptions=CORRUPTIONS,
    fits=("organism", "gpt2"),
)
batch = TASK.batch
