"""Layer profile: mean and spread of a measure in each layer."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

from interp.core.errors import InterpError
from interp.core.intervals import bootstrap
from interp.core.scores import HeadScores
from interp.views.figures.style import GREY, GRID, layout, points, say_nothing, series, titled
from interp.views.labels import interval, number, plural


def layer_profile(scores: HeadScores | Mapping[str, HeadScores], *, confidence: float = 0.95,
                  title: str | None = None) -> go.Figure:
    """The mean over the heads of each layer, with its bootstrap interval over prompts, and every head as a dot.

    The interval is of the layer's mean (the heads averaged on each prompt); the dots show how unlike its heads are, which a
    mean hides. Several scores by name give a line each, side by side. A layer without any value has no point.

    Raises ``InterpError`` for no scores, and for scores with a further axis.
    """
    lines = {"": scores} if isinstance(scores, HeadScores) else dict(scores)
    if not lines:
        raise InterpError("draw a layer profile", "there are no scores", "give HeadScores, or {name: HeadScores}")
    first = next(iter(lines.values()))
    figure = go.Figure(layout=layout(title or (titled(first) if len(lines) == 1 else "Layer profile")))
    seen = False
    for i, (name, one) in enumerate(lines.items()):
        if len(one.dims) > 3:
            raise InterpError("draw a layer profile", f"the scores have the further axis {one.dims[3]}",
                              f"choose one with scores.at({one.dims[3]}={one.labels(one.dims[3])[0]!r})")
        seen = _line(figure, name, one, i, (i - (len(lines) - 1) / 2) * min(0.2, 0.7 / len(lines)), confidence) or seen
    layers = max(one.n_layers for one in lines.values())
    figure.update_xaxes(title_text="layer", dtick=max(1, -(-layers // 24)), showgrid=False, zeroline=False,
                        range=[-0.6, layers - 0.4])
    unit = first.provenance.metric.replace("_", " ") if len({one.provenance.metric for one in lines.values()}) == 1 else ""
    figure.update_yaxes(title_text=unit, gridcolor=GRID, zeroline=True, zerolinecolor=GRID)
    return figure if seen else say_nothing(figure, "no head has a value")


def _line(figure: go.Figure, name: str, scores: HeadScores, i: int, shift: float, confidence: float) -> bool:
    """One set of scores: its heads as dots, its layers as a line; whether it has any value."""
    heads, style = scores.mean(), series(i)
    values = np.moveaxis(scores.values, 2, 0)                # [prompt, layer, head]
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        layers = np.where(there, values, 0).sum(2) / there.sum(2)
    mean = np.array([column[np.isfinite(column)].mean() if np.isfinite(column).any() else np.nan for column in layers.T])
    low, high = bootstrap(layers, confidence=confidence)
    spread = np.linspace(-1, 1, scores.n_heads + 2)[1:-1] * 0.06
    group = name or "layer mean"
    figure.add_scatter(
        x=(np.arange(scores.n_layers)[:, None] + shift + spread).ravel(),
        y=heads.ravel(),
        mode="markers",
        name=f"heads {name}".strip(),
        legendgroup=group,
        showlegend=not name,
        marker={"size": 5, "color": style["line"]["color"] if name else GREY, "opacity": 0.45},
        text=[scores.label(head) for head in scores.heads],
        hovertemplate="%{text}: %{y:.3g}<extra></extra>",
    )
    text = [_hover(name, layer, mean[layer], low[layer], high[layer], heads[layer], scores.n_prompts)
            for layer in range(scores.n_layers)]
    points(figure, np.arange(scores.n_layers) + shift, mean, low, high, text, style,
           name=f"{group} (n = {scores.n_prompts})", legendgroup=group)
    return bool(np.isfinite(mean).any())


def _hover(name: str, layer: int, mean: float, low: float, high: float, heads: np.ndarray, n: int) -> str:
    known = heads[np.isfinite(heads)]
    spread = f", heads {number(known.min())} to {number(known.max())}" if known.size else ""
    begin = f"{name}, layer {layer}" if name else f"layer {layer}"
    value = f"mean of {plural(int(known.size), 'head')} {number(mean)} {interval(low, high)}"
    return f"{begin}: {value}{spread}, {plural(n, 'prompt')}"
