"""Integrated gradients of heads: attribution patching averaged along a path between the two runs, with its residual."""

from typing import Any, Literal

import numpy as np
import torch

from interp.engine.node_paths import integrated_heads
from interp.engine.path_integral import warn_if_incomplete
from interp.engine.prompts import side, sides
from interp.measures.each_head import metric_of_run
from interp.measures.measure import Measured, measure
from interp.measures.positions import places, tokens
from interp.models.sites import Site
from interp.tasks.metrics import Metric


@measure(
    sense="larger = matters more: the part of the metric's difference that the head carries along the path",
    formula=(
        "∫₀¹ ∂metric/∂m dm with z = m·clean + (1−m)·corrupt for all heads (mask) or those of one layer (activation); input: "
        "Σ (z_clean − z_corrupt) · ∫₀¹ ∂metric/∂z dα at embeddings corrupt + α (clean − corrupt)"
    ),
    source=(
        "Sundararajan et al. 2017; Hanna et al. 2024 (EAP-IG: input and activation paths); masks as in Miller et al. 2024"
    ),
    does_not_show=(
        "How heads act together: a joint effect is divided among them by the path, and effects of opposite sign along it "
        "cancel (an exclusive or scores zero). Where the residual is not small the scores do not add up and are estimates; "
        "along the input path the residual is that of the embeddings, and heads' scores need not add up at all."
    ),
    cost="two forward passes and steps + 1 forward and backward passes (for each layer, along the activation path)",
)
def integrated_gradients(
    model: Any,
    batch: Any,
    *,
    path: Literal["mask", "activation", "input"] = "mask",
    direction: Literal["noising", "denoising"] = "noising",
    positions: str | tuple[str, ...] | None = None,
    steps: int = 8,
    tolerance: float | None = None,
    budget: int = 64,
    attention: str | None = None,
    metric: str | Metric | None = None,
    batch_size: int | None = None,
    progress: Any = None,
) -> Measured:
    """Attribution patching integrated along a path from the corrupted to the clean run.

    ``values[layer, head, prompt]`` in units of the metric. The scores of a path add up to the metric's true difference along
    it: exchanging all heads (``mask``), or all heads of one layer (``activation``); for ``input`` it is the embeddings'
    integrals that add up, not the heads'. What the sum lacks is in ``baselines["residual"]`` per prompt, beside
    ``baselines["difference"]`` (summed over layers for ``activation``, the residual in absolute value); look there before
    believing the scores.

    Args:
        path: see the formula; along ``mask`` and ``activation`` the run that is patched is live, so that a head's effect
            through later heads counts.
        direction: which run is patched: the clean one (``noising``) or the corrupted one (``denoising``). The input path
            runs from one to the other and is the same for both.
        positions: None (all tokens at once), ``"each"``, a named span, or several in turn. The path is always that of all
            tokens: the scores of places that make up a prompt add up to its scores without positions.
        steps: intervals of equal length.
        tolerance: halve the interval with the largest residual, for each prompt its own, until the residuals are below this
            part of the difference (0.01: one in a hundred) or ``budget`` is spent, and then warn. None: ``steps`` and no
            more.
        budget: gradients per path and prompt at most.
        attention: ``self``, ``encoder``, ``cross`` or ``vision``; None: the model's main attention.
        metric: None: the batch's. It must be differentiable.
        batch_size: prompts per pass; changes no number. progress: unused.

    Raises:
        InterpError: clean and corrupted prompts are not aligned; a metric without gradient.
    """
    stack, measured = model.stack(attention), metric_of_run(batch, metric)
    on = "clean" if direction == "noising" else "corrupt"
    batch.check_aligned("integrate gradients between clean and corrupted prompts")
    prompts, site = side(sides(model, batch), on), Site("z", 0, stack.attention)
    axes, where = places(model, batch, prompts, positions, site)

    def masks(length: int) -> torch.Tensor:
        return torch.stack([tokens(prompts, one.at, site, length) for one in where])

    found = integrated_heads(model, batch, path, on=on, metric=measured, stack=stack,
                             places=None if positions is None else masks, steps=steps, tolerance=tolerance,
                             budget=budget, batch_size=batch_size)
    warn_if_incomplete(found.whole, tolerance, budget, f"integrated gradients along the {path} path")
    residual = found.residual[0] if len(found.residual) == 1 else abs(found.residual).sum(0)
    values = np.where(np.stack([one.exists for one in where])[:, None, None], found.values, np.nan)
    return Measured(
        values=np.moveaxis(values, 0, -1) if axes else values[0],
        axes=axes,
        attention=stack.attention,
        baselines={**found.metric, "difference": found.difference.sum(0), "residual": residual},
        normalizer=found.metric["clean"] - found.metric["corrupt"],
        metric=measured.name,
        notes={} if tolerance is None else {"prompts_above_tolerance": int((~found.complete).any(0).sum())},
    )
