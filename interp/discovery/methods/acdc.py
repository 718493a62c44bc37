"""ACDC: edges taken out one after the other, from the output down, as long as the metric hardly moves."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from interp.core.errors import InterpError
from interp.core.registry import unknown
from interp.discovery.graph import edges_of
from interp.discovery.method import method
from interp.engine.edge_attribution import provenance
from interp.engine.edge_circuits import Ablation, open_masks
from interp.engine.edges import EdgeScores
from interp.tasks.metrics import Metric, metric_of

AHEAD = 64
"""Edges that are tried in one go."""
Try = Callable[[np.ndarray], np.ndarray]
"""Masks [mask, edge] -> metric [mask, prompt]."""


@method(
    sense="the change when the edge was tried: above the threshold it stayed; larger = matters more",
    formula="mean over prompts of |metric(circuit so far) − metric(circuit so far without the edge)| "
            "(signed: of the difference itself), in units of the metric",
    source="Conmy et al. 2023 (ACDC)",
    does_not_show=(
        "The importance of an edge by itself: what it scores depends on which were taken out before it, and of two that do "
        "each other's work the one that is tried first is lost (or gates)."
    ),
    cost="a forward pass for every edge that stays, and one for every 64 that go, from the first layer on",
)
def acdc(model: Any, batch: Any, *, threshold: float = 0.01, change: Literal["absolute", "signed"] = "absolute",
         ablation: Ablation = "resample", ahead: int = AHEAD, metric: str | Metric | None = None) -> EdgeScores:
    """Greedy removal; ``notes['circuit']`` [edge] is what stays.

    The scores rank edges by the change at which each was kept or taken out (one column: the mean over prompts is what
    decides). Receivers come from the output down, senders of each from the latest to the embedding.

    Args:
        threshold: an edge goes where its change is below it, in units of the metric.
        ahead: edges that are tried together, supposing that all go; the first that stays ends the turn. Changes no result.
    """
    if threshold < 0:
        raise InterpError(f"run ACDC with the threshold {threshold}", "a change is compared with it", "use 0 or more")
    if change not in ("absolute", "signed"):
        raise unknown("change", change, ["absolute", "signed"])
    edges, measured = edges_of(model), batch.metric if metric is None else metric_of(metric)
    run = open_masks(model, batch, ablation=ablation, metric=measured)
    kept, scores, passes = remove(len(edges), order(edges), run, threshold, change == "signed", ahead)
    ends = run(np.array([np.ones(len(edges), dtype=bool), np.zeros(len(edges), dtype=bool)]))
    baselines = {"clean": ends[0], "corrupt": ends[1]}
    options = {"threshold": threshold, "change": change, "ablation": ablation}
    made = provenance(model, batch, "acdc", options, measured, None, baselines)
    return EdgeScores(edges, scores[:, None], made, baselines, {"circuit": kept, "tried": passes})


def order(edges: Any) -> np.ndarray:
    """Edges from the output down: receivers in reverse, the senders of each from the latest on."""
    return np.lexsort((-edges.sender, -edges.receiver))


def remove(n: int, tried: np.ndarray, run: Try, threshold: float, signed: bool, ahead: int
           ) -> tuple[np.ndarray, np.ndarray, int]:
    """Which edges stay [edge], the change of each when it was tried [edge], and how many masks were run."""
    kept, scores, spent = np.ones(n, dtype=bool), np.zeros(n), 1
    now = run(kept[None])[0]
    at = 0
    while at < n:
        some = tried[at : at + ahead]
        masks = np.repeat(kept[None], len(some), axis=0)
        for i in range(len(some)):
            masks[i:, some[i]] = False
        found = run(masks)
        spent += len(masks)
        for edge, metric in zip(some, found, strict=True):
            at += 1
            moved = now - metric
            scores[edge] = moved.mean() if signed else np.abs(moved).mean()
            if scores[edge] >= threshold:
                break                       # it stays: what was run after it supposed that it went
            kept[edge], now = False, metric
    return kept, scores, spent
