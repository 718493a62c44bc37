"""Edge pruning: a gate on every edge, learned so that few stay open and the model does what it did."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.discovery.learned import Loss, LossOf, hard_concrete, loss_of, probability_open, started
from interp.discovery.method import method
from interp.discovery.step_bar import step_bar
from interp.engine.edge_attribution import provenance
from interp.engine.edge_circuits import Ablation
from interp.engine.edges import EdgeScores
from interp.tasks.metrics import Metric, metric_of


@method(
    sense="larger = the gate is open more surely: the edge is in the circuit that was learned",
    formula="P(gate > 0) of hard-concrete gates that minimise loss(gates) + λ₁ (target − sparsity) + "
            "λ₂ (target − sparsity)²; λ ascend, the target rises from 0",
    source="Bhaskar et al. 2024 (Edge Pruning); gates: Louizos et al. 2018",
    does_not_show=(
        "What single edges do: a circuit was fitted, another seed may fit another, and gates of edges that are not needed "
        "end where noise left them. Where attention is saturated the loss has no slope and the needed edges are not found."
    ),
    cost="steps times a forward and a backward pass of all prompts",
)
def edge_pruning(model: Any, batch: Any, *, sparsity: float = 0.9, steps: int = 400, rate: float = 0.2, ramp: float = 0.6,
                 loss: Loss = "kl", ablation: Ablation = "resample", start: EdgeScores | None = None, seed: int = 0,
                 metric: str | Metric | None = None, progress: bool | None = None) -> EdgeScores:
    """Masks learned with a target sparsity; one column. ``notes``: ``losses`` and ``sparsities`` [step].

    Args:
        sparsity: share of edges whose gates are to close. steps, rate: of Adam. ramp: share of the steps in which the target
            rises to it.
        loss: ``kl`` to the whole model's next token (published), ``distance`` or ``task`` (``interp.discovery.learned``).
        start: scores whose order the gates start in; None: all open alike. seed: of the gates' noise.
    """
    if not 0 < sparsity < 1:
        raise InterpError(f"prune edges to a sparsity of {sparsity}", "it is a share of all edges", "choose between 0 and 1")
    if steps < 1:
        raise InterpError(f"learn masks in {steps} steps", "nothing is learned", "use 1 or more")
    edges, value, baselines = loss_of(model, batch, loss, ablation, metric)
    with step_bar("edge pruning", steps, progress) as tick:
        gates, losses, reached = prune_by(value, 2 + started(edges, start, 1.0), sparsity, steps, rate, ramp, seed, tick)
    by = batch.metric if metric is None else metric_of(metric)
    made = provenance(model, batch, "edge_pruning", {}, by, None, baselines)
    return EdgeScores(edges, probability_open(gates).numpy()[:, None], made, baselines,
                      {"losses": losses, "sparsities": reached})


def prune_by(value: LossOf, at: Tensor, sparsity: float, steps: int, rate: float, ramp: float, seed: int,
             tick: Callable[[int], None] | None = None) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """log α of each gate after learning, float64 [edge]; the loss and the expected sparsity at each step."""
    random = torch.Generator().manual_seed(seed)
    log_alpha, weights = at.clone().requires_grad_(), torch.zeros(2, dtype=torch.float64, requires_grad=True)
    down, up = torch.optim.Adam([log_alpha], lr=rate), torch.optim.Adam([weights], lr=rate, maximize=True)
    losses, reached = np.empty(steps), np.empty(steps)
    for step in range(steps):
        noise = torch.rand(len(at), generator=random, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
        target = sparsity * min(1.0, (step + 1) / max(1, math.ceil(ramp * steps)))
        fitted, sparse = value(hard_concrete(log_alpha, noise)), 1 - probability_open(log_alpha).mean()
        total = fitted + weights[0] * (target - sparse) + weights[1] * (target - sparse) ** 2
        log_alpha.grad, weights.grad = torch.autograd.grad(total, [log_alpha, weights])
        down.step()
        up.step()
        losses[step], reached[step] = float(fitted.detach()), float(sparse.detach())
        if tick is not None:
            tick(1)
    return log_alpha.detach(), losses, reached
