"""Ranked heads: the largest heads of a measure as dots with intervals."""

import plotly.graph_objects as go

from interp.core.scores import HeadScores
from interp.views.colours import NEGATIVE, POSITIVE
from interp.views.figures.style import layout, titled


def ranked_heads(scores: HeadScores, *, k: int = 20, title: str | None = None) -> go.Figure:
    """The ``k`` heads of the largest mean, largest on top, each with its 95 % interval; open dots do not differ from zero.

    Scores with a further axis give one line for each head and label.
    """
    frame = scores.top(k)
    further = list(scores.dims[3:])
    names = [" ".join(str(row[column]) for column in ("head", *further)) for row in frame.to_dict("records")]
    colours = [POSITIVE[4] if mean >= 0 else NEGATIVE[4] for mean in frame["mean"]]
    figure = go.Figure(layout=layout(title or titled(scores), height=140 + 22 * len(frame)))
    figure.add_scatter(
        x=frame["mean"],
        y=names,
        mode="markers",
        showlegend=False,
        error_x={
            "type": "data",
            "symmetric": False,
            "array": (frame["high"] - frame["mean"]).fillna(0),
            "color": "#8a8d94",
            "thickness": 1.2,
            "width": 0,
            "arrayminus": (frame["mean"] - frame["low"]).fillna(0),
        },
        marker={
            "size": 8,
            "color": colours,
            "line": {"width": 1.6, "color": colours},
            "symbol": ["circle" if marked else "circle-open" for marked in frame["significant"]],
        },
        customdata=frame[["low", "high", "q"]],
        hovertemplate="%{y}: %{x:.3g} [%{customdata[0]:.3g}, %{customdata[1]:.3g}], q %{customdata[2]:.2g}<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed", type="category", showgrid=False)
    figure.update_xaxes(
        title_text=scores.provenance.metric.replace("_", " "), gridcolor="#e6e7ea", zeroline=True, zerolinecolor="#595c63"
    )
    return figure
