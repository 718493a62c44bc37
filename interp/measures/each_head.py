"""What measures of one head at a time have in common: heads that are counted, the metric, the unchanged runs."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from interp.engine.intervention import Intervention
from interp.engine.untouched import untouched_values
from interp.models.backend import Stack
from interp.models.sites import PER_KV_HEAD
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


def metric_of_run(batch: Any, metric: str | Metric | None) -> Metric:
    """The metric that was asked for, by name or itself; the batch's where None was given."""
    return batch.metric if metric is None else metric_of(metric)


def baselines(model: Any, batch: Any, metric: Any, batch_size: int | None) -> dict[str, np.ndarray]:
    """The metric of the unchanged ``clean`` and ``corrupt`` runs [prompt]."""
    return {on: untouched_values(model, batch, on, metric, batch_size) for on in ("clean", "corrupt")}
