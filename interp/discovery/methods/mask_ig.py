"""Integrated gradients of edge masks, followed until they add up."""

from typing import Any, Literal

from interp.discovery.method import method
from interp.engine.edge_paths import integrated_edges
from interp.engine.edges import EdgeScores
from interp.tasks.metrics import Metric


@method(
    sense="larger = matters more: the part of metric(clean) − metric(corrupt) that the edge carries as all masks move",
    formula="∫₀¹ ∂metric/∂m dm, every receiver reading Σ over senders m · clean + (1 − m) · corrupt, all recomputed",
    source="Sundararajan et al. 2017 on the edge masks of Miller et al. 2024; bisection by the completeness residual: ours",
    does_not_show=(
        "What single edges do alone: a joint effect is divided among the edges of a path, and effects of opposite sign "
        "along it cancel (the inputs of an exclusive or hardly score). Where the notes say that the residual is above the "
        "tolerance the scores are estimates."
    ),
    cost="two forward passes, and steps + 1 up to budget times a forward and a backward pass, per prompt as it needs them",
)
def mask_ig(model: Any, batch: Any, *, direction: Literal["noising", "denoising"] = "noising", steps: int = 4,
            tolerance: float | None = 0.01, budget: int = 64, positions: str | tuple[str, ...] | None = None,
            metric: str | Metric | None = None, batch_size: int | None = None) -> EdgeScores:
    """Integrated gradients of all edge masks from 0 to 1, halving the path where the sum misses the true difference."""
    return integrated_edges(model, batch, "mask", direction=direction, metric=metric, steps=steps, tolerance=tolerance,
                            budget=budget, positions=positions, batch_size=batch_size)
