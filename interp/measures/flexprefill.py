"""FlexPrefill's class of a head: does a cheap estimate of its blocks agree with its attention (query-aware), or not."""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.streaming import Block, Fold, stream
from interp.measures.attention_rows import one_sequence
from interp.measures.block_sparsity import blocks
from interp.measures.measure import Measured, measure
from interp.measures.sink_statistics import over_prompts


@measure(
    sense="distance: larger = the estimate by blocks is worse (vertical-slash); query-aware: 1 = it is good enough",
    formula=(
        "d = sqrt(JS(ā ‖ a)), natural logarithm; a: attention of the last B queries, mean over them, summed over blocks "
        "of B keys; ā: softmax over blocks of the mean score of these queries with the block's keys; query-aware: 1[d < τ]"
    ),
    source="FlexPrefill (Lai et al. 2025, arXiv 2502.20766): B = 128, τ = 0.1",
    does_not_show=(
        "Anything of the other queries: only the last block decides. That a head is called vertical-slash says that blocks "
        "do not describe it, not that columns and diagonals do."
    ),
    cost="one forward pass, read in blocks of rows",
    about="attention",
)
def flexprefill(
    model: Any,
    batch: Any,
    *,
    value: Literal["distance", "query-aware"] = "distance",
    tau: float = 0.1,
    block: int = 128,
    attention: str | None = None,
    batch_size: int | None = None,
) -> Measured:
    """How far FlexPrefill's estimate of block attention is from the true one, or whether the head passes as query-aware.

    ``values[layer, head, prompt]``: from 0 to sqrt(ln 2) = 0.83, or 0 and 1. NaN for a prompt of fewer than two blocks.

    The estimate is the published one (pooled queries times pooled keys) but for the blocks that the last queries themselves
    stand in: there the mean is over the pairs that may see each other, as the network's own scores are read (position
    biases and soft caps included, which the released code has not).

    Args:
        attention: ``self``; None: the model's main attention. batch_size: prompts run together; changes no number.

    Raises InterpError where all prompts are shorter than two blocks.
    """
    stack = model.stack(attention)
    one_sequence(stack, "take FlexPrefill's class")
    if block < 1:
        raise InterpError(f"pool {block} tokens", "a block has at least one", "use block=128, say")
    folds = {"true": true_fold(block), "estimate": estimate_fold(block)}
    found = stream(model, batch, folds, attention=attention, batch_size=batch_size)
    far = over_prompts([distance(*pair) for pair in zip(found["true"], found["estimate"], strict=True)])
    if not np.isfinite(far).any():
        raise InterpError(f"estimate blocks of {block} tokens on {batch.task}", "no prompt has two blocks",
                          "use longer prompts or smaller blocks")
    values = far if value == "distance" else np.where(np.isnan(far), np.nan, far < tau)
    return Measured(values=values, attention=stack.attention, metric="distance" if value == "distance" else "query-aware")


def true_fold(size: int) -> Fold:
    """The fold that keeps the attention of the last ``size`` queries on each block of keys [prompt, head, block]."""
    def fold(kept: Tensor | None, read: Block) -> Tensor:
        weights, count = read.tensor.float()[:, :, _last(read, size)], -(-read.keys // size)
        kept = weights.new_zeros(*weights.shape[:2], count) if kept is None else kept
        return kept + blocks(weights.sum(2), size, count)

    return Fold("pattern", fold)


def estimate_fold(size: int) -> Fold:
    """The fold that keeps sum and number of their visible scores with each block of keys [prompt, head, 2, block]."""
    def fold(kept: Tensor | None, read: Block) -> Tensor:
        scores, count = read.tensor.float()[:, :, _last(read, size)], -(-read.keys // size)
        seen = scores > -1e30                       # masked: −inf, or the smallest number of the type
        kept = scores.new_zeros(*scores.shape[:2], 2, count) if kept is None else kept
        sums, number = torch.where(seen, scores, 0).sum(2), seen.float().sum(2)
        return kept + torch.stack([blocks(sums, size, count), blocks(number, size, count)], dim=2)

    return Fold("scores", fold)


def distance(true: Tensor, estimate: Tensor) -> np.ndarray:
    """sqrt of the Jensen–Shannon divergence between the two distributions over blocks; NaN for a single block."""
    total, number = estimate.double().unbind(-2)
    mean = torch.where(number > 0, total / number.clamp(min=1), -torch.inf)
    guess, real = mean.softmax(-1), true.double() / true.double().sum(-1, keepdim=True)
    middle = (guess + real) / 2
    js = sum(torch.special.entr(x).sum(-1) * sign for x, sign in ((middle, 1.0), (guess, -0.5), (real, -0.5)))
    return torch.where((number > 0).sum(-1) > 1, js.clamp(min=0).sqrt(), torch.nan).numpy()


def _last(read: Block, size: int) -> Tensor:
    return read.rows >= read.length - size
