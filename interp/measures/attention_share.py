"""Attention share: how a head divides its attention among the context, the template and the response."""

from typing import Any, Literal

import numpy as np

from interp.core.errors import InterpError
from interp.measures.attention_parts import part_sums, parts_of, sinks_to_leave_out
from interp.measures.attention_rows import row_means
from interp.measures.measure import Measured, measure


@measure(
    sense="larger = more of the head's attention goes to that part of the prompt",
    formula="mean over the query rows i of Σ_{k ∈ part} A[i, k] / Σ_k A[i, k], k over the tokens that are not left out",
    source="Wang et al. 2024 (arXiv 2411.02688), who ask what share of the attention a user's context gets",
    does_not_show=(
        "That the part is used. A longer part gets more from a head that looks everywhere alike (the provenance holds the "
        "parts' lengths), and the first token's sink counts for the part it stands in unless it is left out."
    ),
    cost="one forward pass, read in blocks of rows; two with exclude_sinks='sinks'",
    about="attention",
)
def attention_share(
    model: Any,
    batch: Any,
    *,
    parts: tuple[str, ...] = ("context", "response"),
    rest: str = "template",
    exclude_sinks: Literal["none", "first token", "sinks"] = "none",
    epsilon: float = 0.3,
    queries: str | None = "end",
    attention: str | None = None,
    batch_size: int | None = None,
) -> Measured:
    """Share of each head's attention on named spans of the prompt and on the rest of it.

    ``values[layer, head, prompt, part]``, part = ``parts`` and ``rest``, from 0 to 1; they sum to 1 (NaN where nothing is
    left).

    Args:
        parts: spans that the batch names. rest: what the tokens of none of them are called.
        exclude_sinks: ``first token``: it counts for no part. ``sinks``: nor does any token that receives more than
            ``epsilon`` of that head's attention.
        queries: rows of this span; ``"end"``: the last token; None: all.
        attention: ``self`` or ``encoder``; None: the model's main attention. batch_size: changes no number.

    Raises InterpError for a span that the batch does not name and for spans that overlap.
    """
    stack = model.stack(attention)
    if stack.attention in ("cross", "vision"):
        raise InterpError(f"share out {stack.attention} attention", "named spans belong to the main sequence",
                          "use the attention of a text to itself")
    named = parts_of(model, batch, parts, stack, rest)
    left_out = sinks_to_leave_out(model, batch, exclude_sinks, epsilon, attention, batch_size)
    found = row_means(model, batch, {"parts": part_sums(named, left_out)}, queries=queries, attention=attention,
                      batch_size=batch_size)["parts"]
    on = found[..., : len(parts) + 1]
    total = on.sum(-1, keepdims=True)
    values = on / np.where(total > 1e-9, total, np.nan)
    lengths = {name: round(float(np.mean([int(row[name].sum()) for row in named])), 2) for name in named[0]}
    return Measured(values=values, attention=stack.attention, axes={"part": (*parts, rest)}, metric="share of attention",
                    notes={"tokens_per_part": lengths})
