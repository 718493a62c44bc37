"""Attention pattern: one head on one prompt, rows queries (first on top), columns keys."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from interp.core.errors import InterpError
from interp.views.figures.style import ATTENTION, layout
from interp.views.labels import token
from interp.views.svg.pattern import colour_limit, sink_mass

MOST_LABELS = 40
"""Tick labels on an axis; more make plotly slow."""


def attention_pattern(
    pattern: np.ndarray,
    tokens: Sequence[str],
    *,
    keys: Sequence[str] | None = None,
    visible: np.ndarray | None = None,
    title: str = "attention",
) -> go.Figure:
    """A pattern [query, key] with its tokens.

    The first key's column, where heads park attention, is left out of the colour limit.

    Args:
        tokens: of the queries; ``keys``: of the keys, None: the same.
        visible: [query, key], what the mask lets through; the rest is left blank, not zero. None: what is at or below the
            diagonal for a square pattern that is zero above it, else everything.

    Raises ``InterpError`` where the shapes do not fit.
    """
    pattern = np.asarray(pattern, dtype=float)
    keys = tokens if keys is None else keys
    if pattern.shape != (len(tokens), len(keys)):
        raise InterpError(
            "draw an attention pattern",
            f"its shape is {pattern.shape} for {len(tokens)} queries and {len(keys)} keys",
            "give a pattern [query, key] with a token for each",
        )
    if visible is None:
        square = pattern.shape[0] == pattern.shape[1]
        visible = (
            np.tril(np.ones_like(pattern, dtype=bool))
            if square and not np.triu(pattern, 1).any()
            else np.ones_like(pattern, dtype=bool)
        )
    rows = [f"{token(text, 20)} ({i})" for i, text in enumerate(tokens)]
    columns = [f"{token(text, 20)} ({i})" for i, text in enumerate(keys)]
    mass = sink_mass(pattern, visible)
    note = f" · first token's share {mass:.2f}" if np.isfinite(mass) else ""
    figure = go.Figure(layout=layout(title + note))
    text = [
        [f"{_plain(rows[i])} → {_plain(columns[j])}: {pattern[i, j]:.3f}" for j in range(len(keys))]
        for i in range(len(tokens))
    ]
    figure.add_heatmap(
        z=np.where(visible, pattern, np.nan),
        zmin=0,
        zmax=colour_limit(pattern, visible),
        colorscale=ATTENTION,
        text=text,
        hovertemplate="%{text}<extra></extra>",
        hoverongaps=False,
        colorbar={"thickness": 12, "title": {"text": "weight"}},
    )
    figure.update_yaxes(autorange="reversed", title_text="query / destination", **_ticks(rows))
    figure.update_xaxes(title_text="key / source", **_ticks(columns))
    figure.update_layout(plot_bgcolor="#eceef1")
    return figure


def _ticks(labels: Sequence[str]) -> dict[str, object]:
    step = max(1, -(-len(labels) // MOST_LABELS))
    at = list(range(0, len(labels), step))
    return {"tickvals": at, "ticktext": [_plain(labels[i]) for i in at], "showgrid": False, "zeroline": False}


def _plain(text: str) -> str:
    """Text that plotly does not read as HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
