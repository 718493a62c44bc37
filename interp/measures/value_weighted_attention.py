"""Value-weighted attention: how much each head moves from where, attention times the norm of what is moved."""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.core.registry import unknown
from interp.engine.prompts import Prompts, chunks, selected, side, sides
from interp.measures.divergence import mean_over_tokens
from interp.measures.measure import Measured, measure
from interp.measures.positions import places, spread, tokens
from interp.models.sites import Site


@measure(
    sense="larger = the head moves more (total), or a larger part of what it moves comes from those keys (share)",
    formula=(
        "Σ_{j in keys} ‖A_ij v_j W_O‖ at query i (total); that / Σ over all j (share); v_j with its bias, mean over the "
        "query tokens of a position"
    ),
    source="Kobayashi et al. 2020 (arXiv 2004.10102), norm-based analysis: ‖α f(x)‖ in place of α",
    does_not_show=(
        "What comes out: vectors from several keys may cancel in the sum, and a large write may point where nothing reads. "
        "Norms are taken before a post-norm, and without the output bias, which comes from no key."
    ),
    cost="one forward pass",
    about="output",
)
def value_weighted_attention(
    model: Any,
    batch: Any,
    *,
    value: Literal["total", "share"] = "total",
    keys: str | int | tuple[str, ...] | None = None,
    positions: str | tuple[str, ...] | None = "end",
    attention: str | None = None,
    batch_size: int | None = None,
) -> Measured:
    """How much each head moves from some keys: attention times the norm of what is moved.

    ``values[layer, head, prompt]`` ≥ 0: in units of the residual stream (``total``) or from 0 to 1 (``share``). A sink whose
    value is small has a large weight and a small share.

    Args:
        keys: a span's name, several, a token index (0: the first token); None: all keys.
        positions: the queries: ``end``, a span, several (a further axis), ``each``, None (the mean over all tokens).
        attention: ``self``, ``encoder``, ``cross`` or ``vision``; None: the model's main attention.
        batch_size: prompts per pass; changes no number.

    NaN where a prompt has no such query, and for a share of nothing.

    Raises:
        InterpError: an unknown span; the share of all keys.
    """
    if value == "share" and keys is None:
        raise InterpError("take the share of all keys", "it is 1 everywhere", "name keys: a span, or a token index")
    stack = model.stack(attention)
    prompts = side(sides(model, batch), "clean")
    axes, found = places(model, batch, prompts, positions, Site("pattern", 0, stack.attention))
    values = np.full((len(found), stack.n_layers, stack.n_heads, batch.n), np.nan)
    sites = [Site(what, layer, stack.attention) for layer in range(stack.n_layers) for what in ("pattern", "v")]
    for rows in chunks(model, prompts, batch_size, held=sites):
        here = prompts.take(rows)
        with torch.no_grad():
            captured = model.run(here.inputs, capture=sites).captured
        for layer in range(stack.n_layers):
            pattern, v = (captured[Site(what, layer, stack.attention)] for what in ("pattern", "v"))
            moved = moved_norms(pattern, v, model.W_O(layer, stack.attention))
            read = _per_query(moved, here, keys, stack.attention, value == "share")
            for i, place in enumerate(found):
                chosen = tokens(here, place.at, Site("pattern", layer, stack.attention), read.shape[1])
                values[i, layer][:, rows.numpy()] = mean_over_tokens(read, chosen).T.cpu().numpy()
    return Measured(values=spread(list(values), found, axes), attention=stack.attention, axes=axes,
                    metric="share of what is moved" if value == "share" else "norm of what is moved")


def moved_norms(pattern: Tensor, v: Tensor, w_o: Tensor) -> Tensor:
    """‖A_ij v_j W_O‖ for every query and key: [prompt, head, query, key], float64.

    Args:
        pattern: [prompt, head, query, key]. v: [prompt, key, kv_head, d_head]. w_o: [head, d_head, d_model].
    """
    v = v.double().repeat_interleave(w_o.shape[0] // v.shape[2], dim=2)
    sizes = torch.stack([(v[:, :, head] @ w_o[head].double()).norm(dim=-1) for head in range(w_o.shape[0])], dim=1)
    return pattern.double() * sizes[:, :, None]


def _per_query(moved: Tensor, prompts: Prompts, keys: Any, attention: str, share: bool) -> Tensor:
    """[prompt, query, head]: the sum over the keys asked for, or their share of the sum over all."""
    n_keys = moved.shape[-1]
    if attention == "vision" and isinstance(keys, str):
        raise unknown("key of an image", keys, ["None", "a patch index"])
    chosen = selected(prompts, keys, attention, of_keys=True, length=n_keys)
    asked = (moved * chosen[:, None, None]).sum(-1)
    if share:
        whole = moved.sum(-1)
        asked = torch.where(whole > 0, asked / whole, torch.nan)
    return asked.transpose(1, 2)
