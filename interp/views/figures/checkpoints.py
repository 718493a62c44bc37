"""Checkpoints: a measure over the steps of training, a line per head, chosen heads highlighted."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from interp.core.errors import InterpError
from interp.core.head import Head
from interp.core.proportions import wilson
from interp.core.trajectory import Trajectory
from interp.views.figures.style import (
    DASHES,
    GRID,
    HINT,
    OUTCOME,
    SYMBOLS,
    chosen_heads,
    layout,
    points,
    say_nothing,
    series,
    titled,
)
from interp.views.labels import interval, number, plural

SHARES = (-0.03, 1.03)
"""Range of an axis of shares."""
Behaviour = Mapping[int, Sequence[float]]
Share = tuple[float, float, float, int]
"""Accuracy, the ends of its interval, number of prompts."""


def checkpoints(trajectory: Trajectory, *, heads: Sequence[Head | str] | None = None, k: int = 5,
                threshold: float | None = None, behaviour: Behaviour | Mapping[str, Behaviour] | None = None,
                log_steps: bool = True, confidence: float = 0.95, title: str | None = None) -> go.Figure:
    """The mean over prompts at every checkpoint: all heads thin and grey, some highlighted with their bootstrap intervals.

    Args:
        trajectory: of ``interp.measures.over_checkpoints`` or ``over_models``.
        heads: which are highlighted; None: the ``k`` of the largest mean at the last step.
        threshold: drawn as a dotted line, where it says who has the role.
        behaviour: step -> right (1) or wrong (0) of each prompt there, or several of these by name; the accuracy is drawn as
            a black line with Wilson's interval on an axis of its own, at the right. Its steps may differ from the heads'.
        log_steps: steps grow by factors; step 0 stands one tick left of the first later step.

    Raises ``InterpError`` for scores with a further axis, heads that there are none of, and an accuracy that is no share.
    """
    first = trajectory.scores[0]
    asked = "draw a measure over checkpoints"
    if first.values.ndim > 3:
        raise InterpError(asked, f"the scores have the further axis {first.dims[3]}",
                          "choose a label of it: Trajectory(steps, [scores.at(...) for scores in ...])")
    mean, (low, high) = trajectory.mean(), trajectory.interval(confidence)
    right = {name: _shares(one, confidence, asked) for name, one in _by_name(behaviour).items()}
    place = _places([*trajectory.steps, *(step for one in right.values() for step in one)], log_steps)
    chosen = chosen_heads(first.heads, mean[-1], heads, k, asked)
    x = [place[step] for step in trajectory.steps]
    figure = go.Figure(layout=layout(title or titled(trajectory.scores[-1])))
    others = [head for head in first.heads if head not in chosen]
    gap = np.full((len(others), 1), np.nan)
    lines = np.array([mean[:, head.layer, head.head] for head in others]).reshape(len(others), len(x))
    figure.add_scatter(
        x=np.tile([*x, np.nan], len(others)), y=np.concatenate([lines, gap], 1).ravel(), mode="lines",
        name=plural(len(others), "other head"), line={"color": "#c9ccd1", "width": 1}, showlegend=bool(others),
        text=[f"{first.label(head)}, step {step}" for head in others for step in (*trajectory.steps, "")],
        hovertemplate="%{text}: %{y:.3g}<extra></extra>", connectgaps=False,
    )
    for i, head in enumerate(chosen):
        value, below, above = (part[:, head.layer, head.head] for part in (mean, low, high))
        text = [f"{first.label(head)}, step {step}: {number(v)} {interval(b, a)}, {plural(first.n_prompts, 'prompt')}"
                for step, v, b, a in zip(trajectory.steps, value, below, above, strict=True)]
        points(figure, x, value, below, above, text, series(i), name=first.label(head))
    if threshold is not None:
        figure.add_hline(y=threshold, line=HINT)
    for i, (name, one) in enumerate(right.items()):
        _behaviour(figure, name, one, place, i)
    _axes(figure, place, log_steps, first.provenance.metric.replace("_", " "))
    known = mean[np.isfinite(mean)]
    if right and known.size and known.min() >= 0 and known.max() <= 1:
        figure.update_layout(yaxis={"range": SHARES, "dtick": 0.2})      # one grid for both axes
    return figure if np.isfinite(mean).any() else say_nothing(figure, "no head has a value")


def _by_name(behaviour: Any) -> dict[str, Behaviour]:
    if not behaviour:
        return {}
    named = all(isinstance(name, str) for name in behaviour)
    return {f"accuracy: {name}": one for name, one in behaviour.items() if one} if named else {"accuracy": behaviour}


def _shares(behaviour: Mapping[int, Sequence[float]], confidence: float, asked: str) -> dict[int, Share]:
    """Step -> accuracy, the interval's ends, number of prompts."""
    found = {}
    for step in sorted(behaviour):
        values = np.asarray(behaviour[step], dtype=float)
        values = values[np.isfinite(values)]
        if values.size and (values.min() < 0 or values.max() > 1):
            raise InterpError(asked, f"the behaviour at step {step} runs from {values.min():.3g} to {values.max():.3g}",
                              "give 1 or 0 for each prompt")
        share = float(values.mean()) if values.size else float("nan")
        low, high = wilson(share, values.size, confidence)
        found[int(step)] = (share, float(low), float(high), int(values.size))
    return found


def _places(steps: Sequence[int], log_steps: bool) -> dict[int, float]:
    """Where each step stands on the axis: itself, but for 0 on an axis of factors."""
    ordered = sorted(set(steps))
    positive = [step for step in ordered if step > 0]
    if not log_steps or not positive:
        return {step: float(step) for step in ordered}
    ratio = (positive[-1] / positive[0]) ** (1 / max(1, len(positive) - 1))
    return {step: float(step) if step > 0 else positive[0] / max(ratio, 1.25) for step in ordered}


def _behaviour(figure: go.Figure, name: str, right: Mapping[int, Share], place: Mapping[int, float], i: int) -> None:
    share, low, high = np.array([found[:3] for found in right.values()]).T
    sizes = sorted({found[3] for found in right.values()})
    n = str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    text = [f"{name}, step {step}: {number(value)} {interval(below, above)}, {plural(count, 'prompt')}"
            for step, (value, below, above, count) in right.items()]
    style = {"line": {**OUTCOME["line"], "dash": DASHES[(i + 2) % len(DASHES)]},
             "marker": {**OUTCOME["marker"], "symbol": f"{SYMBOLS[i % len(SYMBOLS)]}-open"}}
    points(figure, [place[step] for step in right], share, low, high, text, style, name=f"{name} (n = {n})", yaxis="y2")
    figure.update_layout(yaxis2={"title": {"text": "accuracy"}, "overlaying": "y", "side": "right", "range": SHARES,
                                 "tickmode": "linear", "tick0": 0, "dtick": 0.2, "showgrid": False, "zeroline": False},
                         legend={"x": 1.12}, margin={"r": 60})


def _axes(figure: go.Figure, place: Mapping[int, float], log_steps: bool, unit: str) -> None:
    factors = log_steps and any(step > 0 for step in place)
    shown, last = [], -np.inf
    ends = np.log10(list(place.values())) if factors else np.array(list(place.values()))
    room = float(np.ptp(ends)) / 14
    for (step, _), at in zip(place.items(), ends, strict=True):
        if at - last >= room:       # so that labels do not overlap
            shown.append(step)
            last = at
    ticks = {"tickvals": [place[step] for step in shown], "ticktext": [f"{step:,}" for step in shown]}
    figure.update_xaxes(title_text="training step", type="log" if factors else "linear", gridcolor=GRID, zeroline=False,
                        **(ticks if factors else {}))
    figure.update_layout(yaxis={"title": {"text": unit}, "gridcolor": GRID, "zeroline": False})
