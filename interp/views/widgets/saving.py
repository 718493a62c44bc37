"""Views as files without a browser: the interactive page, and the numbers that are drawn."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from interp.core.errors import InterpError
from interp.core.files import write_text
from interp.core.head import Head
from interp.views.widgets import page
from interp.views.widgets.state import HeadState

Rows = Iterable[Iterable[Any]]


def save(state: HeadState, kind: str, path: str | Path, **options: Any) -> Path:
    """Write a view by the ending of ``path``: ``.html`` (interactive, offline; ``options`` of ``page``) or ``.csv``.

    A table holds the numbers at full precision, an empty cell where there is none, and ``'`` before texts that a spreadsheet
    would take for a formula.

    Raises:
        InterpError: another ending (pictures are drawn by a browser: the view's Export button writes PNG and SVG), or a view
            without a table of its own here.
    """
    path = Path(path)
    asked = f"save the view as {path.name}"
    if path.suffix.lower() in (".html", ".htm"):
        return page.save(state, kind, path, **options)
    if path.suffix.lower() != ".csv":
        raise InterpError(asked, "pictures of views are drawn by a browser", "use the view's Export button for PNG or SVG, "
                          "give .html or .csv, or take a figure of interp.views.figures")
    if kind not in TABLES:
        raise InterpError(asked, f"the {kind} view writes its table in a browser", "use its Export button, or give .html")
    text = io.StringIO()
    csv.writer(text).writerows([_cell(value) for value in row] for row in TABLES[kind](state))
    return write_text(path, text.getvalue())


def heads(state: HeadState) -> Rows:
    """Every head with mean and interval of every metric."""
    metrics = state.metrics
    if not metrics:
        raise InterpError("write a table of heads", "no metric was given", "give scores=, or save an attention map")
    names, stack = [one.name for one in metrics], state.header["attention"]
    yield ["head", "layer", "index", *(name for one in names for name in (one, f"{one} low", f"{one} high"))]
    for layer, count in enumerate(state.heads):
        for head in range(count):
            values = (part[layer, head] for one in metrics for part in (one.mean, one.low, one.high))
            yield [str(Head(layer, head, stack)), layer, head, *values]


def attention(state: HeadState) -> Rows:
    """Every weight of the head that is looked at which its mask lets through."""
    if state.patterns is None or not state.sel:
        raise InterpError("write a table of attention", "there are no patterns or no head is selected", "select a head")
    layer, head = state.sel[-1]
    weights, seen = state.patterns.read(state.prompt, layer)
    queries, keys = (side[state.prompt].texts for side in (state.patterns.queries, state.patterns.keys))
    yield ["head", "query", "query index", "key", "key index", "weight"]
    for i, j in np.argwhere(seen[head]):
        yield [str(Head(layer, head, state.header["attention"])), queries[i], int(i), keys[j], int(j), weights[head, i, j]]


def training(state: HeadState) -> Rows:
    """Every head at every checkpoint: mean and interval of every measure."""
    content = state.payloads["training"]
    names = [one["name"] for one in content["metrics"]]
    yield ["step", "head", *(name for one in names for name in (one, f"{one} low", f"{one} high"))]
    across = max(content["heads"])
    for i, step in enumerate(content["steps"]):
        for at in range(len(content["heads"]) * across):
            values = (one[part][i][at] for one in content["metrics"] for part in ("mean", "low", "high"))
            yield [step, str(Head(at // across, at % across)), *values]


def retrieval(state: HeadState) -> Rows:
    """Listed heads with their score and interval."""
    content = state.payloads["retrieval"]
    yield ["head", content["name"], "low", "high"]
    for layer, head, *values in content["top"]:
        yield [str(Head(layer, head)), *values]


TABLES: Mapping[str, Callable[[HeadState], Rows]] = {
    "grid": heads, "workbench": heads, "scatter": heads, "map": attention, "training": training, "retrieval": retrieval}


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float | np.floating) and not np.isfinite(value)):
        return ""
    if isinstance(value, np.floating):
        return float(f"{value:.7g}") if value.dtype == np.float32 else float(value)
    if isinstance(value, str):
        text = value.encode(errors="replace").decode()
        return f"'{text}" if text[:1] in tuple("=+-@\t\r") and text else text
    return value
