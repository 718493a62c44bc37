"""Attention patterns for a report: of some heads as pictures, of every head for the views that can be walked through."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from interp.core.head import Head
from interp.engine.activations import activations
from interp.engine.edits import NEVER
from interp.models.sites import Site
from interp.report.results import EveryHead, Example
from interp.tasks.batch import Batch
from interp.tasks.tokenise import token_texts

MOST = 8_000_000
"""Weights of one prompt, over all heads, up to which they are kept."""


def patterns(
    model: Any, batch: Batch, heads: Sequence[Head], attention: str
) -> tuple[tuple[Example, ...], tuple[EveryHead, ...]]:
    """Patterns on the clean prompts of ``batch``: of ``heads``, and of all heads where there are at most ``MOST`` weights.

    Nothing of attention in which a prompt's tokens are not both queries and keys.
    """
    if attention not in ("self", "encoder") or not heads:
        return (), ()
    stack = model.stack(attention)
    examples: dict[tuple[Head, int], Example] = {}
    every = []
    for i in range(batch.n):
        one = batch.subset([i])
        (ids,) = one.clean.rows()
        tokens, spans = token_texts(model.tokenizer, ids), spans_of(batch, i)
        small = stack.n_layers * stack.n_heads * len(ids) ** 2 <= MOST
        layers = list(range(stack.n_layers)) if small else sorted({head.layer for head in heads})
        read = {layer: _layer(model, one, layer, attention) for layer in layers}
        for head in heads:
            pattern, seen = read[head.layer]
            there = seen[min(head.head, len(seen) - 1)]
            examples[head, i] = Example(head, i, tokens, tokens, pattern[head.head].astype(np.float64), there, spans)
        if small:
            special = set(getattr(model.tokenizer, "all_special_ids", ()))
            marked = tuple(place for place, number in enumerate(ids) if number in special)
            weights, seen = (np.stack([read[layer][part] for layer in layers]) for part in (0, 1))
            every.append(EveryHead(i, tokens, weights, _shared(seen), marked, stack.group, stack.learned_sink, spans))
    return tuple(examples[head, i] for head in heads for i in range(batch.n)), tuple(every)


def spans_of(batch: Batch, i: int) -> dict[str, tuple[int, int]]:
    """Named positions of prompt ``i``, counted from its first real token."""
    start = int(batch.clean.start[i])
    return {name: (int(span[i, 0]) - start, int(span[i, 1]) - start) for name, span in batch.spans.items()}


def _layer(model: Any, batch: Batch, layer: int, attention: str) -> tuple[np.ndarray, np.ndarray]:
    """Weights [head, query, key] and what the mask lets through, of one prompt."""
    pattern, scores = Site("pattern", layer, attention), Site("scores", layer, attention)
    read = activations(model, batch, (pattern, scores))
    seen = read[scores][0] > max(torch.finfo(read[scores].dtype).min / 2, NEVER)
    return read[pattern][0].float().cpu().numpy(), seen.cpu().numpy()


def _shared(seen: np.ndarray) -> np.ndarray:
    """One mask for all heads of a layer where they have the same."""
    return seen[:, :1] if (seen == seen[:, :1]).all() else seen
