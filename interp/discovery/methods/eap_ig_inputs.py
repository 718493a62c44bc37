"""EAP with integrated gradients along the input."""

from typing import Any, Literal

from interp.discovery.method import method
from interp.engine.edge_paths import integrated_edges
from interp.engine.edges import EdgeScores
from interp.tasks.metrics import Metric


@method(
    sense="larger = matters more",
    formula="Σ over positions (sender's output clean − corrupt) · mean over α of ∂metric/∂(receiver's input), embeddings at "
            "corrupt + α (clean − corrupt)",
    source="Hanna et al. 2024 (EAP-IG); published code takes α = 0, 1/m, ..., (m − 1)/m for edges: rule='left'",
    does_not_show=(
        "Effects of single edges: inner activations are far from linear in the embeddings, so a jump that lies between two "
        "points is missed. The residual in the notes is that of the embedding's edges: a small one says that the path was "
        "followed, not that all scores are right."
    ),
    cost="two forward passes, and steps + 1 times a forward and a backward pass",
)
def eap_ig_inputs(model: Any, batch: Any, *, steps: int = 5, rule: Literal["left", "right", "trapezoid"] = "left",
                  metric: str | Metric | None = None, batch_size: int | None = None) -> EdgeScores:
    """EAP with gradients averaged while the embeddings move from the corrupted to the clean prompt."""
    return integrated_edges(model, batch, "input", metric=metric, steps=steps, rule=rule, tolerance=None,
                            batch_size=batch_size)
