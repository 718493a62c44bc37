"""Agreement between measures: rank correlations of the heads, with intervals."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

from interp.core import compare
from interp.core.errors import InterpError
from interp.core.scores import HeadScores
from interp.views.figures.style import SIGNED, layout


def measure_agreement(scores: Mapping[str, HeadScores], *, method: str = "spearman", title: str | None = None) -> go.Figure:
    """The square of rank correlations between scores, by the names given; -1 red, 0 white, 1 blue.

    The measures must be of the same model and prompts; their metrics may differ, as only ranks are compared. Hover gives the
    95 % interval (bootstrap over prompts). ``method``: ``spearman`` or ``kendall``.

    Raises ``InterpError`` for fewer than two, and for scores that cannot be compared.
    """
    names = list(scores)
    if len(names) < 2:
        raise InterpError("draw the agreement of measures", f"there are scores of {len(names)}", "give at least two")
    values = np.eye(len(names))
    text = [[f"{one} / {other}" for other in names] for one in names]
    for i, one in enumerate(names):
        for j, other in enumerate(names[:i]):
            found = compare.rank_agreement(scores[one], scores[other], method=method, across=("metric",))
            values[i, j] = values[j, i] = found.value
            text[i][j] = text[j][i] = (
                f"{one} / {other}: {found.value:.2f} [{found.low:.2f}, {found.high:.2f}], {found.n_heads} heads"
            )
    figure = go.Figure(layout=layout(title or f"Rank agreement ({method})"))
    figure.add_heatmap(
        z=values,
        x=names,
        y=names,
        zmin=-1,
        zmax=1,
        colorscale=SIGNED,
        text=text,
        hovertemplate="%{text}<extra></extra>",
        xgap=1,
        ygap=1,
        colorbar={"thickness": 12},
    )
    figure.update_yaxes(autorange="reversed")
    return figure
