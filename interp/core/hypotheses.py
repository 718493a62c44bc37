"""Tests that a circuit can fail: equivalence to the model within a margin, independence of what is left, minimality.

Source: Shi et al. 2024 (arXiv 2410.13032), with what their code does otherwise put right: the sign test counts prompts and
does not average differences; the kernel's width comes from distances within one variable; permutation p values count the
observed one; many edges are corrected for (Holm 1979).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.spatial.distance import pdist, squareform

from interp.core.errors import InterpError


@dataclass(frozen=True)
class Test:
    """One test of a hypothesis.

    Attributes:
        statistic: what was observed; p: its p value. rejected: ``p <= level``.
        claim: what a rejection supports, in words. n: prompts.
    """

    __test__ = False      # no test case of pytest's

    statistic: float
    p: float
    rejected: bool
    claim: str
    n: int


def equivalence(circuit: ArrayLike, model: ArrayLike, margin: float, *, level: float = 0.05) -> Test:
    """Two one-sided t tests: is the mean of circuit − model (paired by prompt) within ± ``margin`` (in units of the metric)?

    The hypothesis is that it lies outside; p is the larger of the two one-sided ones, so a rejection says "equivalent".
    """
    change = _paired(circuit, model)
    if margin <= 0:
        raise InterpError(f"test equivalence within {margin}", "a margin is positive", "say how much difference is none")
    spread, mean = change.std(ddof=1) / np.sqrt(len(change)), change.mean()
    if spread == 0:
        p = float(abs(mean) >= margin)
    else:
        student = stats.t(len(change) - 1)
        p = float(max(student.sf((mean + margin) / spread), student.cdf((mean - margin) / spread)))
    return Test(float(mean), p, p <= level, f"the means differ by less than {margin:.3g}", len(change))


def sign_equivalence(circuit: ArrayLike, model: ArrayLike, margin: float = 0.1, *, level: float = 0.05) -> Test:
    """Is the share of prompts on which the circuit does better within 1/2 ± ``margin`` (equal ones count half)?

    Two one-sided binomial tests by mid-p, hypothesis: outside. This is the published one turned round: there equivalence
    was the hypothesis, and few prompts were enough to keep it.
    """
    change = _paired(circuit, model)
    if not 0 < margin < 0.5:
        raise InterpError(f"test equivalence of shares within {margin}", "a margin lies between 0 and 1/2", "use 0.1, say")
    n, above = len(change), float((change > 0).sum() + (change == 0).sum() / 2)
    low, high = np.floor(above), np.ceil(above)

    def mid(p: float, upper: bool) -> float:
        at = stats.binom.pmf(high if upper else low, n, p) / 2
        return float(at + (stats.binom.sf(high, n, p) if upper else stats.binom.cdf(low - 1, n, p)))

    p = max(mid(0.5 - margin, True), mid(0.5 + margin, False))
    claim = f"the circuit does better on {0.5 - margin:.0%} to {0.5 + margin:.0%} of prompts"
    return Test(above / n, p, p <= level, claim, n)


def independence(left: ArrayLike, model: ArrayLike, *, n_permutations: int = 999, level: float = 0.05, seed: int = 0
                 ) -> Test:
    """Does what is left without the circuit still know anything of the model's metric? HSIC by permutation of the prompts.

    Hypothesis: independent. A rejection says that the circuit lacks something; no rejection of few prompts says little.
    Gaussian kernels, each of the median distance of its own variable (Gretton et al. 2007).
    """
    _paired(left, model)
    kernels = [_kernel(np.asarray(x, dtype=np.float64)) for x in (left, model)]
    n = len(kernels[0])
    centred = kernels[0] - kernels[0].mean(0) - kernels[0].mean(1)[:, None] + kernels[0].mean()
    random = np.random.default_rng(seed)
    observed = float((centred * kernels[1]).sum() / n**2)
    drawn = np.empty(n_permutations)
    for i in range(n_permutations):
        order = random.permutation(n)
        drawn[i] = (centred * kernels[1][np.ix_(order, order)]).sum() / n**2
    p = (1 + int((drawn >= observed - 1e-15).sum())) / (1 + n_permutations)
    return Test(observed, p, p <= level, "what is left without the circuit depends on the model's metric", n)


def minimality(effects: ArrayLike, reference: ArrayLike, *, level: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Which edges matter more than edges that were put in at random: Holm-adjusted p values [edge], and p <= level [edge].

    Args:
        effects: size of the change when the edge is taken out of the circuit, [edge].
        reference: the same of random edges in circuits that were inflated by them, [draw].
    """
    found, random = np.asarray(effects, dtype=np.float64), np.sort(np.asarray(reference, dtype=np.float64))
    if not len(random):
        raise InterpError("test minimality", "there is nothing to compare with", "draw some random edges")
    larger = len(random) - np.searchsorted(random, found, side="left")
    p = holm((1 + larger) / (1 + len(random)))
    return p, p <= level


def holm(p: ArrayLike) -> np.ndarray:
    """Holm's step-down adjusted p values: rejecting those at most α keeps the chance of any false rejection below α."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def _paired(one: ArrayLike, other: ArrayLike) -> np.ndarray:
    a, b = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise InterpError(f"compare {a.shape} with {b.shape} values", "they are not pairs of two or more prompts",
                          "give one number per prompt for each")
    return a - b


def _kernel(x: np.ndarray) -> np.ndarray:
    distances = pdist(x[:, None])
    width = np.median(distances[distances > 0]) if (distances > 0).any() else 1.0
    kernel: np.ndarray = np.exp(-(squareform(distances) ** 2) / (2 * width**2))
    return kernel
