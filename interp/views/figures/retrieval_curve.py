"""Retrieval curve: retrieval score of some heads against the length of the context, or the depth of the needle."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go

from interp.core.errors import InterpError
from interp.core.grid import Cell
from interp.core.head import Head
from interp.core.intervals import bootstrap
from interp.core.proportions import wilson
from interp.core.scores import HeadScores
from interp.views.figures.style import GREY, GRID, OUTCOME, chosen_heads, layout, points, say_nothing, series, titled
from interp.views.labels import interval, number, plural


def retrieval_curve(scores: HeadScores, *, over: Literal["length", "depth"] = "length",
                    heads: Sequence[Head | str] | None = None, k: int = 5, confidence: float = 0.95,
                    title: str | None = None) -> go.Figure:
    """Mean retrieval score at each context length (or needle depth) of some heads, with bootstrap intervals over prompts.

    Beside them, dotted, the share of prompts that the model answered there (Wilson interval), since a head cannot copy what
    the model does not say, and the mean of all other heads.

    Args:
        scores: ``retrieval_score`` (or another measure) on prompts of the task ``needle``, labelled by cells of its grid.
        over: ``length`` of the context in tokens, or ``depth`` of the needle in percent; the other one is averaged over.
        heads: which ones; None: the ``k`` of the largest mean.

    Raises ``InterpError`` for prompts that are no cells of a grid, and for heads that the scores do not have.
    """
    asked = f"draw retrieval against {over}"
    if scores.values.ndim != 3:
        raise InterpError(asked, f"the scores have the further axis {scores.dims[3]}", "choose one label with scores.at")
    cells = [Cell.parse(str(label)) for label in scores.labels("prompt")]
    at = np.array([getattr(cell, over) for cell in cells])
    x = np.unique(at)
    chosen = chosen_heads(scores.heads, scores.mean(), heads, k, asked)
    figure = go.Figure(layout=layout(title or titled(scores)))
    counts = [int((at == place).sum()) for place in x]
    rest = [scores.values[head.layer, head.head] for head in scores.heads if head not in chosen]
    rows = {scores.label(head): scores.values[head.layer, head.head] for head in chosen}
    if rest:
        rows[f"mean of {plural(len(rest), 'other head')}"] = _over_heads(np.array(rest))
    seen = False
    for i, (name, values) in enumerate(rows.items()):
        groups = [values[at == place] for place in x]
        mean = np.array([_mean(group) for group in groups])
        low, high = np.array([bootstrap(group[:, None], confidence=confidence) for group in groups])[..., 0].T
        seen = seen or bool(np.isfinite(mean).any())
        last = i == len(chosen)
        style = {"line": {"color": GREY, "width": 2}, "marker": {"color": GREY, "size": 5}} if last else series(i)
        points(figure, x, mean, low, high, _texts(name, over, x, mean, low, high, counts), style, name=name)
    if "answered" in scores.baselines:
        right = scores.baselines["answered"]
        share = np.array([_mean(right[at == place]) for place in x])
        low, high = wilson(share, counts, confidence)
        points(figure, x, share, low, high, _texts("answered", over, x, share, low, high, counts), OUTCOME, name="answered")
    unit = "context length (tokens)" if over == "length" else "depth of the needle (%)"
    figure.update_xaxes(title_text=unit, tickvals=x, gridcolor=GRID, zeroline=False)
    figure.update_yaxes(title_text=scores.provenance.metric.replace("_", " ") or "score", gridcolor=GRID, zeroline=False,
                        rangemode="tozero")
    return figure if seen else say_nothing(figure, "no head has a value")


def _texts(name: str, over: str, x: Iterable[Any], mean: Any, low: Any, high: Any, counts: Sequence[int]) -> list[str]:
    return [f"{name}, {over} {place}: {number(value)} {interval(below, above)}, {plural(n, 'prompt')}"
            for place, value, below, above, n in zip(x, mean, low, high, counts, strict=True)]


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def _over_heads(values: np.ndarray) -> np.ndarray:
    """Mean over heads of values [head, prompt], NaN where there is none."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(there, values, 0).sum(0) / there.sum(0))
