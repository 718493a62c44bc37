"""Low rank: how much of the metric is lost when a head's queries, keys or values keep only their largest directions."""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.activations import activations
from interp.engine.intervention import Intervention, Replace
from interp.engine.prompts import selected, side, sides
from interp.engine.running import Running, running_of
from interp.engine.sweep import sweep
from interp.measures.each_head import baselines, count, metric_of_run, units
from interp.measures.measure import Measured, measure
from interp.models.sites import PER_KV_HEAD, Site
from interp.tasks.metrics import Metric

RANKS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96)


@measure(
    sense="larger = more of the metric is lost at that rank; 0 = so many directions are enough",
    formula=(
        "metric(clean) − metric(clean with q, k or v of the head projected on its first r right singular vectors, over the "
        "chosen tokens of all prompts); interp.core.rank_curve makes shares kept and the smallest sufficient rank of it"
    ),
    source=(
        "Lieberum et al. 2023 (arXiv 2307.09458), low-rank approximation of q, k and v by singular vectors of activations; "
        "they project several heads at once, here it is one head at a time"
    ),
    does_not_show=(
        "What the directions mean. Subspaces are fitted to the very prompts they are judged on: with few tokens (their "
        "number is in the provenance) a low rank must suffice. A head that the metric does not need keeps it at rank 0."
    ),
    cost="one forward pass, and one for each head and rank",
)
def low_rank(
    model: Any,
    batch: Any,
    *,
    component: Literal["q", "k", "v"] = "q",
    ranks: tuple[int, ...] | None = None,
    centre: bool = False,
    positions: str | tuple[str, ...] | None = None,
    attention: str | None = None,
    metric: str | Metric | None = None,
    batch_size: int | None = None,
    progress: Any = None,
    running: Running | None = None,
) -> Measured:
    """How much of the metric is lost when a head's q, k or v keep only their largest directions.

    ``values[layer, head, prompt, rank]`` in units of the metric; key-value heads for k and v. The whole effect of the
    component is the loss at rank 0. ``interp.core.rank_curve.kept(scores)`` has the share of the metric kept.

    Args:
        component: ``q`` or ``k``, before rotary embedding (in models that have it), or ``v``.
        ranks: directions kept; None: 0, 1, 2, 3, 4, 6, 8, 12, ... below the size of the head, where nothing is lost.
        centre: fit and project the differences from the mean over the tokens; rank 0 is then the mean and not zero.
        positions: tokens that are fitted and projected: a span's name, ``end``, several together; None: all. Published:
            queries at the end, keys and values at the labels.
        attention: ``self``, ``encoder``, ``cross`` or ``vision``; None: the model's main attention.
        metric: None: the batch's.
        batch_size: prompts per pass; changes no number. progress: shown while running.
        running: these two, and memory, store and workers of the sweep (``interp.engine.running``).

    Raises:
        InterpError: no rank below the size of the head; an unknown position; latent attention (k, v).
    """
    stack, measured = model.stack(attention), metric_of_run(batch, metric)
    what = component if component == "v" else f"{component}_pre"
    size = stack.d_head if component == "v" else stack.d_qk
    kept = tuple(sorted({rank for rank in (RANKS if ranks is None else ranks) if rank < size}))
    if not kept or kept[0] < 0:
        raise InterpError(f"keep {', '.join(map(str, ranks or ()))} directions of {component}",
                          f"its vectors have {size} entries, so ranks lie from 0 to {size - 1}", "name such ranks")
    how = running_of(running, batch_size, progress)
    prompts = side(sides(model, batch), "clean")
    wanted, tokens = [], 0
    for layer in range(stack.n_layers):
        site = Site(what, layer, stack.attention)
        x = activations(model, batch, [site], batch_size=how.batch_size)[site]
        chosen = selected(prompts, positions, stack.attention, of_keys=what in PER_KV_HEAD, length=x.shape[1])
        tokens = int(chosen.sum())
        for head in range(x.shape[2]):
            for near in projected(x[:, :, head], chosen.to(x.device), kept, centre):
                value = Replace(near[:, :, None])
                wanted.append((Intervention(what, layer, (head,), positions, value, stack.attention),))
    bases = baselines(model, batch, measured, how.batch_size)
    found = np.asarray(sweep(model, batch, wanted, metric=measured, running=how, title=f"rank of {component}"))
    shape = (stack.n_layers, count(stack, what), len(kept), batch.n)
    return Measured(values=bases["clean"][:, None] - np.moveaxis(found.reshape(shape), 2, 3), axes={"rank": kept},
                    baselines=bases, metric=measured.name, notes={"tokens fitted": tokens}, **units(stack, what))


def projected(x: Tensor, chosen: Tensor, ranks: tuple[int, ...], centre: bool = False) -> list[Tensor]:
    """``x`` [prompt, position, d] on the span of the first r right singular vectors of its chosen rows, for each r."""
    rows = x[chosen].double()
    mean = rows.mean(0) if centre else torch.zeros_like(rows[0])
    directions = torch.linalg.svd(rows - mean, full_matrices=False)[2]
    result = []
    for rank in ranks:
        basis = directions[:rank]
        result.append(((x.double() - mean) @ basis.T @ basis + mean).to(x.dtype))
    return result
