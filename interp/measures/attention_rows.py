"""Numbers read from single rows of attention and averaged over rows: what measures of the shape of attention share."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import isqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.streaming import Block, Fold, stream
from interp.measures.targets import keys, tokens_of
from interp.models.backend import Stack

Statistic = Callable[[Block], Tensor]
"""A block of rows -> [prompt, head, row, ...]; NaN where a row has no value."""
MOST_APART = 8
"""Class and register tokens that an image may have before its patches."""


def row_means(model: Any, batch: Any, statistics: Mapping[str, Statistic], *, queries: str | None = None,
              attention: str | None = None, on: str = "clean", block: int | None = None,
              batch_size: int | None = None) -> dict[str, np.ndarray]:
    """The mean over rows of each statistic, in one pass: name -> [layer, head, prompt, ...].

    ``queries``: only the rows of this span of the batch (or ``"end"``). None: all rows, but for the first of causal
    attention, which can only see itself. Rows without a value (NaN) are left out; NaN where none is left.
    """
    stack = model.stack(attention)
    rows = None if queries is None else tokens_of(model, batch, queries, stack, on=on)
    folds = {name: mean_fold(statistic, rows) for name, statistic in statistics.items()}
    found = stream(model, batch, folds, attention=attention, on=on, block=block, batch_size=batch_size)
    return {name: np.stack([one.numpy() for one in found[name]], axis=2) for name in statistics}


def mean_fold(statistic: Statistic, rows: Sequence[Tensor] | None = None) -> Fold:
    """The fold that keeps the mean of ``statistic`` over the chosen rows, [prompt, head, ...]."""
    return Fold("pattern", partial(_add, statistic, rows), _mean)


def chosen_rows(block: Block, rows: Sequence[Tensor] | None) -> Tensor:
    """Which rows of a block count [prompt, row]: those of ``rows`` (bool per prompt), else all but a causal first."""
    if rows is None:
        return ((block.rows > 0) | (not block.stack.causal)).expand(len(block.prompts), -1)
    return torch.stack([rows[i] for i in block.prompts.tolist()]).to(block.tensor.device)[:, block.rows]


def normalised(block: Block, exclude_bos: bool = False) -> Tensor:
    """The rows as distributions over tokens [prompt, head, row, key]: without what a learned sink takes and, if asked,
    without the first token. NaN for a row that has nothing left."""
    weights = block.tensor.float()
    if exclude_bos:
        weights = torch.cat([torch.zeros_like(weights[..., :1]), weights[..., 1:]], dim=-1)
    total = weights.sum(-1, keepdim=True)
    return weights / torch.where(total > 1e-9, total, torch.nan)


def visible(block: Block, exclude_bos: bool = False) -> Tensor:
    """Keys that each row may see [row, key], a sliding window of causal attention taken into account."""
    at, row = keys(block)[None], block.rows[:, None]
    seen = torch.ones(len(block.rows), at.shape[1], dtype=torch.bool, device=at.device)
    if block.stack.causal:
        windows = block.stack.windows
        window = windows[block.site.layer] if block.site.layer < len(windows) else None
        seen &= (at <= row) & (at > row - (window or block.keys))
    return seen & (at > 0) if exclude_bos else seen


def distance(block: Block) -> Tensor:
    """How many tokens lie from the query to each key, |i − j| [row, key]."""
    return (block.rows[:, None] - keys(block)[None]).abs()


def one_sequence(stack: Stack, asked: str, *, images: bool = False) -> None:
    """Refuse attention in which a distance in tokens means nothing."""
    if stack.attention == "cross":
        raise InterpError(f"{asked} of cross-attention", "queries and keys are different sequences",
                          "choose another attention")
    if stack.attention == "vision" and not images:
        raise InterpError(f"{asked} of vision attention", "patches stand in a grid, not in a row",
                          "use attention_distance or hop_profile, which know grids")


def patch_grid(count: int, grid: tuple[int, ...] | None = None) -> tuple[int, int, int]:
    """Rows and columns of an image's patches, and how many tokens (class, registers) stand before them, from the number of
    tokens: the largest square that fits, unless ``grid`` says otherwise.

    Raises InterpError where more than ``MOST_APART`` tokens would be left, or fewer than none.
    """
    rows, columns = (isqrt(count),) * 2 if grid is None else grid
    apart = count - rows * columns
    if not 0 <= apart <= MOST_APART:
        raise InterpError(f"see a grid of {rows} × {columns} patches in {count} tokens", f"that leaves {apart} for class "
                          "and register tokens", "give the image's grid=(rows, columns)")
    return rows, columns, apart


def grid_offsets(count: int, grid: tuple[int, ...] | None = None) -> tuple[Tensor, int]:
    """Rows and columns between every two patches [patch, patch, 2], and how many tokens stand before the patches."""
    rows, columns, apart = patch_grid(count, grid)
    places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).float()
    return (places[:, None] - places[None]).abs(), apart


def _add(statistic: Statistic, rows: Sequence[Tensor] | None, kept: Tensor | None, block: Block) -> Tensor:
    values = statistic(block).double()
    chosen = chosen_rows(block, rows)[:, None]
    chosen = chosen.reshape(*chosen.shape, *[1] * (values.dim() - 3)) & values.isfinite()
    new = torch.stack([torch.where(chosen, values, 0).sum(2), chosen.sum(2)], dim=2)
    return new if kept is None else kept + new


def _mean(kept: Tensor) -> Tensor:
    total, number = kept.unbind(2)
    return torch.where(number > 0, total / number.clamp(min=1), torch.nan)
