"""Head importance by gradient (Michel et al. 2019): how fast the loss changes as a head is masked."""

from typing import Any, Literal

import numpy as np
import torch

from interp.core.errors import InterpError
from interp.engine.forward import metric_values
from interp.engine.gradients import gradients
from interp.engine.prompts import chunks, side, sides
from interp.measures.each_head import metric_of_run
from interp.measures.measure import Measured, measure
from interp.models.sites import Site
from interp.tasks.metrics import Metric, metric_of


@measure(
    sense="larger = matters more (an absolute value: never negative)",
    formula="|Σ over tokens z · ∂loss/∂z|, the loss being −log p(answer)",
    source="Michel, Levy and Neubig 2019, section 4.1; normalised by layer as in Molchanov et al. 2017",
    does_not_show=(
        "The sign of the effect, and anything beyond first order: a head whose effect is saturated scores near zero. "
        "Being an absolute value it is positive by chance alone, so its test against zero says nothing; compare heads "
        "with each other."
    ),
    cost="one forward and backward pass; two forward passes for the baselines",
)
def head_importance(
    model: Any,
    batch: Any,
    *,
    loss: Literal["answer", "metric"] = "answer",
    absolute: Literal["prompt", "token"] = "prompt",
    normalize_layers: bool = False,
    attention: str | None = None,
    metric: str | Metric | None = None,
    batch_size: int | None = None,
    progress: Any = None,
) -> Measured:
    """How much the loss would change, to first order, if the head were masked: |z · ∂loss/∂z| on the clean prompts.

    ``values[layer, head, prompt]``: the derivative of the loss by a gate on the head's output (1 = as it is), in absolute
    value. Larger = matters more. The mean over prompts is the published importance I_h = E_x |A_h(x) · ∂L(x)/∂A_h(x)|.

    Args:
        loss: ``answer``: −log p(answer) at the answer position, in nats, the task's loss as published; ``metric``: minus the
            metric, in its units.
        absolute: ``prompt``: the absolute value of the sum over tokens (the formula of the paper, the gate's gradient);
            ``token``: the sum over tokens of absolute values (the released code).
        normalize_layers: divide by the L2 norm over the layer's heads of their mean importance (as published; heads of
            different layers then no longer compare).
        attention: ``self``, ``encoder``, ``cross`` or ``vision``; None: the model's main attention.
        metric: for ``loss="metric"``; None: the batch's. It must be differentiable.
        batch_size: prompts per pass; changes no number. progress: unused.

    Raises:
        InterpError: the metric is not differentiable; a layer whose importances all vanish cannot be normalised.
    """
    if metric is not None and loss != "metric":
        raise InterpError("measure head importance by a metric", f"loss={loss!r} is the task's own loss and has no metric",
                          "use loss='metric' as well, or leave metric out")
    stack = model.stack(attention)
    measured = metric_of("answer_logprob") if loss == "answer" else metric_of_run(batch, metric)
    sites = [Site("z", layer, stack.attention) for layer in range(stack.n_layers)]
    prompts = side(sides(model, batch), "clean")
    values = np.full((stack.n_layers, stack.n_heads, batch.n), np.nan)
    for rows in chunks(model, prompts, batch_size, graph=True):
        part = batch.subset(rows.tolist())
        _, here, slopes = gradients(model, part, sites, on="clean", metric=measured, batch_size=len(rows))
        gates = torch.stack(
            [(here[site].detach().cpu().double() * slopes[site].detach().cpu().double()).sum(-1) for site in sites]
        )
        real = side(sides(model, part), "clean").real(stack.attention, False, gates.shape[2]).cpu()
        gates = gates * real[None, :, :, None]  # [layer, n, position, head]
        gates = gates.abs().sum(2) if absolute == "token" else gates.sum(2).abs()
        values[..., rows.numpy()] = gates.transpose(1, 2).numpy()
    if normalize_layers:
        norms = np.sqrt((values.mean(2) ** 2).sum(1))
        if not (norms > 0).all():
            raise InterpError(
                "normalise head importance by layer",
                f"every head of layer {int(np.argmin(norms))} has importance 0",
                "use normalize_layers=False",
            )
        values = values / norms[:, None, None]
    metrics = {
        on: metric_values(model, batch, (), on=on, metric=measured, batch_size=batch_size) for on in ("clean", "corrupt")
    }
    return Measured(
        values=values,
        attention=stack.attention,
        baselines=metrics,
        metric=measured.name,
        signed=False,
        normalizer=None if normalize_layers else metrics["clean"] - metrics["corrupt"],
    )
