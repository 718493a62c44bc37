"""Top-k mass: how much of a head's attention its few largest keys hold."""

from typing import Any, Literal

import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.streaming import Block
from interp.measures.attention_rows import normalised, row_means, visible
from interp.measures.measure import Measured, measure


@measure(
    sense="mass: larger = fewer keys hold the attention; keys, share: larger = more keys are needed",
    formula="mass: mean over rows of the sum of the k largest A[i, j]; keys: of the smallest number of keys whose weights "
            "reach γ; share: of that number over the keys the row may see",
    source="the statistic behind top-k attention; smallest set of cumulative weight γ: FlexPrefill (arXiv 2502.20766)",
    does_not_show=(
        "That the other keys can go: their values may be large. A sink alone makes the mass large (exclude_bos=True), "
        "and so do short prompts, where k keys are most of them."
    ),
    cost="one forward pass, read in blocks of rows",
    about="attention",
)
def top_k_mass(
    model: Any,
    batch: Any,
    *,
    value: Literal["mass", "keys", "share"] = "mass",
    k: int = 5,
    gamma: float = 0.9,
    exclude_bos: bool = False,
    queries: str | None = None,
    attention: str | None = None,
    batch_size: int | None = None,
) -> Measured:
    """Share of each row's attention on its ``k`` largest keys, or how many keys hold the share ``gamma`` of it.

    ``values[layer, head, prompt]``: a share from 0 to 1, or a number of keys.

    Args:
        exclude_bos: the first token left out and the rest of each row made to sum to one.
        queries: only the rows of this span (or ``"end"``); None: all, but for the first of causal attention.
        attention: ``self``, ``encoder``, ``cross`` or ``vision``; None: the model's main attention.
        batch_size: prompts that are run together; changes no number.
    """
    stack = model.stack(attention)
    if k < 1 or not 0 < gamma <= 1:
        raise InterpError(f"find the {k} largest keys, or those with the share {gamma}", "there is at least one key, and a "
                          "share is above 0 and at most 1", "use k=5, gamma=0.9, say")
    found = row_means(model, batch, {"top": lambda block: top(block, value, k, gamma, exclude_bos)}, queries=queries,
                      attention=attention, batch_size=batch_size)["top"]
    unit = {"mass": "share of attention", "keys": "keys", "share": "share of keys"}[value]
    return Measured(values=found, attention=stack.attention, metric=unit)


def top(block: Block, value: str = "mass", k: int = 5, gamma: float = 0.9, exclude_bos: bool = False) -> Tensor:
    """Mass of the largest keys, or their number, of each row of a block [prompt, head, row]."""
    weights = normalised(block, exclude_bos)
    if value == "mass":
        return weights.topk(min(k, weights.shape[-1]), dim=-1).values.sum(-1)
    enough = weights.sort(dim=-1, descending=True).values.double().cumsum(-1) >= gamma - 1e-6
    number = torch.where(weights.isfinite().all(-1), enough.int().argmax(-1) + 1.0, torch.nan)
    return number if value == "keys" else number / visible(block, exclude_bos).sum(-1)
