"""The look that the figures share."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from interp.core.errors import InterpError
from interp.core.head import Head
from interp.views.colours import INK, NEGATIVE, POSITIVE, SERIES

SIGNED = [[(i - 5) / 10 + 0.5, colour] for i, colour in enumerate([*reversed(NEGATIVE), *POSITIVE[1:]])]
"""Plotly colour scale of signed effects: red, white, blue."""
ATTENTION = [[0, "#FFFFFF"], [1, INK]]
"""Plotly colour scale of attention: the page, ink."""
SHARE = [[i / (len(POSITIVE) - 1), colour] for i, colour in enumerate(POSITIVE)]
"""Plotly colour scale of shares: white for 0, dark blue for 1."""
GRID, GREY = "#e6e7ea", "#8a8d94"
OUTCOME = {"line": {"color": "#000000", "dash": "dot", "width": 2},
           "marker": {"symbol": "circle-open", "size": 7, "color": "#000000"}}
"""Of what the model as a whole does, beside its heads."""
HINT = {"color": GREY, "dash": "dot", "width": 1}
"""Of lines that mark a level."""
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x")
FONT = "system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', Arial, sans-serif"


def layout(title: str, **more: Any) -> go.Layout:
    """A quiet layout: white, one font, title at the left."""
    return go.Layout(
        title={"text": title, "x": 0, "xref": "paper", "font": {"size": 15}},
        font={"family": FONT, "size": 12},
        plot_bgcolor="#FFFFFF",
        paper_bgcolor="#FFFFFF",
        margin={"l": 60, "r": 20, "t": 60, "b": 50},
        **more,
    )


def titled(scores: Any) -> str:
    """``activation patching, noising: ioi, organism, 64 prompts``."""
    record = scores.provenance
    direction = f", {record.direction}" if record.direction else ""
    prompts = "no prompts" if record.task.get("n") == 0 else f"{scores.n_prompts} prompts"
    where = f"{record.task.get('name')}, {record.model.get('name')}, {prompts}"
    return f"{record.measure.replace('_', ' ')}{direction}: {where}"


def series(i: int) -> dict[str, Any]:
    """Colour, dash and marker of the ``i``-th of several lines, told apart without colour too."""
    colour = SERIES[i % len(SERIES)]
    return {"line": {"color": colour, "dash": DASHES[(i // len(SERIES) + i) % len(DASHES)], "width": 2},
            "marker": {"symbol": SYMBOLS[i % len(SYMBOLS)], "size": 7, "color": colour}}


def error_bars(value: ArrayLike, low: ArrayLike, high: ArrayLike, colour: str) -> dict[str, Any]:
    """Plotly's error bars from ``low`` to ``high``; none where an end is missing."""
    middle, below, above = (np.asarray(part, dtype=float) for part in (value, low, high))
    return {"type": "data", "symmetric": False, "array": np.nan_to_num(above - middle), "color": colour, "thickness": 1.2,
            "arrayminus": np.nan_to_num(middle - below), "width": 3}


def points(figure: go.Figure, x: ArrayLike, value: ArrayLike, low: ArrayLike, high: ArrayLike, text: Sequence[str],
           style: Mapping[str, Any], **more: Any) -> None:
    """A line through points with their intervals; ``text`` is what each says on hover, ``style`` is of ``series``."""
    figure.add_scatter(x=x, y=value, mode="lines+markers", text=text, hovertemplate="%{text}<extra></extra>",
                       error_y=error_bars(value, low, high, style["line"]["color"]), **style, **more)


def band(figure: go.Figure, x: ArrayLike, low: ArrayLike, high: ArrayLike, colour: str, **more: Any) -> None:
    """A pale area between two lines; where an end is missing it is left out."""
    at, below, above = (np.asarray(part, dtype=float) for part in (x, low, high))
    there = np.isfinite(at) & np.isfinite(below) & np.isfinite(above)
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    figure.add_scatter(x=np.concatenate([at[there], at[there][::-1]]), y=np.concatenate([above[there], below[there][::-1]]),
                       fill="toself", fillcolor=f"rgba({red},{green},{blue},0.18)", mode="lines", line={"width": 0},
                       hoverinfo="skip", **{"showlegend": False, **more})


def say_nothing(figure: go.Figure, text: str) -> go.Figure:
    """Say in the middle of an empty figure why it is empty."""
    figure.add_annotation(text=text, x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False,
                          font={"size": 13, "color": GREY})
    return figure


def chosen_heads(known: Sequence[Head], values: np.ndarray, heads: Sequence[Head | str] | None, k: int, asked: str
                 ) -> list[Head]:
    """The heads that a figure highlights: those asked for, or the ``k`` of the largest of ``values`` [layer, head]."""
    if heads is None:
        flat = values.ravel()
        order = np.argsort(-np.nan_to_num(flat, nan=-np.inf), kind="stable")[:k]
        return [known[i] for i in order if np.isfinite(flat[i])]
    found = [Head.parse(head) for head in heads]
    for head in found:
        if head not in known:
            raise InterpError(asked, f"there are no scores of {head}", f"choose heads up to {known[-1]}")
    return found
