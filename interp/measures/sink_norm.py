"""Norm of the first token's key, value or hidden state against the others'."""

from typing import Any, Literal

import numpy as np

from interp.engine.streaming import per_row, stream
from interp.measures.measure import Measured, measure
from interp.measures.sink_statistics import over_prompts


@measure(
    sense="smaller = the first token's value (or key) is small beside the others': what a sink moves is little",
    formula="‖x_1‖ / mean_{j > 1} ‖x_j‖, x the value or key of each token",
    source="Gu et al. 2025 (arXiv 2410.10781): a sink has a small value and key norm",
    does_not_show="That nothing is moved: a small value may meet large output weights, and much attention.",
    cost="one forward pass",
    about="output",
)
def sink_norm(
    model: Any,
    batch: Any,
    *,
    component: Literal["v", "k"] = "v",
    token: int = 0,
    horizon: int | None = None,
    attention: str | None = None,
    batch_size: int | None = None,
) -> Measured:
    """How long the first token's value (or key) is, as a multiple of the mean of the others.

    ``values[layer, kv_head, prompt]`` ≥ 0: 1 = as long as the others. Counts key-value heads (``unit="kv_head"``). NaN for
    a prompt of one token, or without that token.

    Args:
        component: ``v``, or ``k`` after rotary embedding (which keeps norms).
        token: counted from the first; -1 is the last.
        horizon: tokens of each prompt that are read; None: all. Causal attention only.
        attention, batch_size: see ``first_token_sink``.
    """
    stack = model.stack(attention)
    norms = stream(model, batch, {"norm": per_row(component, lambda block: block.tensor.float().norm(dim=-1), axis=1)},
                   attention=attention, until=horizon if stack.causal else None, batch_size=batch_size)["norm"]
    values = [norm_ratio(one.numpy(), token) for one in norms]
    return Measured(values=over_prompts(values), attention=stack.attention, unit="kv_head", group=stack.group,
                    metric="ratio of norms")


def norm_ratio(norms: np.ndarray, token: int = 0) -> np.ndarray:
    """Norm of one token over the mean norm of the others [layer, head], of norms [layer, position, head]."""
    length = norms.shape[1]
    at = token if token >= 0 else length + token
    if length < 2 or not 0 <= at < length:
        return np.full((norms.shape[0], norms.shape[2]), np.nan)
    others = np.delete(norms, at, axis=1).astype(np.float64).mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(others > 0, norms[:, at] / others, np.nan)
