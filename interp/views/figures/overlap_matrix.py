"""Overlap matrix: what the circuits of every two tasks share, beside what chance gives."""

from typing import Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.core.errors import InterpError
from interp.core.overlap_many import matrix
from interp.views.figures.style import SHARE, layout, say_nothing
from interp.views.labels import number, probability

NEEDED = ("a", "b", "size_a", "size_b", "shared", "jaccard", "chance", "matched", "p_holm")
ROOMY, MOST = 7, 12
"""Up to so many circuits a cell holds chance and p in words, and in numbers alone; beyond, they are in the hover text."""


def overlap_matrix(found: pd.DataFrame, *, chance: Literal["matched", "chance"] = "matched", level: float = 0.05,
                   title: str | None = None) -> go.Figure:
    """Jaccard of every two circuits; each cell with the Jaccard of random circuits and p; the diagonal has the sizes.

    Bold: more than random circuits matched by layer share, at ``level`` after Holm's correction for the number of pairs. The
    colour runs from 0 to 1 whatever the values.

    Args:
        found: the table of ``interp.core.overlap_many.pairs``.
        chance: ``matched``: of random circuits with as many items in each layer; ``chance``: of these sizes. p is of matched
            chance either way.

    Raises ``InterpError`` for another table.
    """
    if missing := [name for name in NEEDED if name not in found]:
        raise InterpError("draw an overlap matrix", f"the table has no column {missing[0]!r}",
                          "give the table of interp.core.overlap_many.pairs")
    by = "layer-matched chance" if chance == "matched" else "chance"
    figure = go.Figure(layout=layout(title or f"What circuits share: Jaccard, {by}, p"))
    if not len(found):
        return say_nothing(figure, "there are no two circuits")
    z = matrix(found)
    names, row_of = list(z.index), {(row["a"], row["b"]): row for row in found.to_dict("records")}
    sizes = {name: row[f"size_{end}"] for row in row_of.values() for end in ("a", "b") for name in [row[end]]}
    values = np.array(z, dtype=float)
    np.fill_diagonal(values, np.nan)
    printed, hover = [[""] * len(names) for _ in names], [[""] * len(names) for _ in names]
    for i, one in enumerate(names):
        printed[i][i], hover[i][i] = f"n = {sizes[one]}", f"{one}: {sizes[one]} in the circuit"
        for j, other in enumerate(names):
            row = row_of.get((one, other), row_of.get((other, one)))
            if row is None or i == j:
                continue
            value = f"{row['jaccard']:.2f}" if row["jaccard"] == row["jaccard"] else "–"
            value = f"<b>{value}</b>" if row["p_holm"] <= level else value
            p = probability(row["p_holm"])
            by_chance = f"{row[chance]:.2f}{' by chance' if len(names) <= ROOMY else ''}<br>p {p}"
            printed[i][j] = f"{value}<br>{by_chance}" if len(names) <= MOST else value
            hover[i][j] = (f"{one} / {other}: {row['shared']} of {row['size_a']} and {row['size_b']} shared, Jaccard "
                           f"{number(row['jaccard'])}; by chance {number(row['chance'])}, matched by layer "
                           f"{number(row['matched'])}, p {probability(row['p_holm'])} (Holm)")
    figure.add_heatmap(
        z=values, x=names, y=names, zmin=0, zmax=1, colorscale=SHARE, text=printed, texttemplate="%{text}",
        customdata=hover, hovertemplate="%{customdata}<extra></extra>", xgap=1, ygap=1,
        colorbar={"title": {"text": "Jaccard"}, "thickness": 12},
    )
    figure.update_yaxes(autorange="reversed", type="category", showgrid=False)
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_layout(plot_bgcolor="#eceef1", height=180 + 56 * len(names))
    return figure
