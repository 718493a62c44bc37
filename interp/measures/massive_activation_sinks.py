"""Massive-activation sinks: attention to the tokens whose hidden state is massive in a few dimensions."""

from typing import Any, Literal

import numpy as np

from interp.measures.massive_tokens import massive_tokens, residual_folds
from interp.measures.measure import Measured, measure
from interp.measures.sink_statistics import over_prompts, received


@measure(
    sense="larger = more of the head's attention rests on tokens with massive activations",
    formula=(
        "mean over rows i of Σ_{k ∈ S} A[i, k]; S = {k : φ(x_k) > τ}, φ(x) = max_{d ∈ D} |x_d| / √(mean_d x_d²), x_k the "
        "residual stream that enters the layer, D found from the model"
    ),
    source=(
        "Kang et al. 2025 (VAR, arXiv 2503.03321): τ = 20, layers from 2 on; magnitude: Sun et al. 2024 (arXiv 2402.17762); "
        "norm: Darcet et al. 2024 (arXiv 2309.16588), whose threshold on the norm is chosen by eye"
    ),
    does_not_show=(
        "That the head needs these tokens: attention to them moves little (their values are small). Where no dimension is "
        "massive (the provenance lists those found) there is nothing to attend to, and zero says no more than that."
    ),
    cost="one forward pass; in decoders read in blocks of rows, some 128 MiB of attention at a time, elsewhere by layer",
    about="attention",
)
def massive_activation_sinks(
    model: Any,
    batch: Any,
    *,
    rule: Literal["phi", "magnitude", "norm"] = "phi",
    tau: float | None = None,
    dimensions: tuple[int, ...] | None = None,
    first_layer: int | None = None,
    ratio: float = 3.0,
    horizon: int | None = None,
    attention: str | None = None,
    batch_size: int | None = None,
) -> Measured:
    """How much of a row's weight goes to tokens with massive activations, mean over rows (a causal first row left out).

    ``values[layer, head, prompt]`` from 0 to 1; no value (NaN) in layers before ``first_layer``, which are not tested.

    Args:
        rule: ``phi``; ``magnitude``: |x_d| > 100 and > 1000 times the median magnitude in some dimension; ``norm``:
            ‖x‖ > ``ratio`` times the median norm of the prompt's tokens (register-like patches of image networks).
        tau: threshold of φ. None: 20, as published, from 4096 dimensions on, and below the same share of the largest φ
            there can be (5/16 of √d_model), but no less than 1.5 √(2 ln d_model), to be more than chance.
        dimensions: D. None: found, as those in which some token passes ``tau`` in at least half of the layers tested.
            Published by hand: 1415 and 2533 for LLaMA-2-7B, 2100 and 4743 for 13B.
        first_layer: None: 2, as published, of 32 layers and more; of fewer, the same share.
        horizon: tokens of each prompt that are read; None: all. Causal attention only.
        attention, batch_size: see ``first_token_sink``.

    Raises:
        InterpError: a threshold that no token can pass; a dimension or layer that the model lacks.
    """
    stack = model.stack(attention)
    found = received(model, batch, attention=attention, until=horizon, folds=residual_folds(model, tau, rule),
                     batch_size=batch_size)
    massive = massive_tokens(found, model, stack, rule=rule, tau=tau, dimensions=dimensions, first_layer=first_layer,
                             ratio=ratio)
    values = over_prompts([one.mass(flagged[:, None]) for one, flagged in zip(found, massive.flagged, strict=True)])
    values[~massive.tested] = np.nan
    return Measured(values=values, attention=stack.attention, metric="share of attention", notes=massive.notes)
