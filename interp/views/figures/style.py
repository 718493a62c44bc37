"""The look that the figures share."""

from typing import Any

import plotly.graph_objects as go

from interp.views.colours import INK, NEGATIVE, POSITIVE

SIGNED = [[(i - 5) / 10 + 0.5, colour] for i, colour in enumerate([*reversed(NEGATIVE), *POSITIVE[1:]])]
"""Plotly colour scale of signed effects: red, white, blue."""
ATTENTION = [[0, "#FFFFFF"], [1, INK]]
"""Plotly colour scale of attention: the page, ink."""
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
