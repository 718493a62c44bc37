"""Text dominance: whether a head attends more to a text token than to a token of the other kind (an image's, say)."""

from typing import Any, Literal

import numpy as np

from interp.core.errors import InterpError
from interp.measures.attention_parts import part_sums, parts_of, sinks_to_leave_out
from interp.measures.attention_rows import row_means
from interp.measures.measure import Measured, measure


@measure(
    sense="larger = a text token gets more of the head's attention than one of the other kind; 1 = as much",
    formula=(
        "MDI = (A_T / |T|) / (A_O / |O|); AEI = P_T / Q_T, P_T = A_T / (A_T + A_O), Q_T = |T| / (|T| + |O|); A_T, A_O: "
        "attention of the query rows to text and to the other tokens"
    ),
    source='"When Language Overrules" (arXiv 2508.10552), read in its abstract and in re-implementations; per head: ours',
    does_not_show=(
        "That the text decides. The first token and other sinks are text: much of the index may be theirs (exclude_sinks). "
        "Given the numbers of tokens AEI says nothing that MDI does not: AEI = MDI (|T| + |O|) / (MDI |T| + |O|)."
    ),
    cost="one forward pass, read in blocks of rows; two with exclude_sinks='sinks'",
    about="attention",
)
def text_dominance(
    model: Any,
    batch: Any,
    *,
    other: str = "image",
    value: Literal["MDI", "AEI"] = "MDI",
    over: Literal["head", "layer"] = "head",
    exclude_sinks: Literal["none", "first token", "sinks"] = "none",
    epsilon: float = 0.3,
    queries: str | None = "end",
    attention: str | None = None,
    batch_size: int | None = None,
) -> Measured:
    """Modality dominance index or attention efficiency index of the text, for each head.

    ``values[layer, head, prompt]`` ≥ 0; AEI at most (|T| + |O|) / |T|. NaN for the MDI of a head that gives the other tokens
    nothing at all, and where a side has no token left.

    Args:
        other: the span of the other kind; all other tokens are text. Any two parts of a text can be compared.
        over: ``layer``: attention is averaged over the heads of a layer first, as published; all of them have its value.
        exclude_sinks: ``first token``: it is left out of both sides, with its count. ``sinks``: so is any token that
            receives more than ``epsilon`` of that head's attention.
        queries: rows of this span (published: the tokens of the answer); ``"end"``: the last token; None: all.
        attention: ``self`` or ``encoder``; None: the model's main attention. batch_size: changes no number.
    """
    stack = model.stack(attention)
    if stack.attention in ("cross", "vision"):
        raise InterpError(f"compare tokens in {stack.attention} attention", "named spans belong to the main sequence",
                          "use the attention of a text to itself")
    named = parts_of(model, batch, (other,), stack, "text" if other != "text" else "rest")
    left_out = sinks_to_leave_out(model, batch, exclude_sinks, epsilon, attention, batch_size)
    found = row_means(model, batch, {"parts": part_sums(named, left_out)}, queries=queries, attention=attention,
                      batch_size=batch_size)["parts"]
    if over == "layer":
        found = np.broadcast_to(found.mean(1, keepdims=True), found.shape)
    on_other, on_text, others, texts = (found[..., i] for i in range(4))
    values = index(on_text, on_other, texts, others, value)
    return Measured(values=values, attention=stack.attention, metric=value)


def index(on_text: np.ndarray, on_other: np.ndarray, texts: np.ndarray, others: np.ndarray,
          value: str = "MDI") -> np.ndarray:
    """MDI or AEI from attention and numbers of tokens; NaN where undefined."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (on_text / texts) / (on_other / others) if value == "MDI" else \
            on_text / (on_text + on_other) / (texts / (texts + others))
    return np.where(np.isfinite(found) & (texts > 0) & (others > 0), found, np.nan)
