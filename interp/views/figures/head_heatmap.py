"""Head heatmap: the mean effect of every head, rows layers (0 on top), columns heads."""

import numpy as np
import plotly.graph_objects as go

from interp.core.errors import InterpError
from interp.core.scores import HeadScores
from interp.views.colours import limit
from interp.views.figures.style import SIGNED, layout, titled
from interp.views.svg.heatmap import cell_label


def head_heatmap(scores: HeadScores, *, title: str | None = None, q: float = 0.05) -> go.Figure:
    """Mean over prompts of each head, zero-centred (blue above zero, red below); heads that differ from zero are dotted.

    Hover gives value, 95 % interval and q value. ``q``: the false-discovery rate of the dots.

    Raises ``InterpError`` for scores with a further axis: choose one of its labels with ``scores.at``.
    """
    if len(scores.dims) > 3:
        axis = scores.dims[3]
        raise InterpError(
            "draw a head heatmap",
            f"the scores have one grid for each {axis}",
            f"choose one with scores.at({axis}={scores.labels(axis)[0]!r})",
        )
    mean, (low, high), test = scores.mean(), scores.interval(), scores.test(q)
    unit = scores.provenance.metric.replace("_", " ")
    names = np.array([scores.label(head) for head in scores.heads], dtype=object).reshape(mean.shape)
    text = [
        [cell_label(names[i, j], mean[i, j], low[i, j], high[i, j], test.q[i, j], unit) for j in range(mean.shape[1])]
        for i in range(mean.shape[0])
    ]
    largest = limit(mean)
    rows, columns = np.nonzero(test.significant)
    figure = go.Figure(layout=layout(title or titled(scores)))
    figure.add_heatmap(
        z=mean,
        zmin=-largest,
        zmax=largest,
        colorscale=SIGNED,
        text=text,
        hovertemplate="%{text}<extra></extra>",
        xgap=1,
        ygap=1,
        colorbar={"title": {"text": unit}, "thickness": 12},
    )
    figure.add_scatter(
        x=columns,
        y=rows,
        mode="markers",
        marker={
            "size": 5,
            "color": [
                "#FFFFFF" if abs(mean[i, j]) > 0.6 * largest else "#111111" for i, j in zip(rows, columns, strict=True)
            ],
        },
        hoverinfo="skip",
        showlegend=False,
    )
    figure.update_yaxes(autorange="reversed", title_text="layer", dtick=_step(mean.shape[0]), showgrid=False, zeroline=False)
    figure.update_xaxes(
        title_text="head" if scores.unit == "head" else "key-value head",
        dtick=_step(mean.shape[1]),
        showgrid=False,
        zeroline=False,
    )
    return figure


def _step(count: int) -> int:
    return max(1, -(-count // 24))
