"""Key bias of the first token: how much better its key fits the queries than other keys do."""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from interp.engine.edits import NEVER
from interp.engine.streaming import Block, Fold, per_row, stream
from interp.measures.measure import Measured, measure
from interp.measures.sink_statistics import over_prompts
from interp.models.backend import Stack


@measure(
    sense="larger = the first key is preferred to the others, whatever the query",
    formula=(
        "margin: mean over rows i of s(i, 1) − mean_{1 < j ≤ i} s(i, j), s the score before the softmax; cosine: mean over "
        "rows of cos(q_i, k_1)"
    ),
    source="Gu et al. 2025 (arXiv 2410.10781), who find a large cos(q, k_1) and call a sink a key bias; the margin is ours",
    does_not_show=(
        "How much attention follows from it: among many keys the margin must grow with the logarithm of their number."
    ),
    cost="one forward pass; in decoders read in blocks of rows, some 128 MiB of attention at a time, elsewhere by layer",
    about="attention",
)
def sink_key_bias(
    model: Any,
    batch: Any,
    *,
    value: Literal["margin", "cosine"] = "margin",
    horizon: int | None = None,
    attention: str | None = None,
    batch_size: int | None = None,
) -> Measured:
    """By how much the first token's key is preferred: score above the other keys' mean, or cosine with the queries.

    ``values[layer, head, prompt]``: in nats (a margin of m multiplies its weight by exp(m) against an average key), or −1 to
    1. The margin leaves out rows that see no other token, or not the first (sliding windows); NaN where none is left. The
    scores are the network's own, with scale, position bias and soft cap; queries and keys those after rotary embedding.

    Args:
        horizon: tokens of each prompt that are read; None: all. Causal attention only.
        attention, batch_size: see ``first_token_sink``.
    """
    stack = model.stack(attention)
    until = horizon if stack.causal else None
    given = {"attention": attention, "until": until, "batch_size": batch_size}
    if value == "margin":
        rows = stream(model, batch, {"margin": per_row("scores", _margin)}, **given)["margin"]
        values = [one.nanmean(dim=-1).numpy() for one in rows]
        return Measured(values=over_prompts(values), attention=stack.attention, metric="nats")
    found = stream(model, batch, cosine_folds(stack), **given)
    values = [key_cosine(q.numpy(), k.numpy(), stack.group) for q, k in zip(found["query"], found["first_key"], strict=True)]
    return Measured(values=over_prompts(values), attention=stack.attention, metric="cosine")


def cosine_folds(stack: Stack) -> dict[str, Fold]:
    """What is kept for ``key_cosine``: the mean direction of the queries [head, d_qk] (in causal attention without the
    first), and the direction of the first key [kv_head, d_qk]."""
    skip = 1 if stack.causal else 0

    def query(kept: Tensor | None, block: Block) -> Tensor:
        rows = block.tensor[:, max(0, skip - block.first) :]
        part = normalize(rows.float(), dim=-1).sum(dim=1) / max(1, block.length - skip)
        return part if kept is None else kept + part

    def first(kept: Tensor | None, block: Block) -> Tensor:
        return normalize(block.tensor[:, 0].float(), dim=-1) if kept is None else kept

    return {"query": Fold("q", query), "first_key": Fold("k", first)}


def key_cosine(query: np.ndarray, first_key: np.ndarray, group: int) -> np.ndarray:
    """Mean over queries of their cosine with the first key [layer, head]; NaN without a query after the first."""
    cosine = (query * np.repeat(first_key, group, axis=1)).sum(-1, dtype=np.float64)
    return np.where((query != 0).any(-1), cosine, np.nan)


def _margin(block: Block) -> Tensor:
    scores = block.tensor.float()
    seen = (scores > max(torch.finfo(block.tensor.dtype).min / 2, NEVER)).expand_as(scores)
    first = seen[..., 0]
    others = seen.clone()
    others[..., 0] = False
    number = others.sum(dim=-1)
    mean = torch.where(others, scores, 0).sum(dim=-1) / number
    return torch.where(first & (number > 0), scores[..., 0] - mean, torch.nan)

