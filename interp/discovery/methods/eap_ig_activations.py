"""EAP with integrated gradients along each group of activations."""

from typing import Any, Literal

from interp.discovery.method import method
from interp.engine.edge_paths import integrated_edges
from interp.engine.edges import EdgeScores
from interp.tasks.metrics import Metric


@method(
    sense="larger = matters more",
    formula="Σ over positions (sender's output clean − corrupt) · mean of ∂metric/∂(receiver's input) over the paths of "
            "embedding, attention and MLP of each layer from corrupt to clean",
    source="Hanna et al. 2024; published code averages over the paths of all groups (over='all', rule='right')",
    does_not_show=(
        "Sums that mean anything, with over='all': no slope passes through the group on its path. With over='own' the edges "
        "of a group add up to the effect of exchanging the group, up to the residual in the notes."
    ),
    cost="two forward passes, and for the embedding and twice per layer steps + 1 times a forward and a backward pass",
)
def eap_ig_activations(model: Any, batch: Any, *, steps: int = 5, rule: Literal["left", "right", "trapezoid"] = "right",
                       over: Literal["own", "all"] = "all", metric: str | Metric | None = None,
                       batch_size: int | None = None) -> EdgeScores:
    """EAP with gradients averaged while the activations of one layer after the other move from corrupt to clean."""
    return integrated_edges(model, batch, "activation", metric=metric, steps=steps, rule=rule, over=over, tolerance=None,
                            batch_size=batch_size)
