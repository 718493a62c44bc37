"""Sink curve: how many heads rest on a token, by the threshold that counts as resting, or by horizon or position."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import plotly.graph_objects as go

from interp.core.errors import InterpError
from interp.core.intervals import Floats, bootstrap
from interp.core.scores import HeadScores
from interp.views.figures.style import GREY, GRID, HINT, band, layout, points, say_nothing, series, titled
from interp.views.labels import interval, number, plural

PUBLISHED = 0.3
"""The threshold of Gu et al. 2025."""
THRESHOLDS = np.linspace(0, 1, 101)


def sink_curve(weights: HeadScores | Mapping[str, HeadScores] | Mapping[int, HeadScores], *,
               along: Literal["threshold", "horizon", "position"] = "threshold", epsilon: float = PUBLISHED,
               confidence: float = 0.95, title: str | None = None) -> go.Figure:
    """Sink rate: the share of heads in which the token's weight α exceeds ε, mean over prompts, with its interval.

    Args:
        weights: ``first_token_sink(..., value="weight")`` (or ``"rows"``): one, or several by name, a line each. With
            ``along="horizon"`` or ``"position"``: {tokens read: scores}, {token: scores}, the points of one line.
        along: what runs to the right. ``threshold``: ε from 0 to 1; dotted lines mark ``epsilon`` and what attention spread
            evenly gives the token (from the provenance), where a threshold tells nothing. Otherwise the rate at ``epsilon``,
            beside the mean weight and that of even attention.

    A prompt or head without a value is left out. Raises ``InterpError`` for no scores, for indicators in place of weights,
    for values outside 0 to 1, and for keys that are no numbers where something else than the threshold runs.
    """
    asked = f"draw a sink curve by {along}"
    lines: dict[str | int, HeadScores] = {}
    for name, one in {"": weights}.items() if isinstance(weights, HeadScores) else weights.items():
        lines[name] = one
    if not lines:
        raise InterpError(asked, "there are no scores", "give first_token_sink(..., value='weight')")
    for one in lines.values():
        _check(one, asked)
    if along == "threshold":
        return _by_threshold(lines, epsilon, confidence, title)
    numbered = {at: one for at, one in lines.items() if isinstance(at, int) and not isinstance(at, bool)}
    if len(numbered) < len(lines):
        raise InterpError(asked, "the scores are not given by number", f"give {{{along}: scores}}")
    return _by_number(dict(sorted(numbered.items())), along, epsilon, confidence, title)


def rate(weights: HeadScores, thresholds: Floats) -> Floats:
    """Share of heads with a weight above each threshold, [prompt, threshold]; NaN for a prompt without values."""
    values = np.moveaxis(weights.values, 2, 0).reshape(weights.n_prompts, -1)
    known = np.isfinite(values).sum(1)
    with np.errstate(invalid="ignore"):
        above = np.stack([(values > threshold).sum(1) for threshold in thresholds], 1)
        return np.asarray(above / known[:, None], dtype=np.float64)


def _by_threshold(lines: Mapping[str | int, HeadScores], epsilon: float, confidence: float, title: str | None) -> go.Figure:
    first = next(iter(lines.values()))
    figure = go.Figure(layout=layout(title or (titled(first) if len(lines) == 1 else "Sink rate by threshold")))
    seen, evens = False, set()
    for i, (name, one) in enumerate(lines.items()):
        mean, low, high = _summary(rate(one, THRESHOLDS), confidence)
        seen = seen or bool(np.isfinite(mean).any())
        evens |= {even} if np.isfinite(even := _even(one)) else set()
        style, label = series(i), str(name) or "sink rate"
        band(figure, THRESHOLDS, low, high, style["line"]["color"], legendgroup=label)
        figure.add_scatter(
            x=THRESHOLDS, y=mean, mode="lines", line=style["line"], legendgroup=label,
            name=f"{label} (n = {one.n_prompts})",
            text=[f"{label}, ε = {at:.2f}: {number(rate_)} {interval(below, above)}, {plural(one.n_prompts, 'prompt')}"
                  for at, rate_, below, above in zip(THRESHOLDS, mean, low, high, strict=True)],
            hovertemplate="%{text}<extra></extra>",
        )
    figure.add_vline(x=epsilon, line=HINT, annotation_text=f"ε = {epsilon:g}", annotation_font_color=GREY)
    if len(evens) == 1:
        figure.add_vline(x=next(iter(evens)), line=HINT, annotation_text="even attention",
                         annotation_position="bottom right", annotation_font_color=GREY)
    figure.update_xaxes(title_text="threshold ε on the token's weight", range=[0, 1], gridcolor=GRID, zeroline=False)
    return _shares(figure, "sink rate (share of heads)", seen)


def _by_number(at: Mapping[int, HeadScores], along: str, epsilon: float, confidence: float, title: str | None) -> go.Figure:
    x, counts = np.array(list(at)), [one.n_prompts for one in at.values()]
    some = f"{min(counts)} to {max(counts)} prompts" if len(set(counts)) > 1 else plural(counts[0], "prompt")
    model = next(iter(at.values())).provenance.model.get("name")
    figure = go.Figure(layout=layout(title or f"Sink rate by {along}: {model}, {some}"))
    found = {
        f"sink rate at ε = {epsilon:g}": [_summary(rate(one, np.array([epsilon])), confidence) for one in at.values()],
        "mean weight": [_summary(_mean(one), confidence) for one in at.values()],
    }
    seen = False
    for i, (name, triples) in enumerate(found.items()):
        mean, low, high = np.array(triples)[..., 0].T
        seen = seen or bool(np.isfinite(mean).any())
        text = [f"{along} {place}, {name}: {number(value)} {interval(below, above)}, {plural(n, 'prompt')}"
                for place, value, below, above, n in zip(x, mean, low, high, counts, strict=True)]
        points(figure, x, mean, low, high, text, series(i), name=name)
    even = [_even(one) for one in at.values()]
    if np.isfinite(even).any():
        figure.add_scatter(x=x, y=even, mode="lines", name="weight if even", line=HINT,
                           hovertemplate=along + " %{x}, even attention: %{y:.3f}<extra></extra>")
    figure.update_xaxes(title_text="tokens read" if along == "horizon" else "token, counted from the first",
                        gridcolor=GRID, zeroline=False, **({"type": "log", "tickvals": x} if along == "horizon" else {}))
    return _shares(figure, "share", seen)


def _summary(values: Floats, confidence: float) -> tuple[Floats, Floats, Floats]:
    """Mean over prompts [m] of values [prompt, m], and the interval's ends."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        mean = np.where(there, values, 0).sum(0) / there.sum(0)
    return (mean, *bootstrap(values, confidence=confidence))


def _mean(weights: HeadScores) -> Floats:
    """Mean weight over heads, [prompt, 1]."""
    values = np.moveaxis(weights.values, 2, 0).reshape(weights.n_prompts, -1)
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(there, values, 0).sum(1) / there.sum(1), dtype=np.float64)[:, None]


def _even(weights: HeadScores) -> float:
    """What attention spread evenly gives the token, as far as the provenance says so and the values are weights."""
    told = weights.provenance.options
    return float(told.get("weight_if_even", np.nan)) if told.get("value", "weight") == "weight" else float("nan")


def _shares(figure: go.Figure, what: str, seen: bool) -> go.Figure:
    figure.update_yaxes(title_text=what, range=[-0.02, 1.02], gridcolor=GRID, zeroline=False)
    return figure if seen else say_nothing(figure, "no head has a value")


def _check(scores: HeadScores, asked: str) -> None:
    todo = "give first_token_sink(..., value='weight')"
    if scores.provenance.options.get("value") == "indicator":
        raise InterpError(asked, "the scores are indicators of one threshold", todo)
    if scores.values.ndim != 3:
        raise InterpError(asked, f"the scores have the further axis {scores.dims[3]}", "choose one label with scores.at")
    known = scores.values[np.isfinite(scores.values)]
    if known.size and (known.min() < -1e-6 or known.max() > 1 + 1e-6):
        raise InterpError(asked, f"the scores run from {known.min():.3g} to {known.max():.3g} and are no shares", todo)
