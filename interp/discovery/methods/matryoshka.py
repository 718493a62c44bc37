"""Matryoshka attribution: one score per edge, learned so that the best k of them do the task for every k."""

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.discovery.learned import Loss, LossOf, loss_of, soft_top_k, started
from interp.discovery.method import method
from interp.discovery.step_bar import step_bar
from interp.engine.edge_attribution import provenance
from interp.engine.edge_circuits import Ablation
from interp.engine.edges import EdgeScores
from interp.tasks.metrics import Metric, metric_of


@method(
    sense="larger = matters more: the edge is taken into circuits earlier; only the order means anything",
    formula="scores s that minimise, over budgets k drawn anew at each step, loss(sigmoid((s − τ_k) / T)), the mask "
            "adding up to k; less the smallest score",
    source="MAttr (arXiv 2609.25518)",
    does_not_show=(
        "Which edges are needed: the scores are fitted, and edges that no mask had a slope for stay near the start, whether "
        "they matter or not (saturated attention: it can rank them last). With loss='task' edges that work against the "
        "behaviour come last."
    ),
    cost="steps times a forward and a backward pass of all prompts",
)
def matryoshka(model: Any, batch: Any, *, steps: int = 500, rate: float = 0.05, temperature: float = 0.5,
               budgets: Literal["log", "uniform"] = "log", loss: Loss = "task", ablation: Ablation = "resample",
               start: EdgeScores | None = None, seed: int = 0, metric: str | Metric | None = None,
               progress: bool | None = None) -> EdgeScores:
    """Soft top-k masks trained over sampled budgets; one column. ``notes``: ``losses`` and ``budgets`` [step].

    Args:
        steps, rate: of Adam. temperature: of the soft mask.
        budgets: how k is drawn between 1 and the number of edges less 1. loss: ``task`` (published), ``distance`` or ``kl``
            (``interp.discovery.learned``).
        start: scores whose order learning starts from; None: all alike. seed: of the budgets.
    """
    if steps < 1 or temperature <= 0:
        raise InterpError(f"learn masks in {steps} steps at temperature {temperature}", "nothing can be learned so",
                          "use 1 step or more and a temperature above 0")
    edges, value, baselines = loss_of(model, batch, loss, ablation, metric)
    with step_bar("matryoshka", steps, progress) as tick:
        scores, losses, drawn = nest(value, started(edges, start, 1.0), steps, rate, temperature, budgets, seed, tick)
    by = batch.metric if metric is None else metric_of(metric)
    made = provenance(model, batch, "matryoshka", {}, by, None, baselines)
    return EdgeScores(edges, (scores - scores.min()).numpy()[:, None], made, baselines, {"losses": losses, "budgets": drawn})


def nest(value: LossOf, at: Tensor, steps: int, rate: float, temperature: float, budgets: str, seed: int,
         tick: Callable[[int], None] | None = None) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Scores after learning, float64 [edge]; the loss and the budget of each step."""
    random = np.random.default_rng(seed)
    scores = at.clone().requires_grad_()
    down = torch.optim.Adam([scores], lr=rate)
    most = len(at) - 1
    losses, drawn = np.empty(steps), np.empty(steps)
    for step in range(steps):
        k = math.exp(random.uniform(0, math.log(most))) if budgets == "log" else random.uniform(1, most)
        fitted = value(soft_top_k(scores, k, temperature))
        (scores.grad,) = torch.autograd.grad(fitted, [scores])
        down.step()
        losses[step], drawn[step] = float(fitted.detach()), k
        if tick is not None:
            tick(1)
    return scores.detach(), losses, drawn
