"""Head scatter: every head by two of its metrics, so that what looks important can be held against what is."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np

from interp.core.compare import rank_agreement
from interp.core.errors import InterpError
from interp.core.registry import unknown
from interp.core.scores import HeadScores
from interp.views.widgets import sources
from interp.views.widgets.head_metric import head_metrics
from interp.views.widgets.packing import numbers
from interp.views.widgets.state import HeadState
from interp.views.widgets.view import View, attached

LAYER = "layer"
"""What heads can be placed and coloured by beside their metrics."""
PAIRED = 6000
"""Heads times pairs of metrics whose rank correlation gets an interval."""
NUMBERS = 120_000
"""Numbers (means and ends of intervals) that one scatter holds by itself."""


class HeadScatter(View):
    """A dot for each head by two metrics, with the rank correlation of the two; a drawn rectangle selects."""

    kind = "scatter"
    _esm = sources.script("scatter")


def head_scatter(scores: Any = None, *, x: str | None = None, y: str | None = None, colour: str | None = None,
                 state: HeadState | None = None, theme: str = "auto") -> HeadScatter:
    """Every head by two metrics, linked with the views of ``state``: drag a rectangle, or use arrows and Space, to select.

    The metrics of the state can be chosen as well. Dashed lines stand at each metric's mean magnitude over heads; the heads
    that are large in one and small in the other are counted, and selected by a click on the count. Spearman's correlation is
    over heads; its interval, where both are scores with prompts, is over prompts (``interp.core.compare.rank_agreement``).

    Args:
        scores: ``HeadScores``, a list of them, or arrays [layer, head] by name; None: the metrics of ``state``.
        x, y: names of the metrics that it begins with (None: the first two). colour: a metric's name, or ``layer``.

    Raises:
        InterpError: neither scores nor a state with metrics; unknown names; scores of another model than the state's.
    """
    made = payload(scores)
    names = [metric["name"] for metric in made["metrics"]]
    if state is None and not names:
        raise InterpError("draw a scatter of heads", "there are no metrics", "give scores, or a state that has some")
    if state is not None:
        names += [metric["name"] for metric in state.header["metrics"]]
    for name in (x, y, colour):
        if name is not None and name not in (*names, LAYER):
            raise unknown("metric", name, [*names, LAYER])
    made |= {"x": x, "y": y, "colour": colour or LAYER}
    if state is not None:
        return HeadScatter(attached("scatter", made, state))
    alone = HeadState(None, head_metrics(scores), theme=theme)
    return HeadScatter(attached("scatter", made | {"metrics": []}, alone))


def payload(scores: Any = None) -> dict[str, Any]:
    """What the script draws beside the state's own metrics, as plain JSON data: metrics, and intervals of correlations.

    ``scores`` as of ``head_scatter``; None, True or nothing in it: only the state's metrics.
    """
    metrics = () if scores is True or (isinstance(scores, Mapping) and not scores) else head_metrics(scores)
    if not metrics:
        return {"heads": [1], "least": True, "metrics": [], "pairs": [], "x": None, "y": None, "colour": LAYER}
    shapes = {metric.mean.shape for metric in metrics}
    if len(shapes) > 1:
        seen = " and ".join(f"{layers} layers of {heads} heads" for layers, heads in sorted(shapes))
        raise InterpError("draw a scatter of heads", f"there are scores of {seen}", "give scores of one model")
    layers, across = metrics[0].mean.shape
    most = max(1, NUMBERS // (3 * layers * across))
    if len(metrics) > most:
        raise InterpError("draw a scatter of heads", f"{len(metrics)} metrics of {layers * across} heads are too many",
                          f"choose at most {most}, or give them as the state's scores")
    return {
        "heads": [across] * layers, "least": False, "pairs": correlations(scores),
        "metrics": [{"name": one.name, "unit": one.unit, "note": one.note, "signed": one.signed, "mean": numbers(one.mean),
                     "low": numbers(one.low), "high": numbers(one.high)} for one in metrics],
        "x": None, "y": None, "colour": LAYER,
    }


def correlations(scores: Any) -> list[dict[str, Any]]:
    """Intervals of rank correlations, of each two of ``HeadScores`` without a further axis, as many as are cheap."""
    if isinstance(scores, Mapping) or not scores:
        return []
    given = [scores] if isinstance(scores, HeadScores) else list(scores)
    metrics = head_metrics(given)
    names = iter(metric.name for metric in metrics)
    named = [[next(names) for _ in range(int(np.prod(one.values.shape[3:])))] for one in given]
    plain = [(own[0], one) for own, one in zip(named, given, strict=True) if one.values.ndim == 3]
    found: list[dict[str, Any]] = []
    for (a, one), (b, other) in list(combinations(plain, 2))[:max(1, PAIRED // metrics[0].mean.size)]:
        try:
            agreed = rank_agreement(one, other, across=("metric", "task"))
        except InterpError as refused:
            found.append({"names": [a, b], "why": str(refused)})
            continue
        ends = [round(end, 3) if np.isfinite(end) else None for end in (agreed.low, agreed.high)]
        found.append({"names": [a, b], "low": ends[0], "high": ends[1], "paired": agreed.paired})
    return found
