"""Attention against saliency: whether a head attends to the tokens that the metric depends on."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from interp.core.errors import InterpError
from interp.engine.activations import activations
from interp.engine.prompts import Prompts, selected, side, sides
from interp.measures.attention_graph import answers
from interp.measures.each_head import metric_of_run
from interp.measures.measure import Measured, measure
from interp.measures.saliency import saliency
from interp.models.backend import Stack
from interp.models.sites import Site
from interp.tasks.metrics import Metric


@measure(
    sense="larger = the head attends most to the tokens that the metric depends on most; 0 = no relation",
    formula=(
        "correlation over keys (Kendall's τ_b, Spearman's ρ or Pearson's r) of the attention row at the answer position "
        "with the tokens' saliency: |x · ∂m/∂x|, ‖∂m/∂x‖, |∫ (x − x₀) · ∂m/∂x| or |m − m(x → x₀)|"
    ),
    source=(
        "Jain and Wallace 2019 (arXiv 1902.10186): Kendall's τ with gradients by the input (one-hot, so x · ∂m/∂x) and with "
        "leaving tokens out; Sundararajan et al. 2017 (integrated gradients); cross-attention against saliency of the input "
        "and of the encoder's states after Papi et al. 2025 (arXiv 2509.18010), who use Pearson's r and another saliency"
    ),
    does_not_show=(
        "That attention explains the output, or fails to: saliency is no ground truth either (its kinds disagree with each "
        "other), one head is one of many, and its tokens have been mixed by earlier layers (of='states' compares within the "
        "layer). Few keys make the correlation coarse."
    ),
    cost="one forward pass and, for each site of saliency (one; of='states': one a layer): one backward pass (gradients), "
    "``steps`` of them (integrated gradients), or one forward pass a token (occlusion)",
    about="attention",
)
def attention_saliency(
    model: Any,
    batch: Any,
    *,
    saliency_by: Literal["gradient x input", "gradient", "integrated gradients", "occlusion"] | None = None,
    correlation: Literal["kendall", "spearman", "pearson"] = "kendall",
    of: Literal["input", "states"] = "input",
    baseline: Literal["mean", "zero"] = "mean",
    steps: int = 16,
    attention: str | None = None,
    metric: str | Metric | None = None,
    batch_size: int | None = None,
) -> Measured:
    """Whether a head attends to the tokens that the metric depends on.

    ``values[layer, head, prompt]`` from −1 to 1; NaN where a row of attention or the saliency is constant, or there are
    fewer than three keys. Keys that the answer position cannot see take no part.

    Args:
        saliency_by: how much the metric depends on a token: see the formula; ``integrated gradients`` and ``occlusion`` set
            tokens to ``baseline``. None: ``gradient x input`` as published, and ``gradient`` for states.
        correlation: ``kendall`` as published.
        of: ``input``: what enters the first layer (of the encoder, for cross-attention), positions included; ``states``: the
            residual stream that enters the head's own layer (for cross-attention, the encoder's last).
        baseline: the ``mean`` of the prompt's own tokens at that place, or ``zero`` (in models with a norm in front of every
            layer zero is a singular point).
        steps: points of the integral (midpoints).
        attention: ``self``, ``encoder`` or ``cross``; None: the model's main attention.
        metric: None: the batch's. It must be differentiable, but for occlusion.
        batch_size: prompts per pass; changes no number.

    ``baselines`` of integrated gradients of the input: ``difference`` of the metric between the prompt and the baseline, and
    the ``residual`` that the integral misses of it.

    Raises:
        InterpError: images; prompts without a metric; a metric without gradient; fewer than one step; ``gradient x input``
            of states: what is read through a norm does not change with a vector's length, so that x · ∂m/∂x vanishes in the
            last layer and for the encoder's states, and its order is that of rounding errors.
    """
    stack, measured = model.stack(attention), metric_of_run(batch, metric)
    if stack.attention == "vision":
        raise InterpError("correlate attention with saliency of image patches", "patches are no tokens of the prompt",
                          "use a language model")
    if steps < 1:
        raise InterpError(f"integrate gradients in {steps} steps", "there is nothing to sum", "use 1 or more")
    by = saliency_by or ("gradient x input" if of == "input" else "gradient")
    if by == "gradient x input" and of == "states":
        raise InterpError("multiply gradients with states", "behind a norm the length of a vector does not matter, so "
                          "the product vanishes wherever states are read through a norm alone", "use saliency_by='gradient'")
    sites = saliency_sites(model, stack, of)
    prompts = side(sides(model, batch), "clean")
    found = {site: saliency(model, batch, site, by, measured, baseline=baseline, steps=steps, batch_size=batch_size)
             for site in dict.fromkeys(sites)}
    values = np.full((stack.n_layers, stack.n_heads, batch.n), np.nan)
    for layer, site in enumerate(sites):
        pattern = Site("pattern", layer, stack.attention)
        rows = activations(model, batch, [pattern], batch_size=batch_size)[pattern]
        length = rows.shape[-1]
        queries = answers(prompts, stack.attention, selected(prompts, None, stack.attention, length=rows.shape[2]))
        seen = visible(prompts, stack, length).cpu().numpy()
        for i in range(batch.n):
            read = rows[i, :, int(queries[i])].double().cpu().numpy()[:, seen[i]]
            values[layer, :, i] = [correlate(row, found[site].tokens[i, seen[i]], correlation) for row in read]
    facts = found[sites[0]].facts if of == "input" else {}
    return Measured(values=values, attention=stack.attention, baselines=facts, metric=f"correlation ({correlation})",
                    signed=True, notes={"saliency": by})


def saliency_sites(model: Any, stack: Stack, of: str) -> list[Site]:
    """For each layer of the stack, where its keys' saliency is read."""
    source = "encoder" if stack.attention == "cross" else stack.attention
    if of == "input":
        return [Site("resid_pre", 0, source)] * stack.n_layers
    if stack.attention == "cross":
        return [Site("resid_post", model.stack("encoder").n_layers - 1, "encoder")] * stack.n_layers
    return [Site("resid_pre", layer, source) for layer in range(stack.n_layers)]


def visible(prompts: Prompts, stack: Stack, length: int) -> Any:
    """Which keys the query that is read may see: bool [n, key] (a sliding window is not taken into account)."""
    real = selected(prompts, None, stack.attention, of_keys=True, length=length)
    if not stack.causal or stack.attention == "cross":
        return real
    places = real.cumsum(1)
    return real & (places <= places.gather(1, prompts.answer[:, None]))


def correlate(attention: NDArray[np.float64], salient: NDArray[np.float64], how: str) -> float:
    """The correlation of two rows [key]; NaN where one of them is constant, or for fewer than three keys."""
    if len(attention) < 3 or np.ptp(attention) == 0 or np.ptp(salient) == 0:
        return float("nan")
    by = {"kendall": stats.kendalltau, "spearman": stats.spearmanr, "pearson": stats.pearsonr}[how]
    return float(by(attention, salient).statistic)
