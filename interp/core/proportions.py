"""Intervals of shares: of prompts alone, and of prompts crossed with random draws."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from interp.core.errors import InterpError
from interp.core.intervals import Floats, check_confidence


def wilson(share: ArrayLike, n: ArrayLike, confidence: float = 0.95,
           quantile: ArrayLike | None = None) -> tuple[Floats, Floats]:
    """Wilson's score interval of a share observed on ``n`` cases (which need not be whole); NaN where there are none.

    Of 0 in n or n in n it is not empty. ``quantile``: used in place of the normal distribution's.
    """
    check_confidence(confidence)
    p, size = np.asarray(share, dtype=np.float64), np.asarray(n, dtype=np.float64)
    z = stats.norm.ppf((1 + confidence) / 2) if quantile is None else np.asarray(quantile, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = z**2 / size
        middle = (p + spread / 2) / (1 + spread)
        half = np.sqrt(p * (1 - p) * spread + spread**2 / 4) / (1 + spread)
        ends = np.clip([middle - half, middle + half], 0, 1)
    ends = np.where(size > 0, ends, np.nan)
    return ends[0], ends[1]


def crossed_share(values: ArrayLike, confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean of ``values`` [draw, prompt] (each 0 to 1) and its interval over other draws *and* other prompts.

    The variance of the mean is that of two crossed random factors, var(draw means) / draws + var(prompt means) / prompts −
    var(interaction) / (draws · prompts), with Satterthwaite's degrees of freedom; the interval is Wilson's at the number of
    independent cases that would give this variance, so that it is not empty where all answers agree (there each prompt
    counts as one case). With one draw only prompts vary.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or 0 in table.shape or not np.isfinite(table).all() or table.min() < 0 or table.max() > 1:
        raise InterpError("give the interval of a share", f"values of shape {table.shape} are no such shares",
                          "give finite numbers from 0 to 1, [draw, prompt]")
    draws, prompts = table.shape
    mean = float(table.mean())
    if prompts < 2:
        return mean, float("nan"), float("nan")
    by_prompt = table.mean(0).var(ddof=1) / prompts
    parts = [(by_prompt, prompts - 1)]
    if draws > 1:
        rest = table - table.mean(0) - table.mean(1, keepdims=True) + mean
        both = (rest**2).sum() / ((draws - 1) * (prompts - 1)) / (draws * prompts)
        by_draw = table.mean(1).var(ddof=1) / draws
        parts += [(by_draw, draws - 1), (-both, (draws - 1) * (prompts - 1))]
    variance = max(sum(part for part, _ in parts), max(part for part, _ in parts))
    cases, freedom = float(prompts), float(prompts - 1)
    if 0 < mean < 1 and variance > 0:
        cases = mean * (1 - mean) / variance
        freedom = max(1.0, variance**2 / sum(part**2 / of for part, of in parts))
    low, high = wilson(mean, cases, confidence, stats.t.ppf((1 + confidence) / 2, freedom))
    return mean, float(low), float(high)


def difference(one: tuple[float, float, float], other: tuple[float, float, float]) -> tuple[float, float, float]:
    """``one - other`` with its interval, both given as (mean, low, high): Newcombe's square-and-add interval.

    What both have in common (the same prompts) is not made use of, which makes it wide rather than narrow.
    """
    gap = one[0] - other[0]
    low = gap - np.hypot(one[0] - one[1], other[2] - other[0])
    high = gap + np.hypot(one[2] - one[0], other[0] - other[1])
    return gap, float(max(low, -1)), float(min(high, 1))
