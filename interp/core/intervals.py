"""How sure: bootstrap intervals over prompts and paired tests with false-discovery control.

Prompts are resampled together for all heads, so that the dependence between heads is kept.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from interp.core.errors import InterpError
from interp.core.registry import unknown

Floats = NDArray[np.float64]
TESTS = ("t", "wilcoxon")
COLUMNS = 1024
"""Heads (times positions) that are resampled at once; bounds the memory."""


def resamples(n: int, n_boot: int, seed: int) -> Floats:
    """How often each of ``n`` prompts is drawn in each bootstrap sample: [n_boot, n], rows sum to n."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=n_boot).astype(np.float64)


def bootstrap(values: Floats, weights: Floats | None = None, *, confidence: float = 0.95, n_boot: int = 2000,
              seed: int = 0) -> tuple[Floats, Floats]:
    """Bootstrap interval of ``sum(values) / sum(weights)`` over the prompts: the mean, or a ratio of means.

    BCa intervals (Efron 1987: corrected for bias and skewness), at the level that makes the interval of a mean as wide as
    Student's for few prompts (Hesterberg 2015, the "expanded" percentile interval).

    Args:
        values: [n, ...], one row per prompt; NaN is left out.
        weights: broadcastable to ``values``; None means ones, i.e. the mean.
        confidence: probability that the interval is meant to cover.

    Returns:
        (low, high), each [...]; NaN where fewer than three prompts are left (two have no skewness).
    """
    check_confidence(confidence)
    shape, n = values.shape[1:], len(values)
    if n < 2:
        return np.full(shape, np.nan), np.full(shape, np.nan)
    flat = values.reshape(n, -1)
    ones = np.ones_like(flat) if weights is None else np.broadcast_to(weights, values.shape).reshape(n, -1)
    there = np.isfinite(flat) & np.isfinite(ones)
    top, bottom = np.where(there, flat, 0.0), np.where(there, ones, 0.0)
    draws = resamples(n, n_boot, seed)
    low, high = np.empty(flat.shape[1]), np.empty(flat.shape[1])
    for first in range(0, flat.shape[1], COLUMNS):
        part = slice(first, first + COLUMNS)
        one, other = top[:, part], bottom[:, part]
        with np.errstate(invalid="ignore", divide="ignore"):
            boot = (draws @ one) / (draws @ other)
            point = one.sum(0) / other.sum(0)
            jackknife = (one.sum(0) - one) / (other.sum(0) - other)
        low[part], high[part] = bca(boot, point, jackknife, confidence)
    few = there.sum(0) < 2
    low[few], high[few] = np.nan, np.nan
    return low.reshape(shape), high.reshape(shape)


def bca(boot: Floats, point: Floats, jackknife: Floats, confidence: float) -> tuple[Floats, Floats]:
    """BCa interval from bootstrap replicates [n_boot, m], the estimate [m] and its leave-one-out values [n, m]."""
    n = len(jackknife)
    tail = stats.norm.cdf(np.sqrt(n / (n - 1)) * stats.t.ppf((1 - confidence) / 2, n - 1))
    boot = np.where(np.isfinite(boot), boot, np.nan)
    drawn, kept = np.isfinite(boot).sum(0), np.isfinite(jackknife)
    with np.errstate(invalid="ignore", divide="ignore"):
        middle = np.where(kept, jackknife, 0).sum(0) / kept.sum(0)
        spread = np.where(kept, middle - jackknife, 0)
        scale = (spread**2).sum(0) ** 1.5
        acceleration = np.where(scale > 0, (spread**3).sum(0) / (6 * scale), 0.0)
        below = ((boot < point).sum(0) + (boot <= point).sum(0)) / (2 * drawn)
        bias = stats.norm.ppf(np.clip(below, 0.5 / drawn, 1 - 0.5 / drawn))
        ends = bias + stats.norm.ppf(np.array([[tail], [1 - tail]]))
        levels = stats.norm.cdf(bias + ends / (1 - acceleration * ends))
    known = np.isfinite(point) & np.isfinite(levels).all(0) & (drawn > 0)
    where = np.where(known, levels, 0) * np.maximum(drawn - 1, 0)
    ordered = np.sort(boot, axis=0)    # NaN comes last
    left = np.floor(where).astype(np.int64)
    right = np.minimum(left + 1, np.maximum(drawn - 1, 0))
    one, other = (np.take_along_axis(ordered, at, axis=0) for at in (left, right))
    with np.errstate(invalid="ignore"):
        low, high = np.where(known, one + (where - left) * (other - one), np.nan)
    return low, high


def check_confidence(confidence: float) -> None:
    """Refuse a confidence outside (0, 1)."""
    if not 0 < confidence < 1:
        raise InterpError(f"give intervals of confidence {confidence}", "a confidence lies between 0 and 1", "use 0.95, say")


@dataclass(frozen=True)
class PairedTest:
    """A two-sided test, per head, that the mean over prompts is zero.

    Attributes:
        p: p values [layer, head, ...], NaN where there are fewer than two prompts, and for scores that are not signed.
        q: the same after Benjamini and Hochberg (1995) over all heads (and positions): the smallest false-discovery rate
            at which the head would still be called.
        significant: ``q <= level``.
        level: the false-discovery rate asked for.
        method: ``t`` (Student) or ``wilcoxon`` (signed ranks).
    """

    p: Floats
    q: Floats
    significant: NDArray[np.bool_]
    level: float
    method: str


def paired_test(values: Floats, level: float = 0.05, method: str = "t", unseen: int = 0) -> PairedTest:
    """Test against zero over the first axis (prompts) of ``values`` [n, ...], with false-discovery control over the rest.

    A head whose value is exactly zero on every prompt has p = 1; one whose value is the same non-zero number on every prompt
    has p = 0 (t) as its standard error is zero. ``unseen``: how many more could have been measured and were not; they count
    as tests with p = 1, so that those which were chosen for being large are not judged as if they were all there is.
    """
    if method not in TESTS:
        raise unknown("test", method, list(TESTS))
    if not 0 < level < 1:
        raise InterpError(f"control the false-discovery rate at {level}", "a rate lies between 0 and 1", "use 0.05, say")
    flat = values.reshape(len(values), -1)
    p = np.array([_p_value(column[np.isfinite(column)], method) for column in flat.T]).reshape(values.shape[1:])
    q = false_discovery(np.append(p, np.ones(unseen)))[:p.size].reshape(p.shape)
    return PairedTest(p=p, q=q, significant=np.nan_to_num(q, nan=1.0) <= level, level=level, method=method)


def no_test(values: Floats, level: float = 0.05, method: str = "t") -> PairedTest:
    """What ``paired_test`` returns where zero is no hypothesis: p and q NaN, nothing significant."""
    nothing = np.full(values.shape[1:], np.nan)
    return PairedTest(p=nothing, q=nothing, significant=np.zeros(nothing.shape, dtype=np.bool_), level=level, method=method)


def false_discovery(p: Floats) -> Floats:
    """Benjamini-Hochberg adjusted p values; NaN stays NaN and does not count."""
    q, there = np.full(p.shape, np.nan), np.isfinite(p)
    if there.any():
        q[there] = stats.false_discovery_control(p[there], method="bh")
    return q


def _p_value(x: Floats, method: str) -> float:
    if x.size < 2:
        return float("nan")
    if not x.any():
        return 1.0
    if method == "wilcoxon":
        return float(stats.wilcoxon(x, zero_method="pratt").pvalue)
    if np.ptp(x) == 0:
        return 0.0
    error = x.std(ddof=1) / np.sqrt(x.size)
    return float(2 * stats.t.sf(abs(x.mean()) / error, x.size - 1))
