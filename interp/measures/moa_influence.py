"""Attention influence of MoA: what the metric loses, to first order, when a head's span is cut."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.gradients import gradients
from interp.measures.each_head import metric_of_run
from interp.measures.measure import Measured, measure
from interp.models.sites import Site
from interp.tasks.metrics import Metric


@measure(
    sense="larger = the metric loses more when the head no longer sees what is further away",
    formula=(
        "sum of E_ij over the keys j that a window of s tokens and the first tokens leave out; E_ij = −A_ij (g_ij − Σ_k "
        "A_ik g_ik) / (1 − A_ij), g = d loss / dA, loss = −metric"
    ),
    source="MoA (Fu et al. 2024, arXiv 2406.14909); blocks of one token",
    does_not_show=(
        "What happens when many weights go at once: each E_ij is a first-order estimate for dropping one key alone, with "
        "the rest of the row made to sum to one, and the estimates are added. Keys that hold a whole row have none."
    ),
    cost="one forward and one backward pass, all patterns of the prompts in a pass held",
)
def moa_influence(
    model: Any,
    batch: Any,
    *,
    spans: tuple[int, ...] = (2, 4),
    keep_first: int = 0,
    metric: str | Metric | None = "answer_logprob",
    attention: str | None = None,
    batch_size: int | None = None,
) -> Measured:
    """What the metric would lose by MoA's estimate if a head saw its last ``span`` tokens only (and the first ones).

    ``values[layer, head, prompt, span]`` in the metric's units; negative: it would gain.

    Args:
        spans: tokens that remain visible, the query's own included; MoA chooses among such spans for each head.
        keep_first: tokens at the beginning of the prompt that stay visible (MoA: 64).
        metric: the loss is its negative; published: the loss of the answer's tokens. None: the batch's.
        attention: ``self``; None: the model's main attention. batch_size: prompts per pass (None: one); no number changes.

    Raises InterpError for attention that is not causal, a span below 1, a metric without a gradient.
    """
    stack = model.stack(attention)
    if not stack.causal or stack.attention != "self":
        raise InterpError(f"cut the span of {stack.attention} attention", "spans reach back in a text",
                          "use the attention of a decoder")
    if min(spans) < 1 or keep_first < 0 or len(set(spans)) < len(spans):
        raise InterpError(f"cut attention to the spans {spans}", "a token sees itself, and each span is listed once",
                          "use different spans of 1 or more, and keep_first of 0 or more")
    chosen = metric_of_run(batch, metric)
    sites = [Site("pattern", layer, stack.attention) for layer in range(stack.n_layers)]
    values = []
    for some in torch.arange(batch.n).split(batch_size or 1):
        part = batch.subset(some.tolist())
        found = gradients(model, part, sites, metric=chosen)
        real = part.clean.mask.bool()
        values.append(np.stack([
            beyond(influence(found.activations[site], -found.gradients[site]), real, spans, keep_first).cpu().numpy()
            for site in sites]))
    joined = np.concatenate(values, axis=1).transpose(0, 2, 1, 3)
    return Measured(values=joined, attention=stack.attention, axes={"span": tuple(spans)}, metric=chosen.name)


def influence(pattern: Tensor, slope: Tensor) -> Tensor:
    """E [..., row, key] from pattern and slope of the loss; 0 where a key holds its whole row."""
    a, g = pattern.detach().double(), slope.double()
    rest = 1 - a
    change = -a * (g - (a * g).sum(-1, keepdim=True)) / rest.clamp(min=1e-9)
    return torch.where(rest > 1e-6, change, 0)


def beyond(found: Tensor, real: Tensor, spans: tuple[int, ...], keep_first: int = 0) -> Tensor:
    """Sums of ``found`` [prompt, head, row, key] over what each span leaves out: [prompt, head, span].

    ``real``: which tokens are no padding [prompt, position]."""
    order = real.to(found.device).long().cumsum(-1) - 1
    away = order[:, :, None] - order[:, None]
    there = real.to(found.device)
    there = there[:, :, None] & there[:, None] & (away >= 0) & (order[:, None] >= keep_first)
    return torch.stack([torch.where((there & (away >= span))[:, None], found, 0).sum((-1, -2)) for span in spans], dim=-1)
