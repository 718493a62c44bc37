"""The training view: head scores over the checkpoints of a run, a slider that colours the head grid by one of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from interp.core.errors import InterpError
from interp.core.intervals import bootstrap
from interp.core.scores import HeadScores
from interp.core.trajectory import Trajectory
from interp.views.labels import plural
from interp.views.widgets import sources
from interp.views.widgets.head_metric import HeadMetric, head_metrics
from interp.views.widgets.state import HeadState
from interp.views.widgets.view import View, attached

ASKED = "show scores over training"
MOST = 150_000
"""Numbers that a payload holds; beyond it only the strongest heads keep their intervals."""
KEPT = 64
"""Heads that keep their intervals then."""


class Training(View):
    """Scores over checkpoints: a slider, the selected heads as lines with intervals, the behaviour above them."""

    kind = "training"
    _esm = sources.script("training")


def training_slider(scores_by_step: Any, state: HeadState | None = None, *, accuracy: Mapping[int, Any] | None = None,
                    **traits: Any) -> Training:
    """A slider over checkpoints that sets the head grid's metric, and the selected heads over training.

    ``state.step`` is the checkpoint that is looked at (its training step); the head grids of the same state are coloured by
    the scores there, on one scale for all steps.

    Args:
        scores_by_step: a ``Trajectory`` (``interp.measures.over_checkpoints`` makes one), step -> ``HeadScores``, or a
            list of these for several measures of the same heads and steps. As a tab: ``workbench(training=...)``, with an
            accuracy ``training=(scores_by_step, accuracy)``.
        state: of another view, to be linked with.
        accuracy: step -> how often the model is right there, 0 to 1: a number, or one per prompt (then with its interval).
            None: what the scores tell of the clean prompts, where they do.
        traits: how the view begins: ``step``, ``theme``, ``sel``.

    Raises:
        InterpError: no checkpoint; measures of different heads or steps; more numbers than a page can hold.
    """
    content = payload(scores_by_step, accuracy)
    mine = {"step": content["steps"][-1], "metric": content["metrics"][0]["name"]}
    if state is None:
        shown = attached("training", content, None, **{**mine, "sel": _strongest(content), **traits})
    else:
        for name in ("metric", "step"):
            if "training" not in state.payloads:
                state.set_trait(name, mine[name])
        shown = attached("training", content, state, **traits)
    return Training(shown)


def payload(scores_by_step: Any, accuracy: Mapping[int, Any] | None = None) -> dict[str, Any]:
    """What the view draws: heads, steps, per metric mean and interval [step][layer * widest layer + head], the behaviour.

    Three to six significant digits; None where there is no value. Takes both arguments as one pair too, as a tab does.
    """
    if isinstance(scores_by_step, tuple) and len(scores_by_step) == 2 and _shares(scores_by_step[1]):
        scores_by_step, accuracy = scores_by_step
    runs = [_by_step(one) for one in (scores_by_step if isinstance(scores_by_step, list | tuple) else [scores_by_step])]
    if not runs or not runs[0]:
        raise InterpError(ASKED, "there is no checkpoint", "give a Trajectory, or step -> HeadScores")
    steps = sorted(runs[0])
    if any(sorted(run) != steps for run in runs):
        raise InterpError(ASKED, "the measures have different checkpoints", "give the same steps of each")
    size = sum(scores.values.size // scores.n_prompts * scores.group for run in runs for scores in run.values())
    if size > 2 * MOST:
        raise InterpError(ASKED, f"{size:,} means are more than a page can hold ({2 * MOST:,})",
                          "give fewer steps or one measure")
    metrics = [metric for run in runs for metric in _over_steps([head_metrics(run[step]) for step in steps])]
    shapes = {metric[0].mean.shape for metric in metrics}
    if len(shapes) > 1:
        raise InterpError(ASKED, f"the scores have the shapes {sorted(shapes)}", "give scores of the same heads")
    first = runs[0][steps[0]]
    layers, across = metrics[0][0].mean.shape
    taken: dict[str, int] = {}
    return {
        "heads": [across] * layers, "steps": steps, "n": first.n_prompts,
        "metrics": [_metric(metric, 3 * size > MOST, taken) for metric in metrics],
        "behaviour": _behaviour(runs[0], steps, accuracy),
        "source": _source(first),
    }


def _shares(given: Any) -> bool:
    return isinstance(given, Mapping) and not any(isinstance(one, HeadScores) for one in given.values())


def _by_step(given: Any) -> dict[int, HeadScores]:
    if isinstance(given, Trajectory):
        return dict(zip(given.steps, given.scores, strict=True))
    if isinstance(given, Mapping) and all(isinstance(scores, HeadScores) for scores in given.values()):
        return {int(step): scores for step, scores in given.items()}
    raise InterpError(ASKED, f"a {type(given).__name__} is neither a trajectory nor scores by step",
                      "give a Trajectory, step -> HeadScores, or a list of these")


def _over_steps(found: Sequence[tuple[HeadMetric, ...]]) -> list[list[HeadMetric]]:
    """One list over steps for each metric."""
    names = [tuple(metric.name for metric in one) for one in found]
    if len(set(names)) > 1:
        other = next(one for one in names if one != names[0])
        raise InterpError(ASKED, f"one checkpoint has {', '.join(names[0])} and another {', '.join(other)}",
                          "compute one measure with the same options at every checkpoint")
    if len({metric.mean.shape for one in found for metric in one}) > 1:
        raise InterpError(ASKED, "the checkpoints have different heads", "give scores of one model")
    return [list(one) for one in zip(*found, strict=True)]


def _metric(over: Sequence[HeadMetric], large: bool, taken: dict[str, int]) -> dict[str, Any]:
    mean, low, high = (np.stack([getattr(metric, part) for metric in over]).reshape(len(over), -1)
                       for part in ("mean", "low", "high"))
    size = np.where(np.isfinite(mean), np.abs(mean), 0).max(0)
    if large:
        weak = np.argsort(-size, kind="stable")[KEPT:]
        low[:, weak] = high[:, weak] = np.nan
    digits = 3 if large else 6
    name = f"{over[0].name} over training"
    taken[name] = taken.get(name, 0) + 1
    return {
        "name": name if taken[name] == 1 else f"{name} ({taken[name]})", "unit": over[0].unit, "note": over[0].note,
        "signed": over[0].signed, "limit": float(f"{size.max() or 1:.6g}"), "fewer": KEPT if large else 0,
        **{part: [_numbers(row, digits) for row in rows] for part, rows in (("mean", mean), ("low", low), ("high", high))},
    }


def _behaviour(run: Mapping[int, HeadScores], steps: Sequence[int], accuracy: Mapping[int, Any] | None
               ) -> dict[str, Any] | None:
    """What the model does at each step: the given accuracy, else ``answered`` or ``clean`` of the scores' baselines."""
    if accuracy is not None:
        missing = [step for step in steps if step not in accuracy]
        if missing:
            raise InterpError(ASKED, f"no accuracy is given for step {missing[0]}", "give one for each checkpoint")
        values = [np.atleast_1d(np.asarray(accuracy[step], dtype=float)) for step in steps]
        name, unit = "accuracy", ""
    else:
        known = [name for name in ("answered", "clean") if all(name in scores.baselines for scores in run.values())]
        if not known:
            return None
        values = [np.asarray(run[step].baselines[known[0]], dtype=float) for step in steps]
        metric = run[steps[0]].provenance.metric.replace("_", " ")
        name, unit = ("answered", "") if known[0] == "answered" else (f"{metric}, clean prompts", metric)
    ends = [bootstrap(one[:, None]) if len(one) > 1 else (np.full(1, np.nan),) * 2 for one in values]
    rows = {"mean": [one.mean() for one in values], "low": [one[0][0] for one in ends], "high": [one[1][0] for one in ends]}
    return {"name": name, "unit": unit, "n": len(values[0]), **{part: _numbers(row, 6) for part, row in rows.items()}}


def _numbers(row: Any, digits: int) -> list[float | None]:
    return [float(f"{value:.{digits}g}") if np.isfinite(value) else None for value in row]


def _strongest(content: Mapping[str, Any]) -> list[list[int]]:
    """The heads of the largest magnitude at the last step, three at most."""
    last = np.abs(np.array([-1.0 if value is None else value for value in content["metrics"][0]["mean"][-1]]))
    across = content["heads"][0]
    return [[int(at // across), int(at % across)] for at in np.argsort(-last, kind="stable")[:3]][::-1]


def _source(scores: HeadScores) -> str:
    whole = scores.provenance
    parts = [str(whole.model.get("name", "")), whole.measure.replace("_", " "), str(whole.task.get("name", "")),
             plural(scores.n_prompts, "prompt")]
    return " · ".join(part for part in parts if part)
