"""Units of work: what each covers and costs. The partition depends on nothing that differs between two runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, tensor

UNIT_FLOPS = {"cpu": 1e11, "cuda": 1e13}
"""Arithmetic that one unit should have, by kind of device: about a second of two cores, or of one accelerator."""
WIDEST = {"cpu": 2**24, "cuda": 2**29}
"""Bytes of the widest tensor of a pass (tokens times 4 d_model), by kind of device: larger ones multiply no faster."""
PROMPTS = 64
"""Prompts that are worked on together, at most."""
LONGER = 1.125
"""Prompts that are worked on together are padded to at most this many times their length."""


@dataclass(frozen=True)
class Unit:
    """A part of the work: every list of ``lists`` on every prompt of ``rows``.

    Attributes:
        lists, rows: indices of lists of interventions, and of prompts of the batch.
        tokens: token-layers that have to be computed: one token through one layer counts 1.
        flops: floating-point operations that they take.
    """

    lists: tuple[int, ...]
    rows: tuple[int, ...]
    tokens: int
    flops: float


def unit_flops(device: Any) -> float:
    """Arithmetic that a unit on this device should have."""
    return UNIT_FLOPS.get(device.type, UNIT_FLOPS["cuda"])


def cut(order: Sequence[int], flops: np.ndarray, size: float) -> list[np.ndarray]:
    """Consecutive parts of ``order`` (indices into ``flops``) of about ``size`` each, as even as whole entries allow."""
    order = np.asarray(order, dtype=int)
    total = np.cumsum(flops[order])
    parts = max(1, round(float(total[-1]) / size)) if len(order) else 0
    edges = np.searchsorted(total, total[-1] * np.arange(1, parts) / parts, side="left") + 1 if parts > 1 else []
    return [part for part in np.split(order, np.unique(edges)) if len(part)] if parts else []


def full_units(model: Any, prompts: Any, parts: Sequence[Sequence[int]], n_lists: int) -> tuple[Unit, ...]:
    """Units of whole forward passes over chunks of prompts."""
    units = []
    layers = sum(stack.n_layers for stack in model.stacks)
    length = max(x.shape[1] if x.dim() == 2 else prompts.mask.shape[1] for x in prompts.inputs.values())
    for rows in parts:
        tokens = len(rows) * length * layers
        flops = 2.0 * tokens * 12 * model.d_model**2 + 2.0 * len(rows) * length * model.d_model * model.vocab_size
        for some in cut(range(n_lists), np.full(n_lists, flops), unit_flops(model.device)):
            units.append(Unit(tuple(some.tolist()), tuple(rows), tokens * len(some), flops * len(some)))
    return tuple(units)


def resumed_units(model: Any, part: Any, lists: Sequence[Any], chosen: np.ndarray | None = None,
                  at: np.ndarray | None = None) -> list[Unit]:
    """Units of resumed passes over some prompts: lists in the order in which they go together, cut by their arithmetic.

    ``chosen``: which of the lists; ``at``: which of the part's prompts; None for all.
    """
    layers = model.resuming.n_layers
    chosen = np.arange(len(lists)) if chosen is None else chosen
    at = np.arange(len(part.rows)) if at is None else at
    entering, starts, stops = (x[np.ix_(chosen, at)] for x in (part.table.layer, part.table.first, part.table.stop))
    runs = entering >= 0
    count = np.where(runs, part.length - starts, 0)            # positions that are computed
    entered = np.where(runs, stops - starts, 0)
    above = np.where(runs, layers - 1 - entering, 0)           # layers above the one that is entered
    tokens = (entered + count * above).sum(axis=1)
    attention, rest = model.resuming.arithmetic
    within = np.array([model.resuming.within({item.site for item in entry}) for entry in (lists[i] for i in chosen)])
    first = np.where(within[:, None], rest, attention + rest) * entered
    last = np.where(above > 0, 0.75 * attention * count + 0.25 * attention + rest, 0)
    middle = np.maximum(above - 1, 0) * count * (attention + rest)
    flops = (first + middle + last).sum(axis=1)
    order = np.lexsort((np.arange(len(runs)), np.where(runs, entering, layers).min(axis=1),
                        np.where(runs, starts, part.length).min(axis=1)))
    rows = tuple(part.rows[at].tolist())
    return [Unit(tuple(chosen[some].tolist()), rows, int(tokens[some].sum()), float(flops[some].sum()))
            for some in cut(order, flops, unit_flops(model.device))]


def buckets(order: Tensor, lengths: Tensor, size: int) -> list[Tensor]:
    """Prompts of similar length together: ``order`` (by length) cut into parts of at most ``size`` prompts, none of which
    is longer than ``LONGER`` times the shortest of its part."""
    found: list[list[int]] = []
    for row in order.tolist():
        if not found or len(found[-1]) == size or int(lengths[row]) > LONGER * int(lengths[found[-1][0]]):
            found.append([])
        found[-1].append(row)
    return [tensor(rows) for rows in found]


def widest(model: Any, positions: int) -> int:
    """How many rows of so many positions a pass needs at most to multiply at full speed."""
    limit = WIDEST.get(model.device.type, WIDEST["cuda"])
    return max(1, limit // (4 * model.d_model * model.dtype.itemsize * max(positions, 1)))
