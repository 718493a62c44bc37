"""k-hop profile: how much attention goes to neighbours 0, 1, 2, ... steps away, on text and on image grids."""

from typing import Any, Literal

import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.streaming import Block
from interp.measures.attention_rows import Statistic, distance, grid_offsets, one_sequence, row_means, visible
from interp.measures.measure import Measured, measure


@measure(
    sense="larger = more of the head's attention goes to the tokens so many steps away",
    formula="mean over i of Σ_{j ∈ N_k(i)} A[i, j]; per token: divided by |N_k(i)|; N_k(i): the tokens with |i − j| = k, or "
            "the patches whose rows and columns differ by k at most and by k in one (Chebyshev)",
    source="after Li et al. 2023 (arXiv 2303.13731), whose formulas we have not read: the derivation is ours",
    does_not_show=(
        "Why a head is local. More patches are k steps away the larger k is, so that a head which looks everywhere alike "
        "has a rising profile (value='per token' has none); fewer at the rim."
    ),
    cost="one forward pass, read in blocks of rows",
    about="attention",
)
def hop_profile(
    model: Any,
    batch: Any,
    *,
    hops: int = 4,
    value: Literal["total", "per token"] = "total",
    first_apart: bool = True,
    queries: str | None = None,
    grid: tuple[int, ...] | None = None,
    attention: str | None = None,
    batch_size: int | None = None,
) -> Measured:
    """Share of each head's attention by distance: to the token itself, its neighbours, theirs, and so on.

    ``values[layer, head, prompt, hop]``, hop = ``"0"`` ... ``hops``, ``"beyond"``, and ``"first"`` for the first token (in
    images, class and register tokens), if that is set apart. Totals of a row sum to 1 (less what a learned sink takes); per
    token, the mean weight of one of them, NaN where no row has such a neighbour.

    Args:
        hops: the last distance that is listed by itself.
        first_apart: text: the first token is not counted by its distance; images: always so, and only patches are queries.
        queries: only the rows of this span (or ``"end"``); None: all, but for the first of causal attention.
        grid: rows and columns of an image's patches; None: a square, and what is left over stands before it.
        attention: ``self``, ``encoder`` or ``vision``; None: the model's main attention.
        batch_size: prompts that are run together; changes no number.
    """
    stack = model.stack(attention)
    one_sequence(stack, "measure a profile of distances", images=True)
    if hops < 0:
        raise InterpError(f"list distances up to {hops}", "the nearest token is 0 steps away", "use 0 or more")
    image = stack.attention == "vision"
    profile = shares(hops, value, first_apart or image, steps_in_images(grid) if image else steps_in_text)
    found = row_means(model, batch, {"hop": profile}, queries=queries, attention=attention, batch_size=batch_size)["hop"]
    axis = (*map(str, range(hops + 1)), "beyond", *(["first"] if first_apart or image else []))
    unit = "share of attention" if value == "total" else "attention weight"
    return Measured(values=found, attention=stack.attention, axes={"hop": axis}, metric=unit)


def steps_in_text(block: Block) -> tuple[Tensor, int]:
    """Steps from each row to each key [row, key], and how many tokens stand apart."""
    return distance(block), 1


def steps_in_images(grid: tuple[int, ...] | None = None) -> Any:
    """The same for patches; rows of tokens that stand apart have −1."""
    def steps(block: Block) -> tuple[Tensor, int]:
        offsets, apart = grid_offsets(block.keys, grid)
        chebyshev = offsets.amax(-1).long().to(block.tensor.device)
        return torch.nn.functional.pad(chebyshev, (apart, 0, apart, 0), value=-1), apart

    return steps


def shares(hops: int, value: str = "total", apart: bool = True, steps: Any = steps_in_text) -> Statistic:
    """The profile of each row [prompt, head, row, bin]."""
    def profile(block: Block) -> Tensor:
        away, first = steps(block)
        bins = away.clamp(max=hops + 1)
        bins[:, :first] = hops + 2 if apart else bins[:, :first]
        no_query = (away[:, -1:] < 0).expand_as(bins)
        bins = bins.masked_fill(no_query, 0)
        weights = block.tensor.float()
        count = hops + 3 if apart else hops + 2
        totals = weights.new_zeros(*weights.shape[:3], count).scatter_add_(-1, bins.expand_as(weights), weights)
        if value == "per token":
            number = totals.new_zeros(len(bins), count).scatter_add_(-1, bins, visible(block).float())
            totals = totals / torch.where(number > 0, number, torch.nan)
        return totals.masked_fill(no_query[:, :1], torch.nan)

    return profile
