"""The data protocol of the widgets: patterns as whole-number codes, thumbnails pooled by their maximum, one head in full.

A code is 0 where the mask lets nothing through, 1 where the weight is not a number, else ``2 + round(sqrt(weight) * top)``
with ``top`` 253 in one byte and 65533 in two. Codes grow with the weight, so that pooling by the maximum is the maximum of
codes, and a pooled cell is masked only where all of its cells are. One byte resolves 1.5e-5 near 0 and 0.004 near 1; two
bytes hold three decimals everywhere.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from interp.views.widgets.pattern_set import PatternSet

MASKED, UNDEFINED = 0, 1
THUMBNAIL = 32
"""Longest side of a thumbnail in cells."""
ALL_THUMBNAILS = 1_100_000
"""Bytes that the thumbnails of all heads may take together; their side shrinks until they do."""
ONE_HEAD = 3_000_000
"""Bytes that one head in full may take; a larger one is pooled."""
SHARE = 0.995
"""Of the weights outside the sink that the colours tell apart; what is larger has the last colour."""


def codes(weights: np.ndarray, visible: np.ndarray, bits: int = 8) -> np.ndarray:
    """Weights [..., query, key] as codes of ``bits`` 8 or 16."""
    top = 253 if bits == 8 else 65533
    with np.errstate(invalid="ignore"):
        scaled = np.rint(np.sqrt(np.clip(np.asarray(weights, dtype=np.float64), 0, 1)) * top) + 2
    known = np.where(np.isfinite(weights), scaled, UNDEFINED)
    return np.asarray(np.where(visible, known, MASKED), dtype=np.uint8 if bits == 8 else np.uint16)


def weights_of(packed: np.ndarray) -> np.ndarray:
    """The weights that codes stand for; NaN where masked or undefined."""
    top = 253 if packed.dtype == np.uint8 else 65533
    return np.where(packed >= 2, ((packed.astype(np.float64) - 2) / top) ** 2, np.nan)


def pool(packed: np.ndarray, block: int) -> np.ndarray:
    """Codes [..., query, key] pooled by the maximum of ``block`` x ``block`` cells; the last block may be smaller."""
    if block == 1:
        return packed
    rows, columns = packed.shape[-2:]
    pad = [(0, 0)] * (packed.ndim - 2) + [(0, -rows % block), (0, -columns % block)]
    wide = np.pad(packed, pad)
    shape = (*packed.shape[:-2], wide.shape[-2] // block, block, wide.shape[-1] // block, block)
    return np.asarray(wide.reshape(shape).max((-3, -1)))


def sink_share(weights: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Mean weight on the first key of each head [head], over queries that see another key and have finite weights; NaN
    where there is no such query."""
    rows = (visible.sum(-1) > 1) & np.isfinite(weights).all(-1)
    count = rows.sum(-1)
    total = np.where(rows, weights[..., 0], 0).sum(-1, dtype=np.float64)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


@dataclass(frozen=True, eq=False)
class Overview:
    """Every head of one prompt in little.

    Attributes:
        thumbnails: uint8 [layer, head, row, column] codes, without the first key's column.
        sinks: float32 [layer, head], mean weight on the first key; NaN where there is no head.
        block: tokens along a side of a thumbnail's cell.
        limit: largest weight that the shared colours tell apart (a percentile over all heads, the first key left out).
        clipped: whether any head has a larger one.
    """

    thumbnails: np.ndarray
    sinks: np.ndarray
    block: int
    limit: float
    clipped: bool


def overview(patterns: PatternSet, prompt: int) -> Overview:
    """Thumbnails, sink shares and the shared colour limit of one prompt, a layer at a time."""
    rows, columns = len(patterns.queries[prompt].texts), len(patterns.keys[prompt].texts)
    count = patterns.n_layers * patterns.n_heads
    side = max(1, min(THUMBNAIL, int(np.sqrt(ALL_THUMBNAILS / count))))
    block = max(1, -(-max(rows, columns) // side))
    shape = (patterns.n_layers, patterns.n_heads, -(-rows // block), -(-columns // block))
    thumbnails = np.zeros(shape, np.uint8)
    sinks = np.full(shape[:2], np.nan, np.float32)
    counts = np.zeros(256, np.int64)
    for layer, heads in enumerate(patterns.heads):
        if not heads:
            continue
        weights, visible = patterns.read(prompt, layer)
        packed = codes(weights, visible)
        sinks[layer, :heads] = sink_share(weights, visible)
        packed[..., 0] = MASKED
        counts += np.bincount(packed.ravel(), minlength=256)
        thumbnails[layer, :heads] = pool(packed, block)
    return Overview(thumbnails, sinks, block, *_limit(counts))


def _limit(counts: np.ndarray) -> tuple[float, bool]:
    """Weight below which the share ``SHARE`` of those above 0.005 lie, and whether any is larger; (1, False) for none."""
    counts = counts.copy()
    counts[: 2 + 18] = 0  # code 20 is a weight of 0.005: the many that are practically zero say nothing about colours
    if not counts.any():
        return 1.0, False
    at = int(np.searchsorted(np.cumsum(counts), SHARE * counts.sum()))
    return ((at - 2) / 253) ** 2, bool(counts[at + 1 :].any())


@dataclass(frozen=True, eq=False)
class Full:
    """One head in full: ``data`` little-endian codes, and ``key`` that says how to read them."""

    data: bytes
    key: dict[str, Any]


def full(patterns: PatternSet, prompt: int, layer: int, head: int, *, bits: int | None = None) -> Full:
    """One head of one prompt at the best resolution that ``ONE_HEAD`` bytes hold: two bytes a cell, one, or pooled.

    ``key``: prompt, layer, head, rows, columns, block (tokens along a side of a cell), bits, and ``lower``, whether only
    what is at or below the diagonal is there, row by row (all else is masked). A head that does not exist has no cells.
    The first key has a column of its own, so that pooling does not mix it with others: pooling starts at key 1.
    """
    if not 0 <= layer < patterns.n_layers or not 0 <= head < patterns.heads[layer]:
        return Full(b"", {"prompt": prompt, "layer": layer, "head": head, "rows": 0, "columns": 0, "block": 1, "bits": 8,
                          "lower": False})
    weights, visible = (part[head] for part in patterns.read(prompt, layer))
    rows, columns = weights.shape
    lower = rows == columns and not np.triu(visible, 1).any()
    cells = rows * (rows + 1) // 2 if lower else rows * columns
    bits = (16 if 2 * cells <= ONE_HEAD else 8) if bits is None else bits
    block = 1
    if cells * bits // 8 > ONE_HEAD:
        bits, block, lower = 8, 1, False
        while -(-rows // block) * (1 + -(-(columns - 1) // block)) > ONE_HEAD:
            block += 1
    packed = codes(weights, visible, bits)
    if block > 1:
        first, rest = packed[:, :1], packed[:, 1:]
        packed = np.concatenate([_first(first, block), pool(rest, block)], axis=1)
    key = {"prompt": prompt, "layer": layer, "head": head, "rows": packed.shape[0], "columns": packed.shape[1],
           "block": block, "bits": bits, "lower": lower}
    kept = packed[np.tril_indices(rows)] if lower else packed
    return Full(np.ascontiguousarray(kept.astype("<u2" if bits == 16 else np.uint8)).tobytes(), key)


def _first(column: np.ndarray, block: int) -> np.ndarray:
    """The first key's column [query, 1] pooled over queries alone."""
    wide = np.pad(column, [(0, -len(column) % block), (0, 0)])
    return np.asarray(wide.reshape(-1, block, 1).max(1))


def numbers(values: np.ndarray) -> list[float | None]:
    """A flat list with four significant digits; None where there is no number."""
    return [float(f"{value:.4g}") if np.isfinite(value) else None for value in values.ravel().tolist()]
