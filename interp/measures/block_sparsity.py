"""Block sparsity: how much of a head's attention a few blocks of tokens hold, by the block map of SeerAttention."""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.streaming import Block, Fold, stream
from interp.measures.attention_rows import one_sequence
from interp.measures.measure import Measured, measure
from interp.measures.sink_statistics import over_prompts


@measure(
    sense="larger = the head's attention lies on fewer blocks",
    formula=(
        "M[a, b] = max (or mean) of A[i, j] over i in block a, j in block b; recall: mean over a of the share of block a's "
        "attention in the ⌈keep · visible blocks⌉ blocks of largest M[a, ·]; sparsity: mean over a of the share of visible "
        "blocks that are not needed, from the largest M[a, ·] down, to hold γ of it"
    ),
    source="SeerAttention (Gao et al. 2024, arXiv 2410.13276): the block map its gate is taught; numbers per head are ours",
    does_not_show="That the output stays the same without the other blocks, or that a gate could tell them beforehand.",
    cost="one forward pass, read in blocks of rows; one map of (T / block)² numbers per head is kept",
    about="attention",
)
def block_sparsity(
    model: Any,
    batch: Any,
    *,
    value: Literal["recall", "sparsity"] = "recall",
    block: int = 64,
    pool: Literal["max", "mean"] = "max",
    keep: float = 0.1,
    gamma: float = 0.9,
    attention: str | None = None,
    batch_size: int | None = None,
) -> Measured:
    """Share of each head's attention that its largest blocks of 64 × 64 hold, or share of blocks that it does not need.

    ``values[layer, head, prompt]`` from 0 to 1; NaN for a prompt of a single block. Rows of blocks that see one block only
    are left out.

    Args:
        block: tokens along either side of a block. pool: how a block's weights become one number of the map.
        keep: for ``recall``: share of the visible blocks that is kept (0.1: 90% sparsity), at least one.
        gamma: for ``sparsity``: share of attention that must be kept.
        attention: ``self`` or ``encoder``; None: the model's main attention. batch_size: changes no number.

    Raises InterpError where all prompts are shorter than two blocks.
    """
    stack = model.stack(attention)
    one_sequence(stack, "measure block sparsity")
    if block < 1 or not 0 < keep <= 1 or not 0 < gamma <= 1:
        raise InterpError(f"keep {keep} of blocks of {block} tokens, {gamma} of attention", "a block has a token, and a "
                          "share is above 0 and at most 1", "use block=64, keep=0.1, gamma=0.9, say")
    found = stream(model, batch, {"map": map_fold(block)}, attention=attention, batch_size=batch_size)["map"]
    values = over_prompts([of_map(one, value, pool, keep, gamma, stack.causal) for one in found])
    if not np.isfinite(values).any():
        raise InterpError(f"measure the sparsity of blocks of {block} tokens on {batch.task}", "every prompt is a single "
                          "block", "use longer prompts or smaller blocks")
    unit = "share of attention" if value == "recall" else "share of blocks"
    return Measured(values=values, attention=stack.attention, metric=unit)


def map_fold(size: int) -> Fold:
    """The fold that keeps, for each pair of blocks, the largest weight and the sum of weights: [prompt, head, 3, a, b]; the
    third number counts the entries that can be seen."""
    def fold(kept: Tensor | None, read: Block) -> Tensor:
        weights = read.tensor.float()
        count, across = -(-read.length // size), -(-read.keys // size)
        if kept is None:
            kept = weights.new_zeros(*weights.shape[:2], 3, count, across)
        keys = torch.arange(weights.shape[-1], device=weights.device)
        seen = (keys[None] <= read.rows[:, None]) if read.stack.causal else torch.ones_like(weights[0, 0], dtype=torch.bool)
        for a in range(read.first // size, int(read.rows[-1]) // size + 1):
            some = (read.rows >= a * size) & (read.rows < (a + 1) * size)
            part = weights[:, :, some]
            kept[:, :, 0, a] = torch.maximum(kept[:, :, 0, a], blocks(part.amax(2), size, across, "max"))
            kept[:, :, 1, a] += blocks(part.sum(2), size, across)
            kept[:, :, 2, a] += blocks(seen[some].float().sum(0), size, across)
        return kept

    return Fold("pattern", fold)


def blocks(values: Tensor, size: int, count: int, how: str = "sum") -> Tensor:
    """Sums (or largest) of ``values`` [..., key] over blocks of ``size`` keys: [..., count], zero where there are none."""
    padded = torch.nn.functional.pad(values, (0, count * size - values.shape[-1])).unflatten(-1, (count, size))
    return padded.amax(-1) if how == "max" else padded.sum(-1)


def of_map(found: Tensor, value: str = "recall", pool: str = "max", keep: float = 0.1, gamma: float = 0.9,
           causal: bool = True) -> np.ndarray:
    """Recall or sparsity of what ``map_fold`` keeps [..., 3, a, b]: [...]; NaN without a choice."""
    largest, sums, entries = found.double().unbind(-3)
    there = entries > 0
    ranked = (largest if pool == "max" else sums / entries.clamp(min=1)).masked_fill(~there, -1)
    order = ranked.argsort(dim=-1, descending=True, stable=True)
    held = sums.gather(-1, order).cumsum(-1) / sums.sum(-1, keepdim=True).clamp(min=1e-12)
    visible = there.sum(-1)
    if value == "recall":
        result = held.gather(-1, ((keep * visible - 1e-9).ceil().long().clamp(min=1) - 1)[..., None])[..., 0]
    else:
        result = 1 - ((held >= gamma - 1e-6).int().argmax(-1) + 1) / visible
    choice = visible > 1
    return (torch.where(choice, result, 0).sum(-1) / torch.where(choice.any(-1), choice.sum(-1), torch.nan)).numpy()
