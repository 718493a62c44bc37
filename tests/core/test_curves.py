"""Intervals of shares, the masking curve and the grid: by hand and by simulation."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from interp.core.curves import MaskingCurve
from interp.core.errors import InterpError
from interp.core.grid import Cell, grid
from interp.core.proportions import crossed_share, difference, wilson

LINES = {"top": np.zeros((1, 1, 20)), "random": np.ones((1, 4, 20)), "layer-matched": np.ones((1, 4, 20))}


def curve(**changes):
    heads = {line: ((("L0H1",),) * values.shape[1],) for line, values in LINES.items()}
    return MaskingCurve(**{"ks": (2,), "untouched": np.ones(20), "lines": LINES, "heads": heads, "unmatched": (0,),
                           "facts": {"mask": "zero"}} | changes)


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (7, 20), (20, 20), (1, 3)])
def test_wilson(hits, n):
    assert wilson(hits / n, n) == pytest.approx(proportion_confint(hits, n, method="wilson"), abs=1e-9)


def test_no_cases_no_interval():
    assert np.isnan(wilson(np.nan, 0)).all()


def test_one_draw_is_a_share_of_prompts():
    values = np.array([[1.0] * 7 + [0.0] * 13])
    mean, low, high = crossed_share(values)
    want = wilson(0.35, 19, quantile=stats.t.ppf(0.975, 19))    # its variance is divided by n - 1
    assert (mean, low, high) == pytest.approx((0.35, float(want[0]), float(want[1])))


def test_agreement_of_all_answers_is_no_certainty():
    for value in (0.0, 1.0):
        mean, low, high = crossed_share(np.full((10, 30), value))
        assert mean == value
        assert high - low > 0.1


def test_repeating_prompts_for_more_draws_adds_nothing():
    """All draws agree with each other: ten of them know no more than one."""
    values = np.random.default_rng(0).random((1, 24)) < 0.6
    assert crossed_share(np.repeat(values, 10, 0)) == pytest.approx(crossed_share(values), abs=1e-6)


@pytest.mark.parametrize(("prompts", "draws", "spread"), [(24, 10, (1.0, 1.0)), (48, 10, (0.5, 2.0)), (40, 1, (1.0, 0.0))])
def test_the_interval_holds_the_share_over_other_prompts_and_draws(prompts, draws, spread):
    rng = np.random.default_rng(1)

    def chances(n, d):
        return 1 / (1 + np.exp(-0.5 - spread[0] * rng.normal(size=n)[None] - spread[1] * rng.normal(size=d)[:, None]))

    true = chances(1500, 1500).mean()
    held = [low <= true <= high for _, low, high in
            (crossed_share(rng.random((draws, prompts)) < chances(prompts, draws)) for _ in range(300))]
    assert np.mean(held) > 0.91


def test_difference():
    one, other = (0.9, 0.7, 0.97), (0.2, 0.1, 0.4)
    assert difference(one, other) == pytest.approx((0.7, 0.7 - np.hypot(0.2, 0.2), 0.7 + np.hypot(0.07, 0.1)))


def test_a_curve_leads_where_other_heads_do_no_harm():
    lead, low, high = curve().lead("layer-matched", 2)
    assert lead == 1
    assert 0.5 < low < high == 1
    assert curve().share("top", 0)[0] == 1
    assert curve().share("top", 2)[0] == 0
    frame = curve().to_frame()
    assert list(frame["k"]) == [0, 2] * 3
    assert frame["lead"].notna().sum() == 2


def test_a_curve_is_saved_and_loaded(tmp_path):
    again = MaskingCurve.load(curve().save(tmp_path / "curve.json"))
    assert again.to_frame().equals(curve().to_frame())
    assert (again.heads, again.ks, again.unmatched, again.facts) == (curve().heads, (2,), (0,), {"mask": "zero"})
    (tmp_path / "other.json").write_text("{}")
    for name in ("other.json", "none.json"):
        with pytest.raises(InterpError, match="read the masking curve"):
            MaskingCurve.load(tmp_path / name)


def test_a_curve_answers_what_it_was_measured_at():
    with pytest.raises(InterpError, match="it was measured at 2"):
        curve().share("top", 3)
    with pytest.raises(InterpError, match="did you mean 'random'"):
        curve().share("randm", 2)
    with pytest.raises(ValueError, match="for 2 numbers of heads"):
        curve(ks=(2, 3))


def test_grid():
    cells = [Cell(length, depth, name) for length in (200, 100) for depth in (0, 100) for name in "ab"]
    found = grid([str(cell) for cell in cells], [1, 1, 0, 1, np.nan, 1, 0, 0])
    assert (found.lengths, found.depths) == ((100, 200), (0, 100))
    assert found.share.tolist() == [[1, 1], [0, 0.5]]
    assert found.n.tolist() == [[1, 2], [2, 2]]
    assert found.low[1, 1] == pytest.approx(proportion_confint(1, 2, method="wilson")[0])
    with pytest.raises(InterpError, match="'ABBA' as a cell"):
        grid(["ABBA"], [1])
