"""Sinks anywhere in the sequence: tokens of any place that a head gives much of its attention, as ACT finds them."""

from typing import Any, Literal

import numpy as np

from interp.measures.measure import Measured, measure
from interp.measures.sink_statistics import Received, check_count, known_late, over_prompts, received

Rule = Literal["of the length", "fixed"]
Spared = Literal["none", "first token", "first detected"]


@measure(
    sense="larger = more of the head's attention goes to sinks",
    formula=(
        "S = {k : α_k > 5/N} (the paper's rule) or {k : α_k > 0.1} (its code's), α_k = Σ_{i ≥ k} A[i, k] / (N − k + 1); "
        "mass: mean over rows of Σ_{k ∈ S} A[i, k]; count: |S|"
    ),
    source="Yu et al. 2024 (ACT, arXiv 2406.15765); the number per head is ours",
    does_not_show=(
        "What a sink is for: ACT finds that some help and some harm. Keys near the end are seen by few queries, so that a "
        "head which looks at its own neighbourhood has sinks there by this count alone (late_keys='left out' drops them)."
    ),
    cost="one forward pass; in decoders read in blocks of rows, some 128 MiB of attention at a time, elsewhere by layer",
    about="attention",
)
def sinks_anywhere(
    model: Any,
    batch: Any,
    *,
    value: Literal["mass", "count"] = "mass",
    rule: Literal["of the length", "fixed"] = "of the length",
    factor: float = 5.0,
    threshold: float = 0.1,
    spare: Literal["none", "first token", "first detected"] = "none",
    count: Literal["later queries", "visible queries"] = "later queries",
    late_keys: Literal["as published", "left out"] = "as published",
    horizon: int | None = None,
    attention: str | None = None,
    batch_size: int | None = None,
) -> Measured:
    """How much of each head's attention goes to tokens, anywhere in the prompt, that receive more than their share.

    ``values[layer, head, prompt]``: share of a row's weight, 0 to 1 (the first row of causal attention left out), or a
    number of tokens.

    Args:
        rule: ``of the length``: more than ``factor``/N of the weight, as the paper has it (it also tries 3 and 7); no value
            (NaN) for prompts of at most ``factor`` tokens, where nothing can exceed it. ``fixed``: more than ``threshold``,
            as the code has it. At N = 50 they coincide; at N = 500 the paper's is ten times looser.
        spare: sinks that are not counted: ``first token``, or ``first detected``, as the code does, which means the first
            token and takes the next sink where that is none.
        count: what the sum over rows is divided by; see ``first_token_sink``.
        late_keys: ``left out``: tokens that at most 1 / threshold rows see are no sinks, since a head that looks at each
            token itself and nothing else would have them there.
        horizon: tokens of each prompt that are read; None: all. Causal attention only.
        attention, batch_size: see ``first_token_sink``.
    """
    stack = model.stack(attention)
    check_count(stack, count, "sinks_anywhere")
    found = received(model, batch, attention=attention, until=horizon, batch_size=batch_size)
    values = []
    for one in found:
        sinks = find_sinks(one, rule, factor, threshold, spare, count, late_keys == "left out")
        result = one.mass(sinks) if value == "mass" else sinks.sum(-1).astype(np.float64)
        undefined = rule == "of the length" and one.rows <= factor
        values.append(np.full(result.shape, np.nan) if undefined else result)
    unit = "share of attention" if value == "mass" else "sinks"
    return Measured(values=over_prompts(values), attention=stack.attention, metric=unit)


def find_sinks(one: Received, rule: str = "of the length", factor: float = 5.0, threshold: float = 0.1, spare: str = "none",
               count: str = "later queries", drop_late: bool = False) -> np.ndarray:
    """Which keys are sinks of which head: bool [layer, head, key]."""
    limit = factor / one.rows if rule == "of the length" else threshold
    sinks = one.alpha(count) > limit
    if drop_late:
        sinks &= ~known_late(one, limit, count)[:, None]
    if spare == "first token":
        sinks[..., 0] = False
    elif spare == "first detected":
        first = sinks.argmax(-1)[..., None]
        np.put_along_axis(sinks, first, False, axis=-1)
    return sinks
