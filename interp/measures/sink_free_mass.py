"""Sink-free mass: the share of a head's attention that is left for the tokens that are no sinks."""

from typing import Any, Literal

import numpy as np

from interp.measures.massive_tokens import MassiveTokens, massive_tokens, residual_folds
from interp.measures.measure import Measured, measure
from interp.measures.sink_statistics import Received, over_prompts, received
from interp.measures.sinks_anywhere import find_sinks


@measure(
    sense="larger = more of the head's attention goes to tokens that are no sinks",
    formula="mean over rows i of Σ_{k ∉ S} A[i, k]; S: the first token, or the sinks by one of the published thresholds",
    source="ours; S as in Gu et al. 2025, Yu et al. 2024 (ACT) and Kang et al. 2025 (VAR)",
    does_not_show="Which of the other tokens the head looks at, and whether what it moves from them is used.",
    cost="one forward pass; in decoders read in blocks of rows, some 128 MiB of attention at a time, elsewhere by layer",
    about="attention",
)
def sink_free_mass(
    model: Any,
    batch: Any,
    *,
    sinks: Literal["first token", "epsilon", "of the length", "fixed", "massive"] = "first token",
    epsilon: float = 0.3,
    factor: float = 5.0,
    threshold: float = 0.1,
    late_keys: Literal["as published", "left out"] = "left out",
    horizon: int | None = None,
    attention: str | None = None,
    batch_size: int | None = None,
) -> Measured:
    """How much of a row's weight goes to tokens that are no sinks, mean over rows (a causal first row left out).

    ``values[layer, head, prompt]`` from 0 to 1. What a learned sink takes (GPT-OSS) is on no token and counts as sink.

    Args:
        sinks: ``first token``; ``epsilon``: tokens of α_k > ``epsilon``; ``of the length``: of α_k > ``factor``/N;
            ``fixed``: of α_k > ``threshold``; ``massive``: of a massive activation where the layer reads
            (``massive_activation_sinks`` by its defaults).
        late_keys: whether tokens that too few rows see can be sinks by a threshold; see ``sinks_anywhere``.
        horizon: tokens of each prompt that are read; None: all. Causal attention only.
        attention, batch_size: see ``first_token_sink``.
    """
    stack = model.stack(attention)
    folds = residual_folds(model) if sinks == "massive" else {}
    found = received(model, batch, attention=attention, until=horizon, folds=folds, batch_size=batch_size)
    massive = massive_tokens(found, model, stack) if sinks == "massive" else None
    values = over_prompts([
        one.total() - one.mass(_chosen(one, i, sinks, epsilon, factor, threshold, late_keys == "left out", massive))
        for i, one in enumerate(found)])
    if massive is not None:
        values[~massive.tested] = np.nan
    notes = {} if massive is None else massive.notes
    return Measured(values=values, attention=stack.attention, metric="share of attention", notes=notes)


def _chosen(one: Received, i: int, sinks: str, epsilon: float, factor: float, threshold: float, drop_late: bool,
            massive: MassiveTokens | None) -> np.ndarray:
    if massive is not None:
        return massive.flagged[i][:, None]
    if sinks == "first token":
        return np.arange(one.keys) == 0
    if sinks == "of the length":
        return find_sinks(one, "of the length", factor, drop_late=drop_late)
    return find_sinks(one, "fixed", threshold=epsilon if sinks == "epsilon" else threshold, drop_late=drop_late)
