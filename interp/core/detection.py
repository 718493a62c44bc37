"""Do scores find what is true? AUROC, average precision and precision at k of an array of scores against a true set.

Exact rank statistics, no curve of a few points. Scores count as they are: take absolute values first where size is meant.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from interp.core.errors import InterpError


def auroc(values: ArrayLike, true: ArrayLike) -> float:
    """Probability that a true entry scores above another (ties count half): 1 = true ones come first, 0.5 = chance."""
    scores, among = _checked(values, true)
    ranks, hits = stats.rankdata(scores), int(among.sum())
    return float((ranks[among].sum() - hits * (hits + 1) / 2) / (hits * (len(scores) - hits)))


def average_precision(values: ArrayLike, true: ArrayLike) -> float:
    """Precision averaged over the true entries as the threshold falls (equal scores are taken together)."""
    scores, among = _checked(values, true)
    total, last = 0.0, 0
    for threshold in np.unique(scores)[::-1]:
        chosen = scores >= threshold
        found = int(among[chosen].sum())
        total += (found - last) * found / int(chosen.sum())
        last = found
    return total / int(among.sum())


def precision_at(values: ArrayLike, true: ArrayLike, k: int | None = None) -> float:
    """Share of true entries among the top ``k`` (None: as many as are true); ties at the edge count by share."""
    scores, among = _checked(values, true)
    k = int(among.sum()) if k is None else k
    if not 1 <= k <= len(scores):
        raise InterpError(f"take the top {k}", f"{len(scores)} have scores", f"choose k from 1 to {len(scores)}")
    edge = np.sort(scores)[::-1][k - 1]
    above, tied = scores > edge, scores == edge
    share = (k - above.sum()) / tied.sum()
    return float((among[above].sum() + share * among[tied].sum()) / k)


def _checked(values: ArrayLike, true: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    scores, among = np.asarray(values, dtype=np.float64).ravel(), np.asarray(true, dtype=bool).ravel()
    asked = "judge scores by what is true"
    if scores.shape != among.shape:
        raise InterpError(asked, f"there are {scores.size} scores and {among.size} entries that are true or not",
                          "give one for each")
    if np.isnan(scores).any():
        raise InterpError(asked, f"{int(np.isnan(scores).sum())} scores are missing", "leave those out of both")
    if not 0 < among.sum() < len(among):
        raise InterpError(asked, f"{int(among.sum())} of {len(among)} are true", "give some that are true, and not all")
    return scores, among
