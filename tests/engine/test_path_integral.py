"""Integrals along a path, where F is a formula: exactness, order of the error, where the adaptive points go, the budget."""

import warnings

import numpy as np
import pytest

from interp.core.errors import InterpError
from interp.engine.path_integral import Point, integrate, warn_if_incomplete


class Formula:
    """F(row, α) with two parts, one of which carries a third of the rate; it remembers where it was evaluated."""

    def __init__(self, *formulas):
        self.formulas, self.asked = formulas, [[] for _ in formulas]

    def __call__(self, rows, at):
        for row, a in zip(rows, at, strict=True):
            self.asked[row].append(float(a))
        value, rate = np.array([self.formulas[row](a) for row, a in zip(rows, at, strict=True)]).T
        return Point(value, np.stack([rate / 3, 2 * rate / 3], axis=1), rate)


def square(a):
    return a * a, 2 * a


def wave(a):
    return np.sin(3 * a), 3 * np.cos(3 * a)


def step(a, at=0.3, gain=200.0):
    level = (1 + np.tanh(gain * (a - at) / 2)) / 2
    return level, gain * level * (1 - level)


def test_slopes_linear_along_the_path_are_integrated_exactly_by_one_step():
    found = integrate(Formula(square), 1, steps=1)
    np.testing.assert_allclose(found.parts, [[1 / 3, 2 / 3]], atol=1e-15)
    np.testing.assert_allclose([found.difference, found.residual], [[1], [0]], atol=1e-15)
    assert found.evaluations.tolist() == [2]
    assert found.complete.all()


def test_the_residual_falls_with_the_square_of_the_steps():
    residuals = [abs(integrate(Formula(wave), 1, steps=steps, tolerance=None).residual[0]) for steps in (4, 8, 16, 32)]
    ratios = np.array(residuals[:-1]) / residuals[1:]
    np.testing.assert_allclose(ratios, 4, atol=0.2)


@pytest.mark.parametrize(("rule", "expected"), [("left", 1 - 1 / 5), ("right", 1 + 1 / 5), ("trapezoid", 1.0)])
def test_one_sided_rules_are_off_by_a_known_amount(rule, expected):
    found = integrate(Formula(square), 1, steps=5, tolerance=None, rule=rule)
    np.testing.assert_allclose(found.parts.sum(), expected, atol=1e-14)
    np.testing.assert_allclose(found.residual, expected - 1, atol=1e-14)


def test_the_adaptive_path_spends_its_points_on_each_rows_step():
    formula = Formula(square, step, lambda a: step(a, at=0.8))
    found = integrate(formula, 3, steps=8, tolerance=0.01, budget=200)
    assert found.complete.all()
    assert np.all(np.abs(found.residual) <= 0.01 * found.difference)
    np.testing.assert_allclose(found.parts.sum(1), found.difference, atol=0.01)
    assert found.evaluations[0] == 9 == len(formula.asked[0])
    for row, at in ((1, 0.3), (2, 0.8)):
        extra = np.array(formula.asked[row][9:])
        assert len(extra) == found.evaluations[row] - 9 > 5
        assert np.mean(np.abs(extra - at) < 0.13) > 0.9, extra
        uniform = integrate(Formula(formula.formulas[row]), 1, steps=len(extra) + 8, tolerance=None)
        assert abs(uniform.residual[0]) > 4 * abs(found.residual[row])


def test_a_path_that_ends_where_it_began_is_measured_by_the_way_it_travels():
    found = integrate(Formula(lambda a: (np.sin(2 * np.pi * a), 2 * np.pi * np.cos(2 * np.pi * a))), 1, budget=200)
    assert found.complete.all()
    assert abs(found.residual[0]) < 0.01 * 0.01 * 4
    assert 9 < found.evaluations[0] < 200
    nothing = integrate(Formula(lambda a: (1.0, 0.0)), 1)
    assert nothing.complete.all()
    assert nothing.evaluations.tolist() == [9]


def test_a_jump_that_the_arithmetic_cannot_resolve_ends_the_halving():
    """The jump between two neighbouring numbers stays; the rest of the budget goes to what halving can mend, not there."""
    found = integrate(Formula(lambda a: (float(a > 0.3), 0.0), lambda a: step(a, at=0.8)), 2, budget=200, finest=1e-6)
    assert found.evaluations[0] < 40
    assert found.complete.tolist() == [False, True]
    np.testing.assert_allclose(found.residual[0], -1)


def test_a_spent_budget_is_known_and_warned_of():
    found = integrate(Formula(square, step), 2, steps=4, tolerance=1e-6, budget=12)
    assert found.evaluations.tolist() == [5, 12]
    assert found.complete.tolist() == [True, False]
    with pytest.warns(UserWarning, match="do not add up on 1 of 2 paths: after 12 gradients"):
        warn_if_incomplete(found, 1e-6, 12, "a formula")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_incomplete(integrate(Formula(square), 1, steps=4), 0.01, 64, "a formula")


def test_a_step_between_two_points_is_seen_in_the_difference():
    """Both slopes are 0 there: without F itself nothing would tell that anything was missed."""
    found = integrate(Formula(lambda a: step(a, gain=4000.0)), 1, steps=2, tolerance=None)
    np.testing.assert_allclose(found.parts, 0, atol=1e-9)
    np.testing.assert_allclose(found.residual, -1, atol=1e-9)


@pytest.mark.parametrize("options", [{"steps": 0}, {"tolerance": 0.0}, {"steps": 8, "budget": 8}, {"rule": "simpson"}])
def test_paths_that_are_none_are_refused(options):
    with pytest.raises(InterpError):
        integrate(Formula(square), 1, **options)
