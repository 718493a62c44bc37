"""How much of a metric is kept at each rank, and the smallest rank that keeps enough: read off the losses by rank."""

from dataclasses import dataclass

import numpy as np

from interp.core import intervals
from interp.core.errors import InterpError
from interp.core.intervals import Floats
from interp.core.scores import HeadScores


@dataclass(frozen=True)
class RankCurve:
    """Share kept by rank.

    Attributes:
        ranks: in rising order.
        kept: [layer, head, rank]: 1 = all, 0 = nothing; above 1 where the projection helps.
        low, high: bootstrap interval over prompts, same shape; NaN with one prompt.
        of: ``metric`` or ``head``, what it is a share of.
    """

    ranks: tuple[int, ...]
    kept: Floats
    low: Floats
    high: Floats
    of: str

    def smallest(self, share: float = 0.95) -> Floats:
        """The smallest rank from which on at least ``share`` is kept at every rank measured, [layer, head]; NaN where none
        of them keeps as much, or nothing is to be kept."""
        enough = np.flip(np.minimum.accumulate(np.flip(np.nan_to_num(self.kept, nan=-np.inf) >= share, -1), -1), -1)
        return np.where(enough.any(-1), np.asarray(self.ranks, dtype=np.float64)[enough.argmax(-1)], np.nan)


def kept(scores: HeadScores, of: str = "metric", *, confidence: float = 0.95, n_boot: int = 2000,
         seed: int = 0) -> RankCurve:
    """The share that each head keeps at each rank, a ratio of means over prompts.

    Args:
        scores: losses with an axis ``rank`` (the measure ``low_rank``).
        of: ``metric``: Σ metric(rank r) / Σ metric(clean), as published; a head that the metric does not need keeps all of
            it at rank 0. ``head``: 1 − Σ loss(r) / Σ loss(0), the share of what this head's component does; NaN for heads
            whose loss at rank 0 cannot be told from zero (its interval holds zero).

    Raises:
        InterpError: scores without ranks, without the clean metric or (``of="head"``) without rank 0; a mean metric that
            cannot be told from zero.
    """
    asked = f"say how much {scores.provenance.measure} keeps by rank"
    if scores.dims[3:] != ("rank",) or "clean" not in scores.baselines:
        raise InterpError(asked, "the scores are no losses by rank", "use the measure low_rank")
    if of not in ("metric", "head"):
        raise InterpError(asked, f"{of!r} is nothing to have a share of", "use of='metric' or of='head'")
    ranks = tuple(int(rank) for rank in scores.labels("rank"))
    losses = np.moveaxis(scores.values, 2, 0)       # [prompt, layer, head, rank]

    def ends(values: Floats, weights: Floats | None = None) -> tuple[Floats, Floats]:
        return intervals.bootstrap(values, weights, confidence=confidence, n_boot=n_boot, seed=seed)

    if of == "metric":
        clean = scores.baselines["clean"]
        least, most = ends(clean)
        if least <= 0 <= most:
            raise InterpError(asked, f"the mean of the clean metric cannot be told from zero ({clean.mean():.3g}, interval "
                              f"{least:.3g} to {most:.3g})", "use of='head', or a metric that the model does well on")
        whole = np.broadcast_to(clean[:, None, None, None], losses.shape)
        unclear = np.zeros(losses.shape[1:3], dtype=np.bool_)
    else:
        if 0 not in ranks:
            raise InterpError(asked, "rank 0 was not measured", "measure with ranks that include 0")
        nothing = losses[..., ranks.index(0)]
        whole = np.broadcast_to(nothing[..., None], losses.shape)
        least, most = ends(nothing)
        unclear = ((least <= 0) & (most >= 0)) | (nothing.mean(0) == 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = 1 - losses.sum(0) / whole.sum(0)
    lost = ends(losses, whole)
    share, low, high = (np.where(unclear[..., None], np.nan, part) for part in (share, 1 - lost[1], 1 - lost[0]))
    return RankCurve(ranks, share, low, high, of)
