"""``HeadMetric``: one number per head with its interval, as the head grid colours it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interp.core.errors import InterpError
from interp.core.scores import HeadScores
from interp.views.labels import plural

MOST = 40
"""Metrics that one widget offers."""
SINK = "first key's share"


@dataclass(frozen=True, eq=False)
class HeadMetric:
    """One number per head.

    Attributes:
        name: what is chosen by.
        mean, low, high: [layer, head]; NaN = no such head or no value; no interval where ``low`` and ``high`` are NaN.
        unit: in words, for the legend.
        note: what the numbers are over (``mean of 48 prompts``).
        signed: whether zero is the middle of the colours.
    """

    name: str
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    unit: str = ""
    note: str = ""
    signed: bool = True


def head_metrics(scores: Any) -> tuple[HeadMetric, ...]:
    """Metrics of ``HeadScores`` (one, or a sequence), or of plain arrays [layer, head] by name.

    Scores with a further axis (``position``) give one metric for each of its labels; scores of key-value heads are repeated
    for the query heads that share them.
    """
    if scores is None:
        return ()
    if isinstance(scores, Mapping):
        return tuple(_plain(str(name), values) for name, values in scores.items())
    if isinstance(scores, HeadScores):
        scores = [scores]
    if not isinstance(scores, Sequence) or not all(isinstance(one, HeadScores) for one in scores):
        raise InterpError("show head metrics", f"a {type(scores).__name__} is neither scores nor arrays by name",
                          "give HeadScores, a list of them, or {name: array [layer, head]}")
    found = [metric for one in scores for metric in _scored(one)]
    if len(found) > MOST:
        raise InterpError("show head metrics", f"there are {len(found)} of them", f"choose at most {MOST}")
    taken: dict[str, int] = {}
    named = []
    for metric in found:
        taken[metric.name] = taken.get(metric.name, 0) + 1
        again = taken[metric.name]
        name = metric.name if again == 1 else f"{metric.name} ({again})"
        named.append(HeadMetric(name, metric.mean, metric.low, metric.high, metric.unit, metric.note, metric.signed))
    return tuple(named)


def _plain(name: str, values: Any) -> HeadMetric:
    mean = np.asarray(values.detach().float().cpu().numpy() if hasattr(values, "detach") else values, dtype=float)
    if mean.ndim != 2:
        raise InterpError(f"show the metric {name}", f"it has the shape {mean.shape}", "give [layer, head]")
    nothing = np.full(mean.shape, np.nan)
    return HeadMetric(name, mean, nothing, nothing, signed=bool((mean < 0).any()))


def _scored(scores: HeadScores) -> list[HeadMetric]:
    mean, (low, high) = scores.mean(), scores.interval()
    shape = (scores.n_layers, -1, *scores.values.shape[3:])
    if scores.unit == "kv_head":
        mean, low, high = (np.repeat(part, scores.group, axis=1) for part in (mean, low, high))
    whole = scores.provenance
    name = whole.measure.replace("_", " ")
    kind = whole.options.get("kind") or whole.options.get("component")
    name += f" ({kind})" if isinstance(kind, str) else ""
    note = f"mean of {plural(scores.n_prompts, 'prompt')}" + (f" of {task}" if (task := whole.task.get("name")) else "")
    note += "; " + scores.certificate if scores.certificate else ""
    unit = whole.metric.replace("_", " ") if whole.direction or scores.normalizer is not None else ""
    flat = [part.reshape(*shape[:1], mean.shape[1], -1) for part in (mean, low, high)]
    labels = _labels(scores)
    return [
        HeadMetric(name + label, flat[0][:, :, i], flat[1][:, :, i], flat[2][:, :, i], unit, note, scores.signed)
        for i, label in enumerate(labels)
    ]


def _labels(scores: HeadScores) -> list[str]:
    """What tells the metrics of one measure apart: the labels of its further axes."""
    names = [""]
    for dim in scores.dims[3:]:
        names = [f"{name} · {dim} {label}" for name in names for label in scores.labels(dim)]
    return names
