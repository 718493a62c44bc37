"""Masking curve: accuracy against the number of masked heads, the top ones beside as many random ones."""

from collections.abc import Hashable, Mapping
from typing import Any

import plotly.graph_objects as go

from interp.core.curves import MATCHED, RANDOM, TOP, MaskingCurve
from interp.views.colours import NEGATIVE, POSITIVE
from interp.views.figures.style import layout

LINES = {TOP: ("top heads", NEGATIVE[4], "solid", "circle"), MATCHED: ("random, same layers", POSITIVE[4], "dash", "square"),
         RANDOM: ("random", "#8a8d94", "dot", "diamond")}
"""Line -> its name in the legend, colour, dash and marker (told apart without colour too)."""


def masking_curve(curve: MaskingCurve, *, confidence: float = 0.95, title: str | None = None) -> go.Figure:
    """One line for each of top, layer-matched random and random heads, each with its interval; K = 0 is the untouched model.

    Hover gives accuracy and interval (over prompts, and over draws for random heads), and how far the line lies above that
    of the top heads.
    """
    frame = curve.to_frame(confidence)
    figure = go.Figure(layout=layout(title or _titled(curve)))
    for line, (name, colour, dash, symbol) in LINES.items():
        rows = frame[frame["line"] == line]
        figure.add_scatter(
            x=rows["k"],
            y=rows["accuracy"],
            name=name,
            mode="lines+markers",
            line={"color": colour, "dash": dash, "width": 2},
            marker={"symbol": symbol, "size": 8},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": (rows["high"] - rows["accuracy"]).fillna(0),
                "arrayminus": (rows["accuracy"] - rows["low"]).fillna(0),
                "color": colour,
                "thickness": 1.2,
                "width": 3,
            },
            text=[_hover(name, row) for row in rows.to_dict("records")],
            hovertemplate="%{text}<extra></extra>",
        )
    figure.update_xaxes(title_text="heads masked", tickvals=[0, *curve.ks], gridcolor="#e6e7ea", zeroline=False)
    figure.update_yaxes(title_text="accuracy", range=[-0.03, 1.03], gridcolor="#e6e7ea", zeroline=False)
    return figure


def _hover(name: str, row: Mapping[Hashable, Any]) -> str:
    text = f"{name}, {row['k']} masked: {row['accuracy']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
    if row["draws"] > 1:
        text += f", {row['draws']} draws"
    if row["lead"] == row["lead"]:
        text += f"; above the top heads by {row['lead']:.3f} [{row['lead_low']:.3f}, {row['lead_high']:.3f}]"
    return text


def _titled(curve: MaskingCurve) -> str:
    facts = curve.facts
    model, task = (facts.get(part, {}).get("name", part) for part in ("model", "task"))
    missing = max(curve.unmatched, default=0)
    note = f" · up to {missing} heads of a layer-matched set from the nearest layers" if missing else ""
    how = f"{facts.get('mask', '?')}, {facts.get('where', '?')}"
    return (f"Heads masked ({how}) by {facts.get('ranked by', '?')}: {task}, {model}, {len(curve.untouched)} prompts{note}")
