"""Distinct against common tokens: does a head attend to what tells the next token apart, or to what stands everywhere?"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from interp.core.errors import InterpError
from interp.engine.prompts import chunks, side, sides
from interp.measures.measure import Measured, measure
from interp.models.sites import Site

DISTINCT, COMMON, RARE = "distinct", "common", "rare"


@measure(
    about="attention",
    sense=(
        "larger = more of the attention lies on distinct tokens (value='entropy': it is spread wider); followed over "
        "checkpoints, distinct tokens gain while the head scans, and shares stand still once it has snapped"
    ),
    formula=(
        "Σ_{k: token k is distinct} A[last, k] / Σ_k A[last, k] over the keys before the query; distinct: seen with one "
        "next token only, common: with several; lift: that share − the same of even attention; entropy: −Σ_k p_k ln p_k"
    ),
    source=(
        "Tian et al. 2023 (Scan and Snap, arXiv 2305.16380): tokens with P(token | next token) > 0 for one next token "
        "(distinct) or several (common), in a model of one layer without positions; the counts from prompts are ours"
    ),
    does_not_show=(
        "That attention causes the prediction. Which tokens are distinct is counted in these prompts alone: with few "
        "prompts every token is distinct (see least, and the even shares in the provenance); and positions, of which the "
        "theory knows nothing, may explain a share (compare value='lift')."
    ),
    cost="one forward pass",
)
def scan_and_snap(
    model: Any,
    batch: Any,
    *,
    value: Literal["distinct", "common", "lift", "entropy"] = "distinct",
    query: Literal["left out", "kept"] = "left out",
    least: int = 1,
    batch_size: int | None = None,
) -> Measured:
    """Share of the last token's attention that lies on tokens which come with one answer only, or with several.

    ``values[layer, head, prompt]``: a share from 0 to 1 (``lift``: −1 to 1; ``entropy``: nats). The next token is the
    prompt's answer (the first of several). NaN where a head gives the keys that count no weight at all (a learned sink).

    Args:
        query: ``left out``: the query's own token is no key that counts (as published); weights are scaled to sum to 1.
        least: tokens that stand in fewer prompts are neither distinct nor common (published: 1 is enough).
        batch_size: prompts per pass; changes no number.

    Raises:
        InterpError: no causal self-attention; a prompt of one token; texts, which have no answers.
    """
    stack = model.stack("self")
    if not stack.causal:
        raise InterpError("follow the last token's attention", f"{model.name} attends both ways", "use a decoder")
    prompts = side(sides(model, batch), "clean")
    answers = batch.answers[:, 0].tolist()
    kinds = kinds_of(batch.clean.rows(), answers, least)
    kept = prompts.mask.clone()
    if query == "left out":
        kept[torch.arange(prompts.n), prompts.answer] = False
    if not bool(kept.any(1).all()):
        raise InterpError("follow the last token's attention", "a prompt has no token before it", "use longer prompts")
    chosen = {kind: torch.zeros_like(kept) for kind in (DISTINCT, COMMON)}
    for kind, where in chosen.items():
        where[prompts.mask] = torch.tensor([one == kind for row in kinds for one in row], device=where.device)
        where &= kept
    sites = [Site("pattern", layer) for layer in range(stack.n_layers)]
    values = np.full((stack.n_layers, stack.n_heads, batch.n), np.nan)
    for rows in chunks(model, prompts, batch_size, held=sites):
        here = prompts.take(rows)
        with torch.no_grad():
            captured = model.run(here.inputs, capture=sites).captured
        n = torch.arange(len(rows), device=here.answer.device)
        for layer, site in enumerate(sites):
            row = captured[site][n, :, here.answer].double() * kept[rows][:, None]
            share = row / row.sum(-1, keepdim=True)
            values[layer][:, rows.numpy()] = _value(share, value, {kind: w[rows] for kind, w in chosen.items()}, kept[rows])
    even = {f"even share {kind}": round(float((where.sum(1) / kept.sum(1)).double().mean()), 4)
            for kind, where in chosen.items()}
    return Measured(values=values, attention="self", metric="nats" if value == "entropy" else "share of attention",
                    signed=value == "lift", notes=even)


def kinds_of(rows: Sequence[Sequence[int]], answers: Sequence[int], least: int = 1) -> list[list[str]]:
    """``distinct``, ``common`` or ``rare`` for every token of every prompt: by how many answers, over all prompts, it stands
    in front of (as a contextual token: anywhere but at the end)."""
    seen: dict[int, list[int]] = {}
    for row, answer in zip(rows, answers, strict=True):
        for token in set(row[:-1]):
            seen.setdefault(token, []).append(answer)

    def kind(token: int) -> str:
        found = seen.get(token, [])
        return RARE if len(found) < least else DISTINCT if len(set(found)) == 1 else COMMON

    return [[kind(token) for token in row] for row in rows]


def _value(share: torch.Tensor, value: str, chosen: dict[str, torch.Tensor], kept: torch.Tensor) -> np.ndarray:
    """[head, n] from shares [n, head, key]."""
    if value == "entropy":
        found = -torch.where(share > 0, share * share.clamp(min=1e-300).log(), 0.0 * share).sum(-1)
        return found.T.cpu().numpy()
    where = chosen[COMMON if value == "common" else DISTINCT]
    found = (share * where[:, None]).sum(-1)
    if value == "lift":
        found = found - (where.sum(1) / kept.sum(1))[:, None]
    return found.T.cpu().numpy()
