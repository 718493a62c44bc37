"""Relative attention: what a head looks at more for a specific question than for a general one."""

from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.streaming import Block, Fold, stream
from interp.measures.measure import Measured, measure
from interp.measures.targets import tokens_of
from interp.tasks.batch import Batch
from interp.tasks.texts import Texts

CARVE = MappingProxyType({"damping": 1e-8, "weights": "growing", "quotient": "of each row", "over": "layer"})
"""The options of CARVE's released code; its text asks for the answer's tokens as ``queries`` and for layers 20 to 25."""


@measure(
    sense="map: larger = the token gets more attention for the specific question; focus: larger = fewer tokens do",
    formula=(
        "Â_k = Σ_t w_t A^Q[t, k] / (Σ_t w_t A^G[t, k] + λ) for the tokens k of the span (an image, a document); "
        "quotient='of each row': Σ_t w_t (A^Q[t, k] / (A^G[t, k] + λ)); focus: 1 − entropy of Â / Σ Â over ln of the number "
        "of tokens"
    ),
    source=(
        "MLLMs know where to look (Zhang et al. 2025): λ = 0, the last token as the query, mean over a layer's heads; CARVE "
        "(focusing by contrastive attention) and its code: λ = 1e-8, mean over heads, quotients of each step added up with "
        "w_t growing over the tokens that are generated (see CARVE in this file); per head and as a quotient of sums: ours"
    ),
    does_not_show=(
        "That the head or the model uses these tokens. Where the general question finds next to nothing the quotient is "
        "large by that alone (a larger λ dampens it; the released one does not). An image encoder mixes patches: what a "
        "patch holds need not have been seen there."
    ),
    cost="one forward pass for either question, read in blocks of rows",
    about="attention",
)
def relative_attention(
    model: Any,
    batch: Any,
    *,
    span: str = "image",
    general: Texts | Batch | None = None,
    value: Literal["map", "focus"] = "map",
    damping: float = 0.0,
    queries: str = "end",
    weights: Literal["even", "growing"] = "even",
    quotient: Literal["of sums", "of each row"] = "of sums",
    over: Literal["head", "layer"] = "head",
    attention: str | None = None,
    batch_size: int | None = None,
) -> Measured:
    """Attention of the clean prompt (a specific question) over that of the corrupted one (a general question), by token.

    ``values[layer, head, prompt, token]`` ≥ 0 over the tokens of ``span``, which both prompts hold, counted from its first;
    NaN beyond a prompt's own, and where the general question gives a token nothing and ``damping`` is 0. ``focus``:
    ``values[layer, head, prompt]`` from 0 (even) to 1 (a single token). A map over the tokens of an image becomes a mask and
    a crop of it by ``interp.measures.image_regions``.

    Args:
        span: what both questions are about; as many tokens in either prompt.
        general: the general question, prompt by prompt; None: the corrupted side. An image with two questions is two
            ``interp.tasks.from_inputs`` of the same ``pixel_values``.
        damping: λ.
        queries: ``"end"``: the last token; or a span of both prompts (the last token of the question and the answer that was
            generated from there), whose rows are added up by ``weights``: ``growing``: w_t = 1, 2, 3, ... as in CARVE.
        quotient: of the sums of the rows, or ``of each row`` with its like, then added up (of as many rows as either has).
        over: ``layer``: attention is first averaged over a layer's heads, all of which then have the same values.
        attention: ``self``; None: the model's main attention. batch_size: prompts run together; changes no number.

    Raises InterpError for texts without a general question, for other numbers of prompts and spans of other lengths.
    """
    stack = model.stack(attention)
    if stack.attention in ("cross", "vision"):
        raise InterpError(f"contrast {stack.attention} attention", "named spans belong to the main sequence",
                          "use the attention of a text to itself")
    if damping < 0:
        raise InterpError(f"divide by attention plus {damping}", "a damping below 0 could make it negative", "use 0 or more")
    if general is not None and general.n != batch.n:
        raise InterpError("contrast questions", f"there are {batch.n} specific and {general.n} general ones",
                          "give one of each for every prompt")
    pair = ((batch, "clean"), (batch, "corrupt") if general is None else (general, "clean"))
    by_row = quotient == "of each row"
    specific, other = (_looks(model, one, on, span, queries, weights == "growing", by_row, attention, batch_size)
                       for one, on in pair)
    maps = []
    for i, (one, two) in enumerate(zip(specific, other, strict=True)):
        if one.shape[-1] != two.shape[-1]:
            raise InterpError(f"contrast attention to {span!r}", f"in pair {i} it has {one.shape[-1]} and {two.shape[-1]} "
                              "tokens", "give both questions the same span")
        maps.append(_contrasted(one, two, damping, weights == "growing", over == "layer"))
    if value == "focus":
        return Measured(values=np.stack([focus(one) for one in maps], axis=2), attention=stack.attention, metric="focus")
    most = max(one.shape[-1] for one in maps)
    padded = [np.pad(one, ((0, 0), (0, 0), (0, most - one.shape[-1])), constant_values=np.nan) for one in maps]
    return Measured(values=np.stack(padded, axis=2), attention=stack.attention, axes={"token": tuple(range(most))},
                    metric="quotient of attention")


def contrast(specific: np.ndarray, general: np.ndarray, damping: float = 0.0) -> np.ndarray:
    """Â; NaN where a quotient has no value."""
    below = general + damping
    return specific / np.where(below > 0, below, np.nan)


def focus(found: np.ndarray) -> np.ndarray:
    """One less the entropy of ``found`` [..., token] relative to the largest; NaN for fewer than two tokens."""
    there = np.nan_to_num(found)
    share = there / np.maximum(there.sum(-1, keepdims=True), 1e-30)
    nats = -(share * np.log(np.where(share > 0, share, 1))).sum(-1)
    number = np.isfinite(found).sum(-1)
    return np.where(number > 1, 1 - nats / np.log(np.maximum(number, 2)), np.nan)


def _contrasted(specific: np.ndarray, general: np.ndarray, damping: float, growing: bool, of_layers: bool) -> np.ndarray:
    """Â [layer, head, token] of two attentions [layer, head, row, token]; w_t of a single row is 1."""
    rows = min(specific.shape[2], general.shape[2])
    if of_layers:
        heads = specific.shape[1]
        specific, general = (np.repeat(one.mean(1, keepdims=True), heads, axis=1) for one in (specific, general))
    steps = np.arange(1, rows + 1) if growing else np.ones(rows)
    return np.tensordot(contrast(specific[:, :, :rows], general[:, :, :rows], damping), steps, axes=(2, 0))


def _looks(model: Any, batch: Any, on: str, span: str, queries: str, growing: bool, by_row: bool, attention: str | None,
           batch_size: int | None) -> list[np.ndarray]:
    """Attention to each token of the span, one [layer, head, row, token] per prompt: of each query row, or (one row) of
    their weighted sum."""
    stack = model.stack(attention)
    wanted = _own(model, batch, span, stack, on, of_keys=True)
    chosen = _own(model, batch, queries, stack, on, of_keys=False)
    most = max(int(row.sum()) for row in chosen)
    if not most:
        raise InterpError(f"contrast attention from {queries!r}", "no prompt has such a token", "name another span")

    def added(row: Tensor) -> Tensor:       # [position, row that is kept]
        if by_row:
            return torch.nn.functional.one_hot((row.cumsum(0) - 1).clamp(min=0), most).double() * row[:, None]
        return (row.cumsum(0) * row if growing else row).double()[:, None]

    weigh = [added(row.long()) for row in chosen]

    def fold(kept: Tensor | None, block: Block) -> Tensor:
        weight = torch.stack([weigh[i] for i in block.prompts.tolist()]).to(block.tensor.device)[:, block.rows]
        part = torch.einsum("phrk,prs->phsk", block.tensor.double(), weight)
        kept = part.new_zeros(*part.shape[:3], block.keys) if kept is None else kept
        kept[..., : part.shape[-1]] += part
        return kept

    folds = {"looks": Fold("pattern", fold)}
    found = stream(model, batch, folds, attention=attention, on=on, batch_size=batch_size)["looks"]
    return [one[:, :, : int(row.sum()) if by_row else 1][..., at].numpy()
            for one, row, at in zip(found, chosen, wanted, strict=True)]


def _own(model: Any, batch: Any, name: str, stack: Any, on: str, of_keys: bool) -> list[Tensor]:
    """A span where it stands in the prompts of that side, which need not be where it stands in the other's."""
    if name == "end" or getattr(batch, "paired", True) is False:
        return tokens_of(model, batch, name, stack, of_keys=of_keys, on=on)
    tokens = batch.tokens(on)
    places = batch.span(name, on).cpu() - tokens.start.cpu()[:, None]
    return [(torch.arange(int(length)) >= start) & (torch.arange(int(length)) < stop)
            for length, (start, stop) in zip(tokens.lengths, places.tolist(), strict=True)]
