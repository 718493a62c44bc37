"""Effective span: how far back a head must see to keep most of its attention."""

from typing import Any, Literal

import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.streaming import Block
from interp.measures.attention_rows import distance, normalised, one_sequence, row_means
from interp.measures.measure import Measured, measure


@measure(
    sense="larger = the head needs tokens further away",
    formula="mean over rows i of min{s : Σ_{|i − j| < s} A[i, j] ≥ γ}; share: divided by the tokens that the row may see",
    source="ours; heads differ in the span they need: Sukhbaatar et al. 2019 (arXiv 1905.07799), MoA (arXiv 2406.14909)",
    does_not_show=(
        "That the head may be cut to this span: what lies beyond is little attention, not little effect (moa_influence asks "
        "that). A head that rests on the first token needs all of the text; exclude_bos=True asks about the rest."
    ),
    cost="one forward pass, read in blocks of rows",
    about="attention",
)
def effective_span(
    model: Any,
    batch: Any,
    *,
    gamma: float = 0.9,
    value: Literal["tokens", "share"] = "tokens",
    exclude_bos: bool = False,
    queries: str | None = None,
    attention: str | None = None,
    batch_size: int | None = None,
) -> Measured:
    """The smallest window around each token that keeps the share ``gamma`` of a head's attention, mean over rows.

    ``values[layer, head, prompt]``: tokens, the query's own included (1: it needs no other; where attention sees both ways,
    s reaches s − 1 tokens to each side), or a share of those it may see.

    Args:
        exclude_bos: the first token is kept in any case (as windows with sinks do): γ of the rest is asked for.
        queries: only the rows of this span (or ``"end"``); None: all, but for the first of causal attention.
        attention: ``self`` or ``encoder``; None: the model's main attention. batch_size: changes no number.
    """
    stack = model.stack(attention)
    one_sequence(stack, "measure the effective span")
    if not 0 < gamma <= 1:
        raise InterpError(f"keep the share {gamma} of attention", "a share is above 0 and at most 1", "use gamma=0.9, say")
    found = row_means(model, batch, {"span": lambda block: span(block, gamma, value, exclude_bos)}, queries=queries,
                      attention=attention, batch_size=batch_size)["span"]
    return Measured(values=found, attention=stack.attention, metric="tokens" if value == "tokens" else "share of tokens")


def span(block: Block, gamma: float = 0.9, value: str = "tokens", exclude_bos: bool = False) -> Tensor:
    """The effective span of each row of a block [prompt, head, row]."""
    weights, away = normalised(block, exclude_bos), distance(block)
    by_distance = torch.zeros_like(weights).scatter_add_(-1, away.expand_as(weights), weights)
    enough = by_distance.double().cumsum(-1) >= gamma - 1e-6
    found = enough.int().argmax(-1) + 1.0
    whole = away.masked_fill(away > block.rows[:, None], 0).amax(-1) + 1 if block.stack.causal else away.amax(-1) + 1
    found = torch.where(weights.isfinite().all(-1), found, torch.nan)
    return found if value == "tokens" else found / whole
