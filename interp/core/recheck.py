"""Results of a coarse computation whose order and significance are those of the fine one: what could change is done again.

A table of values [candidate, prompt] is known coarsely (a sweep in bfloat16, say); ``read`` gives any of its rows finely.
``recheck`` reads as few rows as it needs to know which k candidates have the largest mean over the prompts, in which order,
and which candidates differ from zero (Student's t over the prompts, false-discovery rate controlled over all candidates).

1. Some candidates, drawn at random, are read finely. What their errors (fine − coarse) have in common on a prompt is added
   to every coarse value: mostly the error of the unchanged run, which all effects on that prompt share.
2. Of the errors that remain, the mean and the standard deviation over the prompts are taken, per candidate. The largest of
   each in the sample, times ``interp.core.unseen.reach``, bounds those of all other candidates.
3. That gives each candidate an interval of its mean, and of its p value: a standard deviation moves by no more than that of
   the errors. Who overlaps another in the race for the first k, or lies on one side of the significance threshold by one end
   of the interval and on the other by the other, is read finely, until nothing is open.

Both bounds hold for all candidates together with the stated confidence, so that any number of rounds spends nothing of it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from interp.core.errors import InterpError
from interp.core.intervals import Floats, check_confidence
from interp.core.separation import FLOOR, Flags, Indices, means
from interp.core.unseen import check_sample, reach

TAIL = 4.0
"""Rounding errors are sums of very many small ones: those c times as large are taken to be at least c**4 times rarer."""
ROUND = 16
"""Candidates that are read in one round at least, where so many are open."""


@dataclass(frozen=True, eq=False)
class Rechecked:
    """A coarse table made certain where it matters.

    Attributes:
        values: [candidate, prompt]: fine where ``fine``; elsewhere coarse, with the sample's common error added.
        fine: which candidates are known finely (read, or known beforehand). read: which of them had to be read.
        error_median, error_largest: of the absolute errors of the means in the sample, before anything is added.
        bound: the largest error that any mean that is not ``fine`` may have; 0 where all are.
        ranks, level: as asked for. population, sampled: candidates not known beforehand; drawn at random of them.
        confidence, tail, factor: as asked for, and how many times the largest sampled error was allowed.
        refuted: how many candidates had a larger error than that when they were read (all bounds were raised to hold them).
    """

    values: Floats
    fine: Flags
    read: Flags
    error_median: float
    error_largest: float
    bound: float
    ranks: int
    level: float
    population: int
    sampled: int
    confidence: float
    tail: float
    factor: float
    refuted: int


def sample_size(population: int) -> int:
    """How many are drawn unless something else is asked for: the square root, at least 8, at most all."""
    return min(population, max(8, int(np.ceil(np.sqrt(population)))))


def recheck(coarse: Floats, read: Callable[[Indices], Floats], k: int, *, confidence: float = 0.95, level: float = 0.05,
            known: Floats | None = None, magnitude: bool = False, sample: int | None = None, tail: float = TAIL,
            seed: int = 0) -> Rechecked:
    """The table whose first ``k`` (by mean, in order) and whose significance flags at ``level`` are those of the fine one.

    Args:
        coarse: [candidate, prompt], NaN where there is no such entry. read: candidates -> their fine values, all prompts.
        known: fine values known beforehand, NaN elsewhere; taken where a whole row is known.
        magnitude: rank by the absolute value of the mean. level: false-discovery rate.
        sample: how many are drawn at random; None: ``sample_size``. seed: of the draw.
    """
    exists = np.isfinite(coarse)
    check_confidence(confidence)
    if not exists.any(1).all() or not 1 <= k <= len(coarse):
        raise InterpError(f"certify the first {k} of {len(coarse)}", f"{int(exists.any(1).sum())} of them have a value",
                          "ask for at least one and at most all, of those that have a value")
    values = coarse.copy()
    fine: Flags = np.zeros(len(coarse), dtype=bool)
    if known is not None:
        fine[:] = (np.isfinite(known) | ~exists).all(1)
        values[fine] = np.where(exists, known, np.nan)[fine]
    pool = np.flatnonzero(~fine)
    errors = np.zeros(coarse.shape)

    def take(candidates: Indices) -> None:
        found = np.asarray(read(candidates), dtype=np.float64)
        if not np.isfinite(found[exists[candidates]]).all():
            raise ValueError("a value that exists was read as NaN or infinite")
        errors[candidates] = np.where(exists[candidates], found - coarse[candidates], 0)
        values[candidates] = np.where(exists[candidates], found, np.nan)
        fine[candidates] = True

    if not len(pool):
        return Rechecked(values, fine, np.zeros_like(fine), 0.0, 0.0, 0.0, k, level, 0, 0, confidence, tail, 1.0, 0)
    drawn = sample_size(len(pool)) if sample is None else min(sample, len(pool))
    check_sample(len(pool), drawn)
    chosen = np.random.default_rng(seed).choice(pool, drawn, replace=False)
    factor = reach(len(pool), drawn, (1 - confidence) / 2, tail)
    take(chosen)
    shared, spare = _common(errors[chosen], exists[chosen])
    rough = np.where(exists, coarse + shared, np.nan)
    values[~fine] = rough[~fine]
    size = np.sqrt(means(np.nan_to_num(coarse) ** 2, exists))
    scale = FLOOR * size + float(np.median(size[pool]))
    scale = np.where(scale > 0, scale, 1.0)
    spread = _moments(spare, exists[chosen])
    limits = [factor * float((part / scale[chosen]).max()) for part in spread]
    others = np.setdiff1d(pool, chosen)
    refuted = np.zeros(len(coarse), dtype=bool)
    while True:
        again = others[fine[others]]
        for which, part in enumerate(_moments(errors[again] - np.where(exists[again], shared, 0), exists[again])):
            beyond = part / scale[again] > limits[which]
            if beyond.any():
                refuted[again[beyond]] = True
                limits[which] = factor * float((part / scale[again]).max())
        off = [np.where(fine, 0.0, limit * scale) for limit in limits]
        todo = _open_ranks(values, exists, off[0], fine, k, magnitude)
        if not len(todo):
            todo = _open_flags(values, exists, off, fine, level)
        if not len(todo):
            break
        take(todo)
    sampled = _moments(errors[chosen], exists[chosen])[0]
    read_again = fine & np.isin(np.arange(len(fine)), pool)
    return Rechecked(values, fine, read_again, float(np.median(sampled)), float(sampled.max()), float(off[0].max()), k,
                     level, len(pool), drawn, confidence, tail, factor, int(refuted.sum()))


def _common(errors: Floats, exists: Flags) -> tuple[Floats, Floats]:
    """What sampled errors [candidate, prompt] have in common on each prompt, and what is left of each without it.

    What is left of a candidate is taken against the mean of the *others* of the sample, as it will be for those not drawn.
    """
    count = exists.sum(0)
    shared = errors.sum(0) / np.maximum(count, 1)
    left = np.where(exists, (errors - shared) * count / np.maximum(count - 1, 1), 0)
    alone = count < 2      # nothing can be said to be common
    return np.where(alone, 0, shared), np.where(alone & exists, errors, left)


def _moments(errors: Floats, exists: Flags) -> tuple[Floats, Floats]:
    """|Mean| and standard deviation over the prompts of each candidate's errors."""
    middle = means(errors, exists)
    squares = np.where(exists, (errors - middle[:, None]) ** 2, 0).sum(1)
    return np.abs(middle), np.sqrt(squares / np.maximum(exists.sum(1) - 1, 1))


def _open_ranks(values: Floats, exists: Flags, off: Floats, fine: Flags, k: int, magnitude: bool) -> Indices:
    """Candidates whose interval leaves open who is among the first ``k``, or in which order they stand."""
    middle = means(values, exists)
    if magnitude:
        middle = np.abs(middle)
    low, high = middle - off, middle + off
    running = np.flatnonzero(high >= np.sort(low)[-k])
    running = running[np.argsort(-middle[running], kind="stable")]
    overlap = (low[running][:, None] <= high[running]) & (low[running] <= high[running][:, None])
    np.fill_diagonal(overlap, False)
    unsure = overlap.any(1) & ~fine[running]
    first = running[:k][unsure[:k]]      # once they are known, fewer of the others can reach them
    return first if len(first) else running[unsure][:max(k, ROUND)]


def _open_flags(values: Floats, exists: Flags, off: list[Floats], fine: Flags, level: float) -> Indices:
    """Candidates whose significance the errors could change: those that could be significant whatever the others are; then
    the others, those nearest to being significant first, a part at a time."""
    least, most = p_values(values, exists, *off)
    could, must = (_discoveries(p, level) for p in (least, most))
    unsure = np.flatnonzero(could & ~must & ~fine)
    certain = unsure[least[unsure] <= level / max(int(np.isfinite(least).sum()), 1)]
    if len(certain):
        return certain
    return unsure[np.argsort(least[unsure] + most[unsure], kind="stable")][:max(ROUND, len(unsure) // 2)]


def p_values(values: Floats, exists: Flags, mean_off: Floats, deviation_off: Floats) -> tuple[Floats, Floats]:
    """Least and largest two-sided p value of the t test of each candidate's mean, where its mean may be off by up to
    ``mean_off`` and its values by errors whose standard deviation is up to ``deviation_off``; NaN with fewer than two."""
    n = exists.sum(1)
    size, deviation = _moments(np.where(exists, values, 0), exists)
    ends = []
    for sign in (1, -1):
        effect = np.maximum(size + sign * mean_off, 0)
        noise = np.maximum(deviation - sign * deviation_off, 0) / np.sqrt(np.maximum(n, 1))
        t = np.divide(effect, noise, out=np.where(effect > 0, np.inf, 0.0), where=noise > 0)
        ends.append(np.where(n > 1, 2 * stats.t.sf(t, np.maximum(n - 1, 1)), np.nan))
    return ends[0], ends[1]


def _discoveries(p: Floats, level: float) -> Flags:
    """Benjamini and Hochberg's discoveries; NaN is none and does not count."""
    found, there = np.zeros(p.shape, dtype=bool), np.isfinite(p)
    if there.any():
        found[there] = stats.false_discovery_control(p[there], method="bh") <= level
    return found
