"""Secondary sinks: attention to tokens that a middle layer turns into the direction of the primary sink."""

from typing import Any, Literal

import numpy as np

from interp.measures.measure import Measured, measure
from interp.measures.secondary_tokens import residual_folds, secondary_tokens
from interp.measures.sink_statistics import over_prompts, received


@measure(
    sense="larger = more of the head's attention rests on secondary sinks",
    formula=(
        "mean over rows i of Σ_{k ∈ S} A[i, k]; S: tokens k after the primary sink b with |cos(h_k, h_b)| > 0.9 in this "
        "layer and in n layers of b's massive window, 4 < n < L − 15 (scaled: L/12 < n < 11 L/16)"
    ),
    source="Wong et al. 2025 (arXiv 2512.22213) and its code; the number per head is ours, the paper's own is not public",
    does_not_show=(
        "Anything in a model without a massive first token: its window is then wherever the norm grows most (the provenance "
        "says how massive the primary sink is)."
    ),
    cost="one forward pass; in decoders read in blocks of rows, some 128 MiB of attention at a time, elsewhere by layer",
    about="attention",
)
def secondary_sinks(
    model: Any,
    batch: Any,
    *,
    rule: Literal["scaled", "published"] = "scaled",
    label: Literal["secondary", "primary", "noise"] = "secondary",
    cosine: float = 0.9,
    candidates: tuple[int, ...] = (0, 1),
    horizon: int | None = None,
    attention: str | None = None,
    batch_size: int | None = None,
) -> Measured:
    """How much of a row's weight goes to secondary sinks, mean over rows (a causal first row left out).

    ``values[layer, head, prompt]`` from 0 to 1: the weight on tokens that have the label and, where this layer reads, the
    primary sink's direction. ``interp.measures.sink_table.sink_tokens`` lists the tokens with start, lifetime and level.

    Args:
        rule: ``published`` (the code's numbers, for models of more than 20 layers) or ``scaled`` with the depth.
        label: ``primary``: later tokens that are like the primary sink nearly throughout; ``noise``: too shortly.
        cosine: threshold. candidates: places of which the primary sink is the one of the largest mean norm (published: 0
            and 1; 0, 1 and 2 with a chat template).
        horizon: tokens of each prompt that are read; None: all. Causal attention only.
        attention, batch_size: see ``first_token_sink``.

    Raises:
        InterpError: ``rule="published"`` in a model of 20 layers or fewer, where it can label no token.
    """
    stack = model.stack(attention)
    found = received(model, batch, attention=attention, until=horizon, folds=residual_folds(candidates),
                     batch_size=batch_size)
    tokens = [secondary_tokens(one, stack.n_layers, rule=rule, cosine=cosine, candidates=candidates) for one in found]
    values = [one.mass(of.of(label)[: stack.n_layers, None]) for one, of in zip(found, tokens, strict=True)]
    levels = sorted({(int(of.start[k]), int(of.lifetime[k])) for of in tokens for k in np.nonzero(of.label == label)[0]})
    notes = {"sink_levels": [list(level) for level in levels][:32],
             "sink_tokens": sum(int((of.label == label).sum()) for of in tokens),
             "primary_norm_ratio": round(float(np.median([of.norm_ratio for of in tokens])), 3)}
    return Measured(values=over_prompts(values), attention=stack.attention, metric="share of attention", notes=notes)
