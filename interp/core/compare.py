"""Do two measures agree, and do scores find the true heads? Rank agreement, overlap of the top with its chance line, AUROC.

Heads without a score (NaN) take no part. Scores are compared by their means over prompts; intervals come from resampling the
prompts, jointly where both were computed on the same ones.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from scipy import stats

from interp.core import detection
from interp.core.errors import InterpError
from interp.core.head import Head
from interp.core.intervals import Floats, check_confidence, resamples
from interp.core.provenance import check_comparable
from interp.core.registry import unknown
from interp.core.scores import HeadScores

METHODS = ("spearman", "kendall", "pearson")


@dataclass(frozen=True)
class Agreement:
    """A correlation between two sets of head scores.

    Attributes:
        value: Spearman's rho or Kendall's tau-b, -1 to 1; 1 = the same order of heads. Or Pearson's r, of the scores.
        low, high: bootstrap interval over prompts; NaN with one prompt. The "basic" interval, reflected at the value, as the
            noise of resampled means lowers every rank correlation: where percentile or BCa intervals of 95 % held the
            correlation of the true scores in 22 to 88 % of simulations, this one held it in 84 to 92 %.
        method: ``spearman``, ``kendall`` or ``pearson``.
        n_heads: heads that both score.
        paired: whether both were computed on the same prompts, and so were resampled together.
    """

    value: float
    low: float
    high: float
    method: str
    n_heads: int
    paired: bool


@dataclass(frozen=True)
class Overlap:
    """How many of the top k heads two sets of scores share.

    Attributes:
        k: size of both sets; ``n_heads`` the number of heads they are chosen from.
        shared: number of heads in both; ``heads`` names them.
        jaccard: shared / union, 0 to 1.
        chance_shared, chance_jaccard: what two random sets of k heads share on average (hypergeometric).
        p: probability that two random sets share at least this many.
    """

    k: int
    n_heads: int
    shared: int
    heads: tuple[Head, ...]
    jaccard: float
    chance_shared: float
    chance_jaccard: float
    p: float


def rank_agreement(a: HeadScores, b: HeadScores, *, method: str = "spearman", confidence: float = 0.95, n_boot: int = 1000,
                   seed: int = 0, across: Collection[str] = ()) -> Agreement:
    """Rank correlation of the heads' mean scores, with its bootstrap interval.

    ``method="pearson"`` correlates the scores themselves, as Wu et al. 2024 do for the retrieval scores of two models of one
    shape (``across=("model", "task")``): above 0.8 for a base model and what it was tuned into, below 0.1 between families.

    Raises ``InterpError`` for unlike things (see ``check_comparable``, which takes ``across``), for scores of different
    shape, for fewer than three heads, and where all heads of one have the same score.
    """
    if method not in METHODS:
        raise unknown("rank correlation", method, list(METHODS))
    check_confidence(confidence)
    one, other = _matched(a, b, across)
    asked = f"rank the agreement of {a.provenance.measure} with {b.provenance.measure}"
    n_heads = one.shape[1]
    if n_heads < 3:
        raise InterpError(asked, f"they have {n_heads} heads in common", "compare at least three")
    paired = _same_prompts(a, b)
    wholes = [_mean(x, np.ones((1, len(x)))) for x in (one, other)]
    if any(np.ptp(whole) == 0 for whole in wholes):
        raise InterpError(asked, "all heads of one of them have the same score", "there is no order to compare")
    value = _correlations(wholes[0], wholes[1], method)
    if min(len(one), len(other)) < 2:
        ends = (float("nan"), float("nan"))
    else:
        draws = [resamples(len(x), n_boot, seed if paired else seed + i) for i, x in enumerate((one, other))]
        boot = _correlations(_mean(one, draws[0]), _mean(other, draws[1]), method)
        spread = np.nanquantile(boot, [(1 + confidence) / 2, (1 - confidence) / 2])
        low, high = np.clip(2 * value[0] - spread, -1, 1)
        ends = (float(low), float(high))
    return Agreement(float(value[0]), *ends, method=method, n_heads=n_heads, paired=paired)


def top_overlap(a: HeadScores, b: HeadScores, k: int, *, across: Collection[str] = ()) -> Overlap:
    """What the top ``k`` heads of both share, beside what chance gives. Ties go to the earlier head."""
    one, other = _matched(a, b, across)
    heads = _common(a, b)
    n = len(heads)
    if not 1 <= k <= n:
        raise InterpError(f"take the top {k} heads", f"{n} heads have scores in both", f"choose k from 1 to {n}")
    sets = [set(np.argsort(-_mean(x, np.ones((1, len(x))))[0], kind="stable")[:k].tolist()) for x in (one, other)]
    common = sorted(sets[0] & sets[1])
    shared = len(common)
    chance = stats.hypergeom(n, k, k)
    sizes = np.arange(k + 1)
    return Overlap(
        k=k, n_heads=n, shared=shared, heads=tuple(heads[i] for i in common), jaccard=shared / (2 * k - shared),
        chance_shared=k * k / n, chance_jaccard=float((chance.pmf(sizes) * sizes / (2 * k - sizes)).sum()),
        p=float(chance.sf(shared - 1)),
    )


def auroc(scores: HeadScores, true_heads: Collection[Head]) -> float:
    """Probability that a true head scores above another (ties count half): 1 = true heads come first, 0.5 = chance."""
    return detection.auroc(*_against(scores, true_heads))


def average_precision(scores: HeadScores, true_heads: Collection[Head]) -> float:
    """Precision averaged over the true heads as the threshold falls (heads of equal score are taken together)."""
    return detection.average_precision(*_against(scores, true_heads))


def precision_at_k(scores: HeadScores, true_heads: Collection[Head], k: int | None = None) -> float:
    """Share of true heads among the top ``k`` (None: as many as are true); ties at the edge count by share."""
    return detection.precision_at(*_against(scores, true_heads), k)


def _against(scores: HeadScores, true_heads: Collection[Head]) -> tuple[Floats, np.ndarray]:
    """Mean scores of the heads that have one, and which of them are true."""
    asked = f"judge {scores.provenance.measure} by the true heads"
    if scores.values.ndim != 3:
        raise InterpError(asked, f"it has the further axes {', '.join(scores.dims[3:])}", "choose one label with .at(...)")
    flat = scores.mean().ravel()
    there = np.isfinite(flat)
    wanted = set(true_heads)
    missing = wanted - {head for head, known in zip(scores.heads, there, strict=True) if known}
    if missing:
        raise InterpError(asked, f"{', '.join(map(str, sorted(missing)))} has no score", "name heads that were scored")
    true = np.array([head in wanted for head in scores.heads])[there]
    if not 0 < true.sum() < len(true):
        raise InterpError(asked, f"{int(true.sum())} of {len(true)} heads are true", "give some true heads, and not all")
    return flat[there], true


def _matched(a: HeadScores, b: HeadScores, across: Collection[str]) -> tuple[Floats, Floats]:
    """Values [prompt, head] of the heads that both score, after checking that the two can be compared."""
    check_comparable(a.provenance, b.provenance, across=across)
    asked = f"compare {a.provenance.measure} with {b.provenance.measure}"
    for scores in (a, b):
        if scores.values.ndim != 3:
            raise InterpError(asked, f"{scores.provenance.measure} has the further axes {', '.join(scores.dims[3:])}",
                              "choose one label with .at(...)")
    shapes = [(x.n_layers, x.n_heads, x.attention, x.unit) for x in (a, b)]
    if shapes[0] != shapes[1]:
        raise InterpError(asked, "their heads differ: {}x{} {} {}s against {}x{} {} {}s".format(*shapes[0], *shapes[1]),
                          "compare scores of the same heads")
    there = np.isfinite(a.mean()) & np.isfinite(b.mean())
    return a.values[there].T, b.values[there].T


def _common(a: HeadScores, b: HeadScores) -> list[Head]:
    there = (np.isfinite(a.mean()) & np.isfinite(b.mean())).ravel()
    return [head for head, known in zip(a.heads, there, strict=True) if known]


def _same_prompts(a: HeadScores, b: HeadScores) -> bool:
    hashes = [x.provenance.task.get("tokens_sha256") for x in (a, b)]
    return a.n_prompts == b.n_prompts and hashes[0] is not None and hashes[0] == hashes[1]


def _mean(values: Floats, draws: Floats) -> Floats:
    """Mean scores [draw, head] of values [prompt, head] under prompt weights [draw, prompt]; NaN is left out."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray((draws @ np.where(there, values, 0.0)) / (draws @ there))


def _correlations(one: Floats, other: Floats, method: str) -> Floats:
    """Correlation (of ranks, but for Pearson's) of each row [draw, head] with the other's; NaN where a row has no order."""
    if method == "kendall":
        return np.array([stats.kendalltau(x, y).statistic if np.ptp(x) and np.ptp(y) else np.nan
                         for x, y in zip(one, other, strict=True)])
    ranks = [x if method == "pearson" else stats.rankdata(x, axis=1) for x in (one, other)]
    centred = [r - r.mean(1, keepdims=True) for r in ranks]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((centred[0] * centred[1]).sum(1) / np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1)))
