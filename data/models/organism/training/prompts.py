"""The prompts that the organism is measured on, and the measuring of the lean model with them while it
trains."""

import random
from collections.abc import Callable

import lean
import tokenizer
import torch
from repeats import BOS_ID, FIRST_ID

from interp.tasks import (
    agreement,
    capital,
    colored_objects,
    greater_than,
    induction,
    ioi,
    key_value,
    multiple_choice,
    override,
)
from interp.tasks.prompt import PromptPair, Split

Maker = Callable[[int, int, Split], list[PromptPair]]


def behaviours(vocab_size: int, most_pairs: int) -> dict[str, Maker]:
    """Behaviour -> generator (n, seed, split) of its prompts; override appears as a whole and by kind.

    Induction is on random tokens of the whole vocabulary, key-value lists have from a quarter of `most_pairs`
    to `most_pairs` pairs.
    """
    tokens = range(FIRST_ID, vocab_size)
    return {
        "ioi": lambda n, seed, split: ioi.generate(n, seed, split=split),
        "colored_objects": lambda n, seed, split: colored_objects.generate(n, seed, split=split),
        "induction": lambda n, seed, split: induction.generate(n, seed, split=split, tokens=tokens),
        "key_value": lambda n, seed, split: key_value.generate(
            n, seed, split=split, size=(max(3, most_pairs // 4), most_pairs)
        ),
        "greater_than": lambda n, seed, split: greater_than.generate(n, seed, split=split),
        "agreement": lambda n, seed, split: agreement.generate(n, seed, split=split),
        "multiple_choice": lambda n, seed, split: multiple_choice.generate(n, seed, split=split),
        "capital": lambda n, seed, split: capital.generate(n, seed, split=split),
        "override": lambda n, seed, split: override.generate(n, seed, split=split),
        "override/overridden": lambda n, seed, split: override.generate(
            n, seed, split=split, kind="overridden"
        ),
        "override/stands": lambda n, seed, split: override.generate(n, seed, split=split, kind="stands"),
    }


def encode(pair: PromptPair, table: dict[str, int]) -> tuple[list[int], list[int], list[int]]:
    """The ids of the clean prompt with `<bos>` in front, those of the right answers and those of the wrong
    ones."""
    ids = (
        [*pair.clean.ids]
        if pair.clean.ids is not None
        else [table[piece] for piece in tokenizer.pieces(pair.clean.text)]
    )
    right, wrong = (
        [answer if isinstance(answer, int) else table[answer] for answer in answers]
        for answers in (pair.answers or (pair.answer,), pair.wrong)
    )
    return [BOS_ID, *ids], right, wrong


def accuracies(
    model: lean.Organism, table: dict[str, int], split: Split, n: int, seed: int, most_pairs: int
) -> dict[str, float]:
    """Share of `n` fresh prompts whose most probable next token is a right answer; for greater-than, mean
    probability of right years."""
    found = {}
    for name, make in behaviours(len(table), most_pairs).items():
        pairs = [
            encode(pair, table)
            for pair in make(n, random.Random(f"{name}/{split}/{seed}").getrandbits(40), split)
        ]
        ids = torch.zeros(n, max(len(prompt) for prompt, _, _ in pairs), dtype=torch.long)
        for row, (prompt, _, _) in enumerate(pairs):
            ids[row, : len(prompt)] = torch.tensor(prompt)
        ends = torch.tensor([len(prompt) - 1 for prompt, _, _ in pairs])
        with torch.no_grad():
            logits = model.unembed(model.hidden(ids)[torch.arange(n), ends]).float()
        if name == "greater_than":
            scores = [
                probabilities[right].sum().item()
                for probabilities, (_, right, _) in zip(logits.softmax(-1), pairs, strict=True)
            ]
        else:
            scores = [
                float(guess in right)
                for guess, (_, right, _) in zip(logits.argmax(-1).tolist(), pairs, strict=True)
            ]
        found[name] = round(sum(scores) / n, 4)
    return found
