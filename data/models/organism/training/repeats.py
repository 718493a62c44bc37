"""Repeats of random tokens: in order, and as chunks (or pairs) in random order."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BOS_ID, FIRST_ID = 0, 3

Document = tuple[list[int], list[float]]  # token ids, and the loss weight of predicting each


@dataclass(frozen=True)
class Batch:
    """Rows of tokens: ids, the loss weight of predicting each token, and the number of the document it belongs to."""

    ids: Tensor
    weights: Tensor
    document: Tensor | None = None


def repeated(rng: random.Random, tokens: Sequence[int], length: int) -> Document:
    """`length` tokens that repeat these in order: loss on every token from the first repeat on."""
    ids = (list(tokens) * (length // len(tokens) + 1))[:length]
    return ids, [0.0] * len(tokens) + [1.0] * (length - len(tokens))


def chunked(rng: random.Random, tokens: Sequence[int], length: int, longest: int = 4) -> Document:
    """`length` tokens made of chunks of two to `longest` of these, in random order, each chunk always the same.

    Loss on all but the first token of a chunk that stood before: what stood at a fixed distance does not tell them, only
    what followed the present token before does.
    """
    chunks, at = [], 0
    while at < len(tokens) - 1:
        size = rng.randint(2, longest)
        chunks.append(tokens[at : at + size])
        at += size
    ids: list[int] = []
    weights: list[float] = []
    seen: set[int] = set()
    while len(ids) < length:
        i = rng.randrange(len(chunks))
        ids += chunks[i]
        weights += [0.0] + [float(i in seen)] * (len(chunks[i]) - 1)
        seen.add(i)
    return ids[:length], weights[:length]


def repeats(rng: random.Random, vocab_size: int, rows: int, length: int, kind: str = "pairs") -> Batch:
    """Rows of `<bos>` and repeated random tokens: `"pairs"` in random order, or all `"in order"`.

    A row has 4 to 32 different tokens, few as often as many (log-uniform): where there are few, copying any of them is
    right often enough for copying to be learnt first.
    """
    ids, weights = torch.full((rows, length), BOS_ID), torch.zeros(rows, length)
    for row in range(rows):
        tokens = rng.sample(range(FIRST_ID, vocab_size), int(4 * 8.25 ** rng.random()))
        drawn = chunked(rng, tokens, length - 1, 2) if kind == "pairs" else repeated(rng, tokens, length - 1)
        ids[row, 1:], weights[row, 1:] = torch.tensor(drawn[0]), torch.tensor(drawn[1])
    return Batch(ids, weights)
