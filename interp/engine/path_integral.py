"""Integrals of gradients along a path, with the completeness residual: what their sum lacks of the true difference.

Along a path from α = 0 to 1 the metric F changes at the rate F'(α) = Σ over parts of their slopes, so the integrals of the
slopes add up to F(1) − F(0) (completeness: Sundararajan et al. 2017). A sum over few points does not, and by how much is
known, as F itself is known at every point: in each interval, the trapezoid of F' less the difference of F. The adaptive path
halves the interval where that residual is largest, for each prompt its own. A jump or a bend between two points shows in F
wherever it lies, so no second estimate is needed to find it.

Nothing here knows of networks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple
from warnings import warn

import numpy as np

from interp.core.errors import InterpError
from interp.core.registry import unknown

ROUNDING = 1e-5
"""Residuals below this part of the metric itself are rounding."""
TRAVEL = 0.01
"""The difference counts as at least this part of the way that F travels along the path."""
RULES = {"trapezoid": (0.5, 0.5), "left": (1.0, 0.0), "right": (0.0, 1.0)}
"""Weights of an interval's ends. Published code takes one end alone, which is off by first order: for comparison."""


class Point(NamedTuple):
    """One evaluation of some rows: F [row], the slopes of the parts [row, ...], and F' [row]."""

    value: np.ndarray
    parts: np.ndarray
    rate: np.ndarray


Evaluate = Callable[[np.ndarray, np.ndarray], Point]
"""(rows, α of each) -> the path there. A row is a prompt."""


@dataclass(frozen=True)
class PathIntegral:
    """What the integral along a path gave.

    Attributes:
        parts: the integral of each part's slope, [row, ...].
        difference: F(1) − F(0), [row].
        residual: integral of F' less ``difference``, [row].
        evaluations: gradients that were evaluated for each row, [row].
        complete: whether |residual| is within the tolerance (True everywhere, where none was asked for), [row].
    """

    parts: np.ndarray
    difference: np.ndarray
    residual: np.ndarray
    evaluations: np.ndarray
    complete: np.ndarray


class _At(NamedTuple):
    """One point of one row's path."""

    at: float
    value: float
    parts: np.ndarray
    rate: float


def integrate(evaluate: Evaluate, n: int, *, steps: int = 8, tolerance: float | None = 0.01, budget: int = 64,
              rule: str = "trapezoid", finest: float = 0.0) -> PathIntegral:
    """The integral over α from 0 to 1, for each of ``n`` rows, by trapezoids (exact where the slopes are linear in α).

    Args:
        steps: intervals of equal length to begin with (``steps + 1`` evaluations).
        tolerance: halve intervals until the residuals of all intervals together are below this part of the difference;
            None: keep the ``steps`` intervals. Of a path that goes up and down and ends where it began, the difference says
            nothing: it counts as at least a hundredth of the way that F travels.
        budget: evaluations per row at most.
        rule: one of ``RULES``.
        finest: intervals of this width or less are not halved, as the arithmetic of F hardly tells their ends apart. A jump
            inside of one cannot be integrated: halving ends early then, and the row is not complete.
    """
    check(steps, tolerance, budget, rule)
    of_left, of_right = RULES[rule]

    def missed(left: _At, right: _At) -> float:
        """The rule's integral of F' less the difference of F."""
        return (right.at - left.at) * (of_left * left.rate + of_right * right.rate) - (right.value - left.value)

    paths: list[list[_At]] = [[] for _ in range(n)]

    def add(rows: np.ndarray, at: np.ndarray) -> None:
        found = evaluate(rows, at)
        for k, i in enumerate(rows):
            paths[i].append(_At(float(at[k]), float(found.value[k]), found.parts[k], float(found.rate[k])))
            paths[i].sort(key=lambda point: point.at)

    for at in np.linspace(0, 1, steps + 1):
        add(np.arange(n), np.full(n, at))
    difference = np.array([path[-1].value - path[0].value for path in paths])
    size = np.array([max(abs(path[-1].value), abs(path[0].value)) for path in paths])
    while True:
        residuals = [np.array([missed(*pair) for pair in pairwise(path)]) for path in paths]
        error = np.array([np.abs(row).sum() for row in residuals])
        travelled = np.array([np.abs(np.diff([point.value for point in path])).sum() for path in paths])
        whole = np.maximum(np.abs(difference), TRAVEL * travelled)
        allowed = np.full(n, np.inf) if tolerance is None else np.maximum(tolerance * whole, ROUNDING * size)
        wide = [np.diff([point.at for point in path]) > finest for path in paths]
        left = np.array([np.abs(row[ok]).sum() for row, ok in zip(residuals, wide, strict=True)])   # what halving can mend
        todo = np.flatnonzero((error > allowed) & (left > allowed / 2) & (np.array([len(path) for path in paths]) < budget))
        if not len(todo):
            break
        worst = [int((np.abs(residuals[i]) * wide[i]).argmax()) for i in todo]
        add(todo, np.array([(paths[i][j].at + paths[i][j + 1].at) / 2 for i, j in zip(todo, worst, strict=True)]))
    parts = np.stack([_weighted(path, of_left, of_right) for path in paths])
    return PathIntegral(parts, difference, np.array([row.sum() for row in residuals]),
                        np.array([len(path) for path in paths]), error <= allowed)


def _weighted(path: list[_At], of_left: float, of_right: float) -> np.ndarray:
    """The integral of the parts, in float64."""
    widths = np.diff([point.at for point in path])
    weights = of_left * np.append(widths, 0) + of_right * np.insert(widths, 0, 0)
    total = np.zeros(path[0].parts.shape)
    for weight, point in zip(weights, path, strict=True):
        total += weight * point.parts
    return total


def check(steps: int, tolerance: float | None, budget: int, rule: str = "trapezoid") -> None:
    """Refuse a path of no steps, a tolerance that is none, and a budget that does not even hold the first steps."""
    if rule not in RULES:
        raise unknown("rule of integration", str(rule), list(RULES))
    asked = f"integrate along a path in {steps} steps"
    if steps < 1:
        raise InterpError(asked, "a path has at least one step", "use steps=8, say")
    if tolerance is not None and not tolerance > 0:
        raise InterpError(f"integrate to a residual of {tolerance}", "a tolerance is a positive fraction", "use 0.01, say")
    if tolerance is not None and budget < steps + 1:
        raise InterpError(asked, f"that takes {steps + 1} evaluations and the budget is {budget}", "raise the budget")


def warn_if_incomplete(found: PathIntegral, tolerance: float | None, budget: int, what: str) -> None:
    """Say that a budget was spent before the residual was small enough."""
    short = np.flatnonzero(~found.complete)
    if tolerance is not None and len(short):
        missing, whole = np.abs(found.residual[short]).sum(), np.abs(found.difference[short]).sum()
        warn(f"the scores of {what} do not add up on {len(short)} of {len(found.complete)} paths: after {budget} gradients "
             f"they miss {missing:.3g} of {whole:.3g} in all, where {tolerance:.2%} was allowed for each path; raise "
             "budget, or take these scores as estimates", stacklevel=3)
