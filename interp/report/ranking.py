"""The heads of a task in one order: by their mean rank over the measures, with an interval of that over the prompts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from interp.core.intervals import resamples
from interp.report.panels import Panel
from interp.views import colours, labels
from interp.views.svg.whisker import whisker

RESAMPLES = 500
"""Of the interval of a mean rank; fewer above ``MANY`` heads."""
MANY = 256


def alike(drawn: Sequence[Panel]) -> list[Panel]:
    """The measures that count the same units as the first (key-value heads are not heads)."""
    return [panel for panel in drawn if panel.names == drawn[0].names]


def mean_rank(
    drawn: Sequence[Panel], *, confidence: float = 0.95, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rank of each head (1 = largest mean), averaged over the measures, and its bootstrap interval: each [layer, head].

    Prompts are drawn anew for all measures together, and every head is ranked again. A percentile interval: ranks have ends,
    and the best head's can only grow. NaN with one prompt, and for heads without a value.
    """
    panels = alike(drawn)
    ranks = np.stack([panel.ranks() for panel in panels])
    there = np.isfinite(ranks)
    with np.errstate(invalid="ignore"):
        mean = np.where(there.any(0), np.where(there, ranks, 0).sum(0) / there.sum(0), np.nan)
    nothing = np.full(mean.shape, np.nan)
    prompts = {panel.scores.n_prompts for panel in panels}
    if len(prompts) > 1 or max(prompts) < 2:
        return mean, nothing, nothing
    draws = resamples(max(prompts), RESAMPLES if mean.size <= MANY else RESAMPLES // 5, seed)
    total, count = np.zeros((len(draws), mean.size)), np.zeros((len(draws), mean.size))
    for panel in panels:
        found = _ranks(panel, draws)
        total += np.nan_to_num(found)
        count += np.isfinite(found)
    with np.errstate(invalid="ignore"):
        drawn_ranks = np.where(count.all(0), total / count, 0.0)
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn_ranks, [tail, 1 - tail], axis=0).reshape(2, *mean.shape)
    known = np.isfinite(mean) & count.all(0).reshape(mean.shape)
    return mean, np.where(known, low, np.nan), np.where(known, high, np.nan)


def ranked(drawn: Sequence[Panel], most: int, types: Mapping[str, str], inside: Mapping[str, Sequence[str]], circuits: int
           ) -> dict[str, Any]:
    """One row per head, best mean rank first; one column per measure.

    Args:
        types: head -> type. inside: head -> names of the circuits that have it. circuits: of how many.
    """
    panels = alike(drawn)
    names = drawn[0].names
    mean, low, high = mean_rank(drawn)
    ends = [(_least(p), _most(p)) for p in panels]
    order = sorted((mean[i, j], i, j) for i, j in np.ndindex(mean.shape) if np.isfinite(mean[i, j]))
    places = [labels.decimals(colours.limit(panel.mean)) for panel in panels]
    rows = []
    for rank, i, j in order[:most]:
        cells = []
        for panel, scale, digits in zip(panels, ends, places, strict=True):
            value, below, above = (float(part[i, j]) for part in (panel.mean, panel.low, panel.high))
            cells.append({
                "value": value,
                "text": labels.fixed(value, digits),
                "interval": labels.interval(below, above, digits),
                "significant": bool(panel.significant[i, j]),
                "fraction": "" if panel.fraction is None else labels.percent(float(panel.fraction[i, j])),
                "whisker": whisker(value, below, above, scale),
            })
        head = names[i][j]
        rows.append({
            "head": head,
            "order": i * len(names[0]) + j,
            "type": types.get(head, ""),
            "inside": list(inside.get(head, ())),
            "rank": float(rank),
            "interval": labels.interval(float(low[i, j]), float(high[i, j]), 1),
            "cells": cells,
        })
    return {
        "columns": [panel.label for panel in panels],
        "rows": rows,
        "left_out": len(order) - len(rows),
        "elsewhere": [panel.label for panel in drawn if panel.names != names],
        "typed": bool(types),
        "circuits": circuits,
        "fractions": any(panel.fraction is not None for panel in panels),
    }


def _ranks(panel: Panel, draws: np.ndarray) -> np.ndarray:
    """Ranks [draw, head] of the means over resampled prompts; NaN where a head has no value then."""
    values = np.moveaxis(panel.scores.values, 2, 0).reshape(panel.scores.n_prompts, -1)
    there = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (draws @ np.where(there, values, 0.0)) / (draws @ there.astype(np.float64))
    order = np.argsort(np.where(np.isfinite(means), -means, np.inf), axis=1, kind="stable")
    found = np.empty(means.shape)
    np.put_along_axis(found, order, np.broadcast_to(np.arange(1.0, means.shape[1] + 1), means.shape), axis=1)
    return np.where(np.isfinite(means), found, np.nan)


def _least(panel: Panel) -> float:
    ends = np.concatenate([panel.mean.ravel(), panel.low.ravel()])
    return float(np.nanmin(ends)) if np.isfinite(ends).any() else float("nan")


def _most(panel: Panel) -> float:
    ends = np.concatenate([panel.mean.ravel(), panel.high.ravel()])
    return float(np.nanmax(ends)) if np.isfinite(ends).any() else float("nan")
