"""Edge attribution patching."""

from typing import Any, Literal

from interp.discovery.method import method
from interp.engine.edge_attribution import edge_attribution
from interp.engine.edges import EdgeScores
from interp.tasks.metrics import Metric


@method(
    sense="larger = matters more; the sign is that of patching the edge in the same direction",
    formula="Σ over positions (sender's output clean − corrupt) · ∂metric/∂(receiver's input)",
    source="Nanda 2023; Syed et al. 2023 (EAP)",
    does_not_show=(
        "Effects where the gradient is zero: a saturated softmax or gate hides every edge before it, and paths of opposite "
        "sign cancel. A metric with zero slope at the run (KL to the clean output at the clean run) gives zero everywhere."
    ),
    cost="two forward passes and one backward pass, and products of about half a forward pass",
)
def eap(model: Any, batch: Any, *, direction: Literal["noising", "denoising"] = "noising",
        positions: str | tuple[str, ...] | None = None, metric: str | Metric | None = None,
        batch_size: int | None = None) -> EdgeScores:
    """First-order estimate of patching every edge, from one gradient at the clean (noising) or corrupted run (denoising).

    Args:
        positions: parts of places besides (``scores.at("end")``): ``"each"`` token, a named span, or several.
    """
    return edge_attribution(model, batch, direction=direction, positions=positions, metric=metric, batch_size=batch_size)
