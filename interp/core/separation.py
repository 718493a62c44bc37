"""The k largest of many means, without measuring all: proxies order, measured values decide, a random sample vouches.

A table of values [candidate, prompt] can be read entry by entry, each at a cost; a proxy of the whole table is known for
nothing. ``separate`` reads as little as it needs to name the k candidates of the largest mean over the prompts.

1. Some candidates, drawn at random from all, are read on every prompt, and so are those that the proxy puts first.
2. Each candidate's mean is predicted from its proxy and from those prompts on which it was read so far (none, then a growing
   random subset): the proxy's mean plus the mean of value − proxy on those prompts. In the random candidates the error of
   the prediction is known. Divided by a scale that is known for every candidate, the largest such error times ``reach``
   bounds the errors of all (``interp.core.unseen``), which gives each candidate an interval.
3. A candidate whose interval lies below the k-th largest lower end is left out; the others are read on more prompts, in the
   end on all. When none is open, the k largest have been read on all prompts, so that their means and order are exact.

The bounds hold for all candidates and all subset sizes at once, whether or not a candidate is looked at again: looking as
often as one likes, and stopping when it suits, spends nothing of the confidence. A candidate read in full whose error
exceeds its bound refutes it: the bound is raised to hold for it too, with the same factor on top, and the search goes on.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from interp.core.errors import InterpError
from interp.core.intervals import Floats, check_confidence
from interp.core.unseen import TAIL, check_sample, most_unseen, reach, sample_size

Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]
Read = Callable[[Indices, Indices], Floats]
"""(candidates, prompts) -> values [len(candidates), len(prompts)]."""

FIRST = 8
"""Prompts in the first subset; every further one is twice as large."""
FLOOR = 0.1
"""Part of the typical (median) size of a proxy that is added to each candidate's, so that no scale vanishes."""


@dataclass(frozen=True, eq=False)
class Separation:
    """The k candidates of the largest mean, and how far that can be trusted.

    Attributes:
        top: their indices, largest first.
        values: all that is known [candidate, prompt], NaN elsewhere.
        whole: which candidates are known on all of their prompts.
        low, high: interval of each candidate's mean (of its magnitude, where that was asked for); a point where ``whole``.
        threshold: the k-th largest mean.
        highest_left: the largest end of an interval among the candidates that are not ``whole``; -inf where all are.
        margin: the k-th largest mean minus the next largest that is whole (0: a tie); inf where there is none.
        spent, full, free: entries read, entries of the whole table, and those known beforehand.
        population, sampled: candidates that were not known beforehand, and how many of them were drawn at random.
        most_outside: with probability ``confidence`` no more than this many of the candidates that are not ``whole`` lie
            outside their intervals, whatever the values are.
        most_missed: with probability ``confidence`` no more than this many of the true top k are missing from ``top``,
            whatever the values are; where it is k, it says nothing.
        confidence, tolerance, tail: as asked for.
        factor: how many times the largest sampled error an error was allowed to be.
        refuted: how many candidates read in full lay outside an earlier interval of theirs.
    """

    top: Indices
    values: Floats
    whole: Flags
    low: Floats
    high: Floats
    threshold: float
    highest_left: float
    margin: float
    spent: int
    full: int
    free: int
    population: int
    sampled: int
    most_outside: int
    most_missed: int
    confidence: float
    tolerance: float
    tail: float
    factor: float
    refuted: int


@dataclass(frozen=True, eq=False)
class Table:
    """What is known of the table: proxies [candidate, prompt], which entries exist, the prompts' order, subset sizes."""

    proxy: Floats
    exists: Flags
    order: Indices
    sizes: tuple[int, ...]


def separate(proxy: Floats, read: Read, k: int, *, confidence: float = 0.95, tolerance: float = 0.0, magnitude: bool = False,
             sample: int | None = None, known: Floats | None = None, first: int = FIRST, tail: float = TAIL,
             seed: int = 0) -> Separation:
    """The ``k`` candidates of the largest mean over the prompts of a table that ``read`` gives entry by entry.

    With probability ``confidence`` over the order of the prompts and the random sample, no candidate outside the returned k
    has a mean above the smallest of theirs by more than ``tolerance``, provided that large errors of the predictions get
    rare as ``tail`` says (see ``interp.core.unseen.reach``). ``most_missed`` holds with that probability without proviso.

    Args:
        proxy: [candidate, prompt], finite where the entry exists and NaN where not.
        read: gives the values of candidates on prompts; it is never asked twice for an entry.
        magnitude: rank by the absolute value of the mean.
        sample: how many candidates are drawn at random; None: ``interp.core.unseen.sample_size``.
        known: values known beforehand, NaN elsewhere; candidates known on all prompts are never drawn.
        first: prompts in the first subset. seed: of the order and of the sample.
    """
    exists = np.isfinite(proxy)
    n = int(exists.any(1).sum())
    if n < len(proxy) or not 1 <= k <= n:
        raise InterpError(f"find the {k} largest of {len(proxy)}", f"{n} of them have a value",
                          "ask for at least one and at most all, of those that have a value")
    check_confidence(confidence)
    if tolerance < 0:
        raise InterpError(f"separate up to {tolerance}", "a tolerance is not negative", "use 0, or a small number")
    values = np.full(proxy.shape, np.nan) if known is None else np.where(exists, known, np.nan)
    free = int(np.isfinite(values).sum())
    pool = np.flatnonzero((exists & np.isnan(values)).any(1))
    rng = np.random.default_rng(seed)
    table = Table(proxy, exists, rng.permutation(proxy.shape[1]), subset_sizes(proxy.shape[1], first))
    last = len(table.sizes)
    risk = (1 - confidence) / last
    depth = np.full(n, last)
    depth[pool] = 0
    chosen, factor, missed = pool, 1.0, 0
    if len(pool):
        drawn = sample_size(len(pool)) if sample is None else min(sample, len(pool))
        check_sample(len(pool), drawn)
        chosen = rng.choice(pool, drawn, replace=False)
        factor = reach(len(pool), drawn, risk, tail)
        missed = last * most_unseen(len(pool), drawn, 1 - risk)
        promised = means(proxy, exists)
        promising = np.argsort(-(np.abs(promised) if magnitude else promised), kind="stable")[:k]
        start = np.union1d(chosen, promising)
        take(table, values, read, start, table.order)
        depth[start] = last
    while True:
        low, high, refuted = intervals(table, values, depth, chosen, factor)
        if magnitude:
            low, high = np.maximum(np.maximum(low, -high), 0), np.maximum(np.abs(low), np.abs(high))
        threshold = float(np.sort(low)[-k])
        waiting = np.flatnonzero((depth < last) & (high > threshold + tolerance))
        if not len(waiting):
            break
        stage = int(depth[waiting].min())
        group = waiting[depth[waiting] == stage]
        if stage == last - 1:
            group = group[np.argsort(-high[group], kind="stable")][:max(k, len(group) // 4)]
        amount = (*table.sizes, proxy.shape[1])[stage + 1]
        take(table, values, read, group, table.order[:amount])
        depth[group] = stage + 1
    whole = depth == last
    order = np.argsort(-np.where(whole, high, -np.inf), kind="stable")
    left = high[~whole]
    return Separation(
        top=order[:k], values=values, whole=whole, low=low, high=high, threshold=float(high[order[k - 1]]),
        highest_left=float(left.max()) if len(left) else -np.inf,
        margin=float(high[order[k - 1]] - high[order[k]]) if whole.sum() > k else np.inf,
        spent=int(np.isfinite(values).sum()) - free, full=int(exists.sum()), free=free, population=len(pool),
        sampled=len(chosen), most_outside=min(missed, len(left)), most_missed=min(missed, k, len(left)),
        confidence=confidence, tolerance=tolerance, tail=tail, factor=factor, refuted=refuted)


def subset_sizes(n_prompts: int, first: int = FIRST) -> tuple[int, ...]:
    """Sizes of the growing subsets of prompts short of all, beginning with none: (0, 8, 16, 32) for 64."""
    sizes, size = [0], first
    while 2 * size <= n_prompts:
        sizes.append(size)
        size *= 2
    return tuple(sizes)


def take(table: Table, values: Floats, read: Read, candidates: Indices, prompts: Indices) -> None:
    """Read those entries of ``candidates`` x ``prompts`` that exist and are not known yet into ``values``."""
    missing = table.exists[np.ix_(candidates, prompts)] & np.isnan(values[np.ix_(candidates, prompts)])
    columns = np.flatnonzero(missing.any(0))
    rows = np.flatnonzero(missing.any(1))
    if not len(rows):
        return
    found = np.asarray(read(candidates[rows], prompts[columns]), dtype=np.float64)
    wanted = missing[np.ix_(rows, columns)]
    if not np.isfinite(found[wanted]).all():
        raise ValueError("a value that exists was read as NaN or infinite")
    at = np.ix_(candidates[rows], prompts[columns])
    values[at] = np.where(wanted, found, values[at])


def means(values: Floats, there: Flags) -> Floats:
    """Mean over the prompts where ``there``; 0 where there is none."""
    return np.asarray(np.where(there, values, 0).sum(1) / np.maximum(there.sum(1), 1), dtype=np.float64)


def predictions(table: Table, values: Floats, size: int) -> tuple[Floats, Floats]:
    """Each candidate's mean as predicted from its values on the first ``size`` prompts, and the scale of its error."""
    seen = table.exists.copy()
    seen[:, table.order[size:]] = False
    count, total = seen.sum(1), table.exists.sum(1)
    typical = means(np.abs(table.proxy), table.exists)
    typical = typical + FLOOR * float(np.median(typical))
    errors = np.where(seen, values - table.proxy, 0)
    shift = errors.sum(1) / np.maximum(count, 1)
    predicted = means(table.proxy, table.exists) + shift
    spread = np.where(seen, (errors - shift[:, None]) ** 2, 0).sum(1) / np.maximum(count - 1, 1)
    left = np.maximum(1 / np.maximum(count, 1) - 1 / total, 0)
    return predicted, np.where(count > 1, np.sqrt((spread + (FLOOR * typical) ** 2) * left), typical)


def intervals(table: Table, values: Floats, depth: Indices, chosen: Indices, factor: float) -> tuple[Floats, Floats, int]:
    """Interval of each candidate's mean from all that is known so far, a point where all of it is; how many were refuted.

    ``depth`` counts the subsets on which a candidate was read; ``len(table.sizes)`` stands for all prompts.
    """
    whole = depth == len(table.sizes)
    truth = means(values, table.exists & whole[:, None])
    low, high = np.full(len(depth), -np.inf), np.full(len(depth), np.inf)
    outside = np.zeros(len(depth), dtype=bool)
    for stage, size in enumerate(table.sizes):
        known = depth >= stage
        predicted, scale = predictions(table, np.where(known[:, None], values, table.proxy), size)
        error = np.abs(truth - predicted)
        scaled = np.divide(error, scale, out=np.where(error > 0, np.inf, 0.0), where=scale > 0)
        bound = factor * float(scaled[chosen].max(initial=0))
        beyond = whole & (scaled > bound)
        outside |= beyond
        if beyond.any():
            bound = factor * float(scaled[whole].max())
        with np.errstate(invalid="ignore"):
            half = np.where(scale > 0, bound * scale, np.inf if np.isinf(bound) else 0.0)
        low = np.where(known, np.maximum(low, predicted - half), low)
        high = np.where(known, np.minimum(high, predicted + half), high)
    return np.where(whole, truth, low), np.where(whole, truth, high), int(outside.sum())
