"""Relative attention: what a head looks at more for a specific question than for a general one."""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.streaming import Block, Fold, stream
from interp.measures.measure import Measured, measure
from interp.measures.targets import tokens_of


@measure(
    sense="map: larger = the token gets more attention for the specific question; focus: larger = fewer tokens do",
    formula=(
        "Â_k = Σ_t w_t A^Q[t, k] / (Σ_t w_t A^G[t, k] + λ) for the tokens k of the span (an image, a document); focus: "
        "1 − entropy of Â / Σ Â over ln of the number of tokens"
    ),
    source=(
        "MLLMs know where to look (Zhang et al. 2025): λ = 0, the last token as the query; CARVE (focusing by "
        "contrastive attention): λ > 0, w_t growing over the tokens of the answer; per head: ours"
    ),
    does_not_show=(
        "That the head or the model uses these tokens. Where the general question finds next to nothing the quotient is "
        "large by that alone (λ dampens it)."
    ),
    cost="one forward pass for either question, read in blocks of rows",
    about="attention",
)
def relative_attention(
    model: Any,
    batch: Any,
    *,
    span: str = "image",
    value: Literal["map", "focus"] = "map",
    damping: float = 0.0,
    queries: str = "end",
    weights: Literal["even", "growing"] = "even",
    attention: str | None = None,
    batch_size: int | None = None,
) -> Measured:
    """Attention of the clean prompt (a specific question) over that of the corrupted one (a general question), by token.

    ``values[layer, head, prompt, token]`` ≥ 0 over the tokens of ``span``, which both prompts hold, counted from its first;
    NaN beyond a prompt's own, and where the general question gives a token nothing and ``damping`` is 0. ``focus``:
    ``values[layer, head, prompt]`` from 0 (even) to 1 (a single token).

    Args:
        span: what both questions are about; as many tokens in either prompt.
        damping: λ. CARVE adds one; which, the text at hand does not say.
        queries: ``"end"``: the last token; or a span of both prompts, whose rows are summed by ``weights``: ``growing``: w_t
            = 1, 2, 3, ... as in CARVE.
        attention: ``self``; None: the model's main attention. batch_size: prompts run together; changes no number.

    Raises InterpError for texts without a corrupted side and for spans of different lengths.
    """
    stack = model.stack(attention)
    if stack.attention in ("cross", "vision"):
        raise InterpError(f"contrast {stack.attention} attention", "named spans belong to the main sequence",
                          "use the attention of a text to itself")
    if damping < 0:
        raise InterpError(f"divide by attention plus {damping}", "a damping below 0 could make it negative", "use 0 or more")
    growing = weights == "growing"
    specific, general = (_looks(model, batch, on, span, queries, growing, attention, batch_size)
                         for on in ("clean", "corrupt"))
    for i, (one, two) in enumerate(zip(specific, general, strict=True)):
        if one.shape != two.shape:
            raise InterpError(f"contrast attention to {span!r}", f"in pair {i} it has {one.shape[-1]} and {two.shape[-1]} "
                              "tokens", "give both questions the same span")
    maps = [contrast(one, two, damping) for one, two in zip(specific, general, strict=True)]
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


def _looks(model: Any, batch: Any, on: str, span: str, queries: str, growing: bool, attention: str | None,
           batch_size: int | None) -> list[np.ndarray]:
    """Weighted attention of the query rows to each token of the span: one [layer, head, token] per prompt."""
    stack = model.stack(attention)
    wanted = _own(model, batch, span, stack, on, of_keys=True)
    rows = _own(model, batch, queries, stack, on, of_keys=False)
    weigh = [(row.cumsum(0) * row if growing else row).double() for row in rows]

    def fold(kept: Tensor | None, block: Block) -> Tensor:
        weight = torch.stack([weigh[i] for i in block.prompts.tolist()]).to(block.tensor.device)[:, block.rows]
        part = torch.einsum("phrk,pr->phk", block.tensor.double(), weight)
        kept = part.new_zeros(*part.shape[:2], block.keys) if kept is None else kept
        kept[..., : part.shape[-1]] += part
        return kept

    folds = {"looks": Fold("pattern", fold)}
    found = stream(model, batch, folds, attention=attention, on=on, batch_size=batch_size)["looks"]
    return [one[..., at].numpy() for one, at in zip(found, wanted, strict=True)]


def _own(model: Any, batch: Any, name: str, stack: Any, on: str, of_keys: bool) -> list[Tensor]:
    """A span where it stands in the prompts of that side, which need not be where it stands in the other's."""
    if name == "end" or getattr(batch, "paired", True) is False:
        return tokens_of(model, batch, name, stack, of_keys=of_keys, on=on)
    tokens = batch.tokens(on)
    places = batch.span(name, on).cpu() - tokens.start.cpu()[:, None]
    return [(torch.arange(int(length)) >= start) & (torch.arange(int(length)) < stop)
            for length, (start, stop) in zip(tokens.lengths, places.tolist(), strict=True)]
