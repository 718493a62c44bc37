"""Copying score: whether a head raises the logits of the tokens that it attends to, prompt by prompt."""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from interp.engine.prompts import Prompts, chunks, side, sides
from interp.measures.logit_decomposition import decoder
from interp.measures.measure import Measured, measure
from interp.measures.positions import places, spread, tokens
from interp.models.sites import Site


@measure(
    sense="larger = what the head raises is what it attends to; 1 = that alone; spread evenly it is 1 / number of tokens",
    formula=(
        "mean over queries i of Σ_t w_i(t) · relu(c_i(t)) / Σ_u relu(c_i(u)), t and u the distinct tokens of the prompt, "
        "w_i(t) the head's attention on all places of t, c_i(t) the direct logit of t in the head's output at i (final "
        "norm frozen), less their mean; logit: Σ_t w_i(t) c_i(t)"
    ),
    source=(
        "Olsson et al. 2022 (arXiv 2209.11895), appendix on head evaluators: random tokens, raised logits of the tokens "
        "attended to. The text gives steps and no formula: the share by ReLU follows it as we understand it, to be read "
        "as ours"
    ),
    does_not_show=(
        "Induction: a head that attends to itself and writes it copies too (compare prefix matching). The effect through "
        "later heads is left out, and with few distinct tokens the score is high by chance."
    ),
    cost="one forward pass, and the logits of the prompt's own tokens for every head and query",
    about="output",
)
def copying_score(
    model: Any,
    batch: Any,
    *,
    value: Literal["share", "logit"] = "share",
    attended: Literal["weighted", "largest"] = "weighted",
    positions: str | tuple[str, ...] | None = None,
    horizon: int = 64,
    batch_size: int | None = None,
) -> Measured:
    """Whether a head raises the logits of the tokens that it attends to.

    ``values[layer, head, prompt]``: a share from 0 to 1, or logits (``value="logit"``, signed: negative for heads that
    suppress what they attend to). As published on random tokens: ``interp.tasks.random_texts(model, n, length=25)``.

    Args:
        attended: ``weighted``: all tokens by their attention; ``largest``: the token of the largest weight alone.
        positions: the queries: None (all but the first token), ``end``, a span, several (a further axis), ``each``.
        horizon: tokens of each prompt that take part; queries beyond it have no value.
        batch_size: prompts per pass; changes no number.

    Raises:
        InterpError: the model is no decoder, or its logits are not a norm and one matrix of the residual stream.
    """
    stack = decoder(model)
    prompts = side(sides(model, batch), "clean")
    axes, found = places(model, batch, prompts, positions, Site("z", 0))
    sites = [Site(what, layer) for layer in range(stack.n_layers) for what in ("z", "attn_out", "pattern")]
    last = Site("resid_post", stack.n_layers - 1)
    values = np.full((len(found), stack.n_layers, stack.n_heads, batch.n), np.nan)
    for rows in chunks(model, prompts, batch_size, held=[*sites, last]):
        here = prompts.take(rows)
        with torch.no_grad():
            captured = model.run(here.inputs, capture=[*sites, last]).captured
        for i, row in enumerate(rows.tolist()):
            there = here.mask[i].nonzero()[:, 0][:horizon]
            chosen = torch.stack([tokens(here, place.at, Site("z", 0), here.mask.shape[1])[i, there] for place in found])
            chosen[:, 0] = False
            for layer in range(stack.n_layers):
                copied = _of_prompt(model, here, captured, last, i, there, layer, value, attended)     # [head, query]
                for at, queries in enumerate(chosen):
                    if bool(queries.any()):
                        values[at, layer, :, row] = copied[:, queries].mean(1).cpu().numpy()
    return Measured(values=spread(list(values), found, axes), attention="self", axes=axes, signed=value == "logit",
                    metric="logit" if value == "logit" else "share of raised logits")


def _of_prompt(model: Any, here: Prompts, captured: Any, last: Site, i: int, there: Tensor, layer: int, value: str,
               attended: str) -> Tensor:
    """[head, query]: the score of each query of prompt ``i`` in one layer."""
    ids, index = here.inputs["input_ids"][i, there].unique(return_inverse=True)
    z, out = captured[Site("z", layer)][i, there], captured[Site("attn_out", layer)][i, there]
    results = torch.einsum("qhd,hdm->hqm", z, model.W_O(layer).detach().to(z))
    with torch.no_grad():
        written = model.backend.write_parts("attn_out", layer, results[:, None], out[None])[:, 0]
        logits = model.backend.logit_parts(written, captured[last][i, there], ids.expand(len(there), -1))
    pattern = captured[Site("pattern", layer)][i][:, there][:, :, there].double()
    weights = pattern.new_zeros(*pattern.shape[:2], len(ids)).index_add_(2, index, pattern)
    return copied_by_query(logits.double(), weights, value, attended)


def copied_by_query(logits: Tensor, weights: Tensor, value: str = "share", attended: str = "weighted") -> Tensor:
    """[..., query] from direct logits and attention of each distinct token, both [..., query, token].

    A query that raises nothing scores 0.
    """
    if attended == "largest":
        weights = torch.nn.functional.one_hot(weights.argmax(-1), weights.shape[-1]).to(weights)
    centred = logits - logits.mean(-1, keepdim=True)
    if value == "logit":
        return (weights * centred).sum(-1)
    raised = centred.relu()
    total = raised.sum(-1)
    return torch.where(total > 0, (weights * raised).sum(-1) / total.clamp_min(torch.finfo(total.dtype).tiny), 0.0)
