"""Attention distance: how far from the query a head looks, and how widely."""

from typing import Any, Literal

import torch
from torch import Tensor

from interp.engine.streaming import Block
from interp.measures.attention_rows import Statistic, distance, grid_offsets, normalised, one_sequence, row_means
from interp.measures.measure import Measured, measure


@measure(
    sense="larger = the head looks further away (mean), or over a wider stretch (spread)",
    formula="m_i = Σ_j A[i, j] d(i, j), mean over rows i; spread: sqrt(Σ_j A[i, j] (d(i, j) − m_i)²); d = |i − j|, in "
            "an image the distance of two patches in the plane",
    source="text: Vig & Belinkov 2019 (arXiv 1906.04284); images: Dosovitskiy et al. 2021 (arXiv 2010.11929)",
    does_not_show=(
        "What is looked at. A head that rests on the first token is far-sighted by this number and looks at nothing "
        "(exclude_bos=True); two looks at 1 and 9 tokens have the mean 5, where none goes (see spread and hop_profile)."
    ),
    cost="one forward pass, read in blocks of rows",
    about="attention",
)
def attention_distance(
    model: Any,
    batch: Any,
    *,
    value: Literal["mean", "spread"] = "mean",
    queries: str | None = None,
    exclude_bos: bool = False,
    grid: tuple[int, ...] | None = None,
    attention: str | None = None,
    batch_size: int | None = None,
) -> Measured:
    """Mean distance between the query and what it attends to, or the spread of this distance, in tokens or patches.

    ``values[layer, head, prompt]`` ≥ 0; in an image in patches (times the patch size: in pixels), among patches alone: class
    and register tokens are left out and the rest of each row made to sum to one.

    Args:
        queries: only the rows of this span (or ``"end"``); None: all, but for the first of causal attention.
        exclude_bos: the first token left out (text).
        grid: rows and columns of an image's patches; None: a square, and what is left over stands before it.
        attention: ``self``, ``encoder`` or ``vision``; None: the model's main attention.
        batch_size: prompts that are run together; changes no number.
    """
    stack = model.stack(attention)
    one_sequence(stack, "measure the distance", images=True)
    seen = in_images(value, grid) if stack.attention == "vision" else lambda block: in_text(block, value, exclude_bos)
    found = row_means(model, batch, {value: seen}, queries=queries, attention=attention, batch_size=batch_size)[value]
    return Measured(values=found, attention=stack.attention, metric="patches" if stack.attention == "vision" else "tokens")


def in_text(block: Block, value: str = "mean", exclude_bos: bool = False) -> Tensor:
    """Mean or spread of the distance in each row of a block [prompt, head, row]."""
    return _moment(normalised(block, exclude_bos), distance(block).float(), value)


def in_images(value: str = "mean", grid: tuple[int, ...] | None = None) -> Statistic:
    """The same among the patches of an image; NaN in the rows of class and register tokens."""
    def seen(block: Block) -> Tensor:
        offsets, apart = grid_offsets(block.keys, grid)
        weights = block.tensor.float()[..., apart:, apart:]
        total = weights.sum(-1, keepdim=True)
        weights = weights / torch.where(total > 1e-9, total, torch.nan)
        found = _moment(weights, offsets.norm(dim=-1).to(weights.device), value)
        return torch.nn.functional.pad(found, (apart, 0), value=torch.nan)

    return seen


def _moment(weights: Tensor, away: Tensor, value: str) -> Tensor:
    mean = (weights * away).sum(-1)
    return mean if value == "mean" else (weights * (away - mean[..., None]) ** 2).sum(-1).sqrt()
