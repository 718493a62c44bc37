"""What methods that learn masks share: the loss of a mask, hard-concrete gates, the soft top k, and where scores start."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor

from interp.core.errors import InterpError
from interp.core.registry import unknown
from interp.engine.edge_circuits import Ablation, ground_of, masked_metric
from interp.engine.edge_runs import graph_of
from interp.engine.edges import Edges, EdgeScores
from interp.tasks.metrics import metric_of

Loss = Literal["kl", "distance", "task"]
LossOf = Callable[[Tensor], Tensor]
"""Mask [edge] -> loss, differentiable."""

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
"""Temperature of the hard-concrete distribution, and the interval it is stretched to before it is clipped to [0, 1]."""


def loss_of(model: Any, batch: Any, loss: Loss, ablation: Ablation, metric: Any = None
            ) -> tuple[Edges, LossOf, dict[str, np.ndarray]]:
    """The edges of a model, the loss of a mask over them, and the metric with all of them and with none.

    * ``kl``: mean over prompts of KL(whole model ‖ circuit), of the next token's distribution, in nats;
    * ``distance``: mean of (metric of the circuit − of the whole model)², in units of the squared mean gap;
    * ``task``: − mean metric of the circuit, in units of the gap: what does the task better than the model is preferred.
    """
    if loss not in get_args(Loss):
        raise unknown("loss of masks", str(loss), list(get_args(Loss)))
    graph = graph_of(model)
    ground, measured = ground_of(graph, batch, ablation), batch.metric if metric is None else metric_of(metric)
    dtype, device = ground.there[0].dtype, ground.there[0].device
    with torch.no_grad():
        ends = torch.stack([torch.ones(len(graph.edges)), torch.zeros(len(graph.edges))]).to(device, dtype)
        whole, empty = masked_metric(graph, ground, batch, measured, ends)
        gap = (whole - empty).mean()
        target = masked_metric(graph, ground, batch, lambda logits, _: logits, ends[:1])[0].log_softmax(-1)
    if not bool(gap.abs() > 0):
        raise InterpError("learn masks", "the whole model and the empty circuit do equally well", "take prompts that differ")

    def kl(logits: Tensor, _: Any) -> Tensor:
        return (target.exp() * (target - logits.log_softmax(-1))).sum(-1)

    def value(mask: Tensor) -> Tensor:
        masks = mask.to(device, dtype)[None]
        if loss == "kl":
            return masked_metric(graph, ground, batch, kl, masks).mean()
        found = masked_metric(graph, ground, batch, measured, masks)[0]
        return ((found - whole) ** 2).mean() / gap**2 if loss == "distance" else -found.mean() / gap

    return graph.edges, value, {"clean": whole.double().cpu().numpy(), "corrupt": empty.double().cpu().numpy()}


def hard_concrete(log_alpha: Tensor, noise: Tensor) -> Tensor:
    """Gates in [0, 1], exactly 0 or 1 with positive probability; ``noise`` uniform in (0, 1)."""
    soft = torch.sigmoid((noise.logit() + log_alpha) / BETA)
    return (soft * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def probability_open(log_alpha: Tensor) -> Tensor:
    """P(gate > 0)."""
    return torch.sigmoid(log_alpha - BETA * np.log(-GAMMA / ZETA))


def soft_top_k(scores: Tensor, k: float, temperature: float = 0.5) -> Tensor:
    """sigmoid((scores − τ) / temperature) with τ such that the mask sums to ``k``; differentiable through τ.

    τ by bisection; its derivative by the implicit function theorem, ∂τ/∂sᵢ = σ′ᵢ / Σ σ′.
    """
    n = len(scores)
    if not 0 < k < n:
        raise InterpError(f"choose the soft top {k} of {n}", "the mask sums to it", f"use more than 0 and less than {n}")
    fixed = scores.detach()
    size = fixed.double().cpu().numpy()
    reach = temperature * (2 * np.log(n) + abs(np.log(k / (n - k))) + 1)
    low, high = size.min() - reach, size.max() + reach
    for _ in range(64):
        middle = (low + high) / 2
        low, high = (middle, high) if expit((size - middle) / temperature).sum() > k else (low, middle)
    tau = torch.tensor((low + high) / 2, dtype=fixed.dtype, device=fixed.device)
    gates = torch.sigmoid((fixed - tau) / temperature)
    slope = (gates * (1 - gates)).sum() / temperature
    if scores.requires_grad and bool(slope > 0):
        tau = tau + (torch.sigmoid((scores - tau) / temperature).sum() - k) / slope
    return torch.sigmoid((scores - tau) / temperature)


def started(edges: Edges, start: EdgeScores | None, spread: float) -> Tensor:
    """Where learning starts: 0 for every edge, or −spread to spread in the order of some scores' sizes, float64 [edge]."""
    if start is None:
        return torch.zeros(len(edges), dtype=torch.float64)
    if len(start.edges) != len(edges):
        raise InterpError(f"start from scores of {len(start.edges)} edges", f"the model has {len(edges)}",
                          "give scores of this model")
    size = np.abs(start.mean())
    rank = np.where(np.isfinite(size), size, -1).argsort(kind="stable").argsort(kind="stable")
    return torch.from_numpy(spread * (2 * rank / max(1, len(edges) - 1) - 1))
