"""Retrieval grid: how often a needle was found, by context length and depth."""

import numpy as np
import plotly.graph_objects as go

from interp.core.grid import Grid
from interp.views.figures.style import SHARE, layout


def retrieval_grid(grid: Grid, *, title: str = "Needles found", what: str = "found") -> go.Figure:
    """A heatmap of a ``Grid`` (see ``interp.core.grid.grid``): columns lengths, rows depths (0 %, the beginning, on top).

    The colour scale is fixed from 0 to 1. Hover gives share, 95 % interval and number of prompts; a cell without a prompt is
    blank.
    """
    text = [
        [f"length {length}, depth {depth} %: {grid.share[i, j]:.2f} [{grid.low[i, j]:.2f}, {grid.high[i, j]:.2f}], "
         f"{int(grid.n[i, j])} prompts" for j, length in enumerate(grid.lengths)]
        for i, depth in enumerate(grid.depths)
    ]
    labels = [["" if np.isnan(share) else f"{share:.2f}" for share in row] for row in grid.share]
    figure = go.Figure(layout=layout(title))
    figure.add_heatmap(
        x=[f"{length:,}" for length in grid.lengths],
        y=[f"{depth} %" for depth in grid.depths],
        z=grid.share,
        zmin=0,
        zmax=1,
        colorscale=SHARE,
        text=labels,
        texttemplate="%{text}",
        customdata=text,
        hovertemplate="%{customdata}<extra></extra>",
        hoverongaps=False,
        xgap=1,
        ygap=1,
        colorbar={"title": {"text": what}, "thickness": 12},
    )
    figure.update_yaxes(autorange="reversed", title_text="depth of the needle", type="category", showgrid=False)
    figure.update_xaxes(title_text="context length (tokens)", type="category", showgrid=False)
    figure.update_layout(plot_bgcolor="#eceef1")
    return figure
