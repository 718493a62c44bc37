"""First-token sink: whether a head rests on the first token (or another fixed one), as Gu et al. count it."""

from typing import Any, Literal

import numpy as np

from interp.measures.measure import Measured, measure
from interp.measures.sink_statistics import Received, check_count, known_late, over_prompts, received, uniform_alpha


@measure(
    sense="larger = more of the head's attention rests on the first token",
    formula=(
        "α_k = (1 / (T − k + 1)) Σ_{i ≥ k} A[i, k] with k = 1; indicator: 1[α_k > ε]; weight: α_k; rows: share of the later "
        "rows i with A[i, k] > ε. The mean of the indicator over prompts is the head's sink rate, over heads Sink_k"
    ),
    source="Gu et al. 2025 (arXiv 2410.10781): ε = 0.3, T = 64, 100 texts",
    does_not_show=(
        "That the head is idle: what it does on the other rows may matter, and what is moved from the first token may too. "
        "On short prompts even attention spread evenly gives the first token much (0.26 of the weight at T = 12, 0.07 at "
        "T = 64; the provenance says how much here). An indicator without the share of rows (value='rows') does not make a "
        "sink head."
    ),
    cost="one forward pass; in decoders read in blocks of rows, some 128 MiB of attention at a time, elsewhere by layer",
    about="attention",
)
def first_token_sink(
    model: Any,
    batch: Any,
    *,
    value: Literal["indicator", "weight", "rows"] = "indicator",
    epsilon: float = 0.3,
    horizon: int | None = 64,
    token: int = 0,
    count: Literal["later queries", "visible queries"] = "later queries",
    late_keys: Literal["as published", "left out"] = "as published",
    attention: str | None = None,
    batch_size: int | None = None,
) -> Measured:
    """How much attention the first token receives in each head, by the published threshold, as a weight, or by rows.

    ``values[layer, head, prompt]``: 0 or 1 (``indicator``), a weight from 0 to 1, or a share of rows from 0 to 1.

    Args:
        epsilon: the threshold, a strict one.
        horizon: tokens of each prompt that are read (published: 64); None: all. In attention that sees both ways all are
            read, since a text cut short is another text; the provenance says so.
        token: k − 1, counted from the prompt's first token; -1 is the last (an encoder's [SEP], say).
        count: what the sum over rows is divided by. ``later queries``: T − k + 1, as published. ``visible queries``: those
            that a sliding window lets see the token.
        late_keys: ``left out`` gives no value (NaN) for a token that at most 1/ε rows can see.
        attention: ``self``, ``encoder``, ``cross`` or ``vision``; None: the model's main attention.
        batch_size: prompts that are run together; changes no number.

    A prompt without the token has no value (NaN).
    """
    stack = model.stack(attention)
    check_count(stack, count, "first_token_sink")
    found = received(model, batch, attention=attention, token=token, until=horizon, batch_size=batch_size)
    values = over_prompts([strength(one, value, epsilon, count, late_keys == "left out") for one in found])
    even = [uniform_alpha(one, token) for one in found]
    notes = {"horizon_used": horizon if stack.causal else None, "weight_if_even": round(float(np.nanmean(even)), 4)} \
        if np.isfinite(even).any() else {}
    unit = {"indicator": "sink", "weight": "attention weight", "rows": "share of rows"}[value]
    return Measured(values=values, attention=stack.attention, metric=unit, notes=notes)


def strength(one: Received, value: str, epsilon: float, count: str, drop_late: bool) -> np.ndarray:
    """Indicator, weight or share of rows of the token that ``one`` keeps the column of [layer, head]."""
    shape, at = one.sums.shape[:2], one.token
    if at is None:
        return np.full(shape, np.nan)
    if value == "rows":
        others = np.arange(one.rows) != at
        if one.causal:
            others &= np.arange(one.rows) > at
        result = (one.column[..., others] > epsilon).mean(-1) if others.any() else np.full(shape, np.nan)
    else:
        alpha = one.alpha(count)[..., at]
        result = alpha if value == "weight" else (alpha > epsilon).astype(np.float64)
    late = known_late(one, epsilon, count)[:, at] & drop_late
    return np.where(late[:, None], np.nan, result)
