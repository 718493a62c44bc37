"""The metric with one head at a time changed: what activation patching and ablation have in common."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from interp.engine.forward import metric_values
from interp.engine.intervention import Intervention
from interp.engine.prompts import side, sides
from interp.engine.running import Running
from interp.engine.sweep import sweep
from interp.measures.positions import Positions, places, spread
from interp.models.backend import Stack
from interp.models.sites import PER_KV_HEAD, Site
from interp.tasks.metrics import Metric, metric_of

Change = Callable[[int, int, str | tuple[int, ...] | None], Sequence[Intervention]]
"""(layer, head, positions) -> what is done to that head there."""


def units(stack: Stack, what: str) -> dict[str, Any]:
    """What the head axis counts for the site ``what``: ``attention``, ``unit`` and ``group`` as ``Measured`` takes them."""
    shared = what in PER_KV_HEAD
    return {"attention": stack.attention, "unit": "kv_head" if shared else "head", "group": stack.group if shared else 1}


def count(stack: Stack, what: str) -> int:
    """Heads (or key-value heads) in a layer at the site ``what``."""
    return stack.n_kv_heads if what in PER_KV_HEAD else stack.n_heads


def each_head(
    model: Any,
    batch: Any,
    change: Change,
    *,
    what: str,
    stack: Stack,
    positions: Positions,
    on: str,
    metric: Any,
    running: Running,
    title: str = "sweep",
) -> tuple[dict[str, tuple], np.ndarray]:
    """The metric of the run ``on``, with one head changed at a time, computed as ``running`` says.

    Returns:
        the extra axes that ``positions`` asks for, and the metric [layer, head, prompt, *axes], NaN where a prompt has no
        such position.
    """
    axes, found = places(model, batch, side(sides(model, batch), on), positions, Site(what, 0, stack.attention))
    heads = [(layer, head) for layer in range(stack.n_layers) for head in range(count(stack, what))]
    wanted = [change(layer, head, place.at) for place in found for layer, head in heads]
    patched = sweep(model, batch, wanted, on=on, metric=metric, running=running, title=title)
    shape = (len(found), stack.n_layers, count(stack, what), batch.n)
    return axes, spread(list(np.asarray(patched, dtype=np.float64).reshape(shape)), found, axes)


def metric_of_run(batch: Any, metric: str | Metric | None) -> Metric:
    """The metric that was asked for, by name or itself; the batch's where None was given."""
    return batch.metric if metric is None else metric_of(metric)


def baselines(model: Any, batch: Any, metric: Any, batch_size: int | None) -> dict[str, np.ndarray]:
    """The metric of the unchanged ``clean`` and ``corrupt`` runs [prompt]."""
    return {on: metric_values(model, batch, (), on=on, metric=metric, batch_size=batch_size) for on in ("clean", "corrupt")}
