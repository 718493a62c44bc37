"""Faithfulness curve: what circuits of growing size carry of the behaviour, beside random circuits of their make."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.core.errors import InterpError
from interp.views.figures.style import GREY, GRID, HINT, band, layout, points, say_nothing, series
from interp.views.labels import interval, number, plural

NEEDED = ("edges", "faithfulness")


def faithfulness_curve(found: Any, *, random: Any = None, completeness: bool | None = None,
                       title: str | None = None) -> go.Figure:
    """Faithfulness (and completeness) against the number of edges, with paired bootstrap intervals over prompts.

    Dotted lines at 1 (as the model) and 0 (as nothing). Random circuits are a grey band from the least to the most faithful
    of each size, around their mean: what edges of these kinds and layers carry by being so many.

    Args:
        found: what ``interp.discovery.judge_all`` returns, the table of ``interp.discovery.curve``, rows with its columns
            (edges, faithfulness, and as far as known share, low, high, completeness, completeness_low, completeness_high, n,
            ablation), or several of these by name (one line per method).
        random: the same of random circuits (``random_like``), any number at each size.
        completeness: whether to draw it too, dashed; None: where it is known and there is one line.

    Raises ``InterpError`` for rows that are no judgements.
    """
    several = isinstance(found, Mapping)
    lines = {name: rows(one) for name, one in found.items()} if several else {"": rows(found)}
    drawn = completeness if completeness is not None else len(lines) == 1
    figure = go.Figure(layout=layout(title or _titled(lines)))
    for level in (0, 1):
        figure.add_hline(y=level, line=HINT)
    control = rows(random) if random is not None else pd.DataFrame(columns=list(NEEDED))
    if len(control):
        _control(figure, control)
    for i, (name, frame) in enumerate(lines.items()):
        parts = ("faithfulness", "completeness") if drawn and "completeness" in frame else ("faithfulness",)
        for j, what in enumerate(parts):
            _line(figure, frame, what, f"{name} {what}".strip() if len(parts) > 1 or not name else str(name), i + j)
    figure.update_xaxes(title_text="edges in the circuit", type="log", dtick="D2", gridcolor=GRID, zeroline=False)
    figure.update_yaxes(title_text="share of the behaviour" if drawn else "faithfulness", gridcolor=GRID, zeroline=False)
    return figure if any(len(frame) for frame in lines.values()) else say_nothing(figure, "there are no circuits")


def rows(found: Any) -> pd.DataFrame:
    """Judgements, or a table of them, as a table by size."""
    if not isinstance(found, pd.DataFrame):
        listed = found if isinstance(found, Sequence) else [found]
        made = [one if isinstance(one, Mapping) else one.summary() if hasattr(one, "summary") else None for one in listed]
        if any(one is None for one in made):
            raise InterpError("draw a faithfulness curve", f"a {type(listed[made.index(None)]).__name__} is no judgement",
                              "give what interp.discovery.judge_all or curve returns")
        found = pd.DataFrame(made, columns=None if made else list(NEEDED))
    if missing := [name for name in NEEDED if name not in found]:
        raise InterpError("draw a faithfulness curve", f"the table has no column {missing[0]!r}",
                          "give what interp.discovery.judge_all or curve returns")
    ordered: pd.DataFrame = found.sort_values("edges", kind="stable", ignore_index=True)
    return ordered


def _line(figure: go.Figure, frame: pd.DataFrame, what: str, name: str, i: int) -> None:
    low, high = ("low", "high") if what == "faithfulness" else ("completeness_low", "completeness_high")
    value, below, above = (np.asarray(frame[column] if column in frame else np.full(len(frame), np.nan), dtype=float)
                           for column in (what, low, high))
    text = [f"{name}, {_size(row)}: {number(value[j])} {interval(below[j], above[j])}" + _known(row)
            for j, row in enumerate(frame.to_dict("records"))]
    points(figure, frame["edges"], value, below, above, text, series(i), name=name)


def _control(figure: go.Figure, control: pd.DataFrame) -> None:
    groups = control.groupby("edges")["faithfulness"]
    sizes, mean, low, high, count = (np.asarray(part, dtype=float) for part in (
        list(groups.groups), groups.mean(), groups.min(), groups.max(), groups.count()))
    name = f"random, same make ({int(count.min())} each)" if len(set(count)) == 1 else "random, same make"
    band(figure, sizes, low, high, GREY, legendgroup="random")
    text = [f"{int(n)} random circuits of {int(size)} edges: {number(middle)}, {number(below)} to {number(above)}"
            for size, n, middle, below, above in zip(sizes, count, mean, low, high, strict=True)]
    style = {"line": {"color": GREY, "dash": "dot", "width": 2}, "marker": {"color": GREY, "symbol": "diamond", "size": 7}}
    points(figure, sizes, mean, low, high, text, style, name=name, legendgroup="random")


def _size(row: Mapping[Any, Any]) -> str:
    share = f" ({100 * row['share']:.2g} %)" if "share" in row and row["share"] == row["share"] else ""
    return f"{plural(int(row['edges']), 'edge')}{share}"


def _known(row: Mapping[Any, Any]) -> str:
    return f", {plural(int(row['n']), 'prompt')}" if "n" in row and row["n"] == row["n"] else ""


def _titled(lines: Mapping[Any, pd.DataFrame]) -> str:
    whole = pd.concat(list(lines.values())) if lines else pd.DataFrame()
    told = [str(value) for column in ("ablation", "metric") if column in whole
            for value in [" or ".join(map(str, whole[column].dropna().unique()))] if value]
    counts = sorted({int(n) for n in whole["n"].dropna()}) if "n" in whole else []
    if counts:
        told.append(plural(counts[0], "prompt") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} prompts")
    return "Circuits by size" + (f": {', '.join(told)}" if told else "")
