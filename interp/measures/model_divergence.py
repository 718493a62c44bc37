"""Model divergence: how far each head's output moves between two models, on the same prompts."""

from typing import Any, Literal

import numpy as np
import torch

from interp.core.errors import InterpError
from interp.engine.prompts import chunks, side, sides
from interp.measures.divergence import Z_VARIANTS, mean_over_tokens, of_outputs, of_patterns
from interp.measures.measure import Measured, measure
from interp.measures.positions import places, spread, tokens
from interp.models.sites import Site


@measure(
    about="output",
    sense="larger = the head does something else in the other model",
    formula=(
        "l2: ||z(model) − z(other)||; relative: that / ||z(model)||; cosine: 1 − cos; pattern: Jensen–Shannon divergence of "
        "the attention rows in bits"
    ),
    source=(
        "head divergence as of He et al. 2025, arXiv 2412.13949, between models in place of contexts (ours); without "
        "`other`: between the clean and the corrupted prompts of one model"
    ),
    does_not_show=(
        "A head whose place was taken over by another of its layer counts as changed, and so does a head whose basis "
        "turned together with W_O; compare variant='pattern', which no basis enters. A change is not an improvement."
    ),
    cost="one forward pass of each model",
)
def model_divergence(
    model: Any,
    batch: Any,
    *,
    other: Any = None,
    variant: Literal["l2", "relative", "cosine", "pattern"] = "l2",
    positions: str | tuple[str, ...] | None = None,
    batch_size: int | None = None,
    progress: Any = None,
) -> Measured:
    """How far each head's output moves between two models on the same prompts.

    ``values[layer, head, prompt]``: the mean over the tokens of a position, zero where both models do the same.

    Args:
        other: a model of the same shape and tokenizer: a tuned one, or ``interp.load(name, revision="step-200")``. None: the
            same model on the corrupted prompts, token by token.
        variant: see the formula. positions: None (all tokens), ``each``, ``end``, a span, several.
        batch_size: prompts per pass; changes no number. progress: unused.

    Raises:
        InterpError: the models differ in layers, heads or vocabulary.
    """
    stack = model.stack("self")
    if other is not None:
        _check(model, other)
    runs = sides(model, batch)
    prompts = side(runs, "clean")
    second = prompts if other is not None else side(runs, "corrupt")
    if other is None:
        batch.check_aligned("compare clean and corrupted prompts token by token")
    axes, found = places(model, batch, prompts, positions, Site("z", 0))
    read = [tokens(prompts, place.at, Site("z", 0), prompts.mask.shape[1]) for place in found]
    wanted = [Site("pattern" if variant == "pattern" else "z", layer) for layer in range(stack.n_layers)]
    values = np.full((len(found), stack.n_layers, stack.n_heads, batch.n), np.nan)
    for rows in chunks(model, prompts, batch_size, held=wanted + wanted):
        here = prompts.take(rows)
        with torch.no_grad():
            one = model.run(here.inputs, capture=wanted).captured
            two = (other or model).run(second.take(rows).inputs, capture=wanted).captured
        same = torch.arange(prompts.mask.shape[1], device=prompts.mask.device).expand_as(here.mask)
        for layer, site in enumerate(wanted):
            there = two[site].to(one[site].device)
            moved = of_outputs(variant, one[site], there) if variant in Z_VARIANTS else of_patterns(
                one[site], there, same, torch.where(here.mask, same, -1))
            for i, chosen in enumerate(read):
                values[i, layer][:, rows.numpy()] = mean_over_tokens(moved, chosen[rows]).T.cpu().numpy()
    return Measured(values=spread(list(values), found, axes), attention="self", axes=axes, metric=f"divergence ({variant})")


def _check(model: Any, other: Any) -> None:
    for name in ("n_layers", "n_heads", "d_head", "vocab_size"):
        mine, its = getattr(model, name), getattr(other, name)
        if mine != its:
            raise InterpError(f"compare the heads of {model.name} and {other.name}", f"their {name} is {mine} and {its}",
                              "compare checkpoints or fine-tuned versions of one model")
