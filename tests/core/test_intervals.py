"""Intervals cover what they say, tests agree with scipy and statsmodels."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from interp.core.errors import InterpError
from interp.core.intervals import bootstrap, false_discovery, paired_test, resamples

DRAWS = {
    "normal": (lambda rng, shape: rng.normal(1.0, 2.0, shape), 1.0, (12, 40)),
    "uniform": (lambda rng, shape: rng.uniform(0.0, 1.0, shape), 0.5, (12, 40)),
    "skewed": (lambda rng, shape: rng.exponential(1.0, shape), 1.0, (40, 100)),
    "rare": (lambda rng, shape: (rng.random(shape) < 0.3).astype(float), 0.3, (40, 100)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_the_interval_of_a_mean_covers_it(name):
    draw, mean, sizes = DRAWS[name]
    for n in sizes:
        low, high = bootstrap(draw(np.random.default_rng(n), (n, 3000)), n_boot=1000)
        assert 0.92 <= ((low <= mean) & (mean <= high)).mean() <= 0.98, n


def test_the_interval_of_a_ratio_covers_it():
    rng = np.random.default_rng(0)
    whole = rng.normal(4.0, 1.0, (40, 1500))
    part = 0.3 * whole + rng.normal(0.0, 1.0, whole.shape)
    low, high = bootstrap(part, whole, n_boot=1000)
    assert 0.92 <= ((low <= 0.3) & (high >= 0.3)).mean() <= 0.98


def test_a_wider_confidence_covers_more():
    values = np.random.default_rng(1).normal(size=(30, 4000))
    low, high = bootstrap(values, confidence=0.8, n_boot=1000)
    assert 0.77 <= ((low <= 0) & (high >= 0)).mean() <= 0.83


def test_the_interval_is_close_to_that_of_scipy():
    values = np.random.default_rng(3).exponential(size=200)
    ours = bootstrap(values, n_boot=20000)
    theirs = stats.bootstrap((values,), np.mean, method="BCa", n_resamples=20000, rng=0).confidence_interval
    np.testing.assert_allclose(ours, theirs, atol=0.03 * (theirs.high - theirs.low))


def test_resampling_is_shared_by_heads_and_fixed_by_the_seed():
    values = np.random.default_rng(0).normal(size=(20, 2))
    twice = np.column_stack([values[:, 0], values[:, 0], values[:, 1]])
    low, high = bootstrap(twice)
    assert low[0] == low[1] != low[2]
    np.testing.assert_array_equal(bootstrap(twice, seed=4), bootstrap(twice, seed=4))
    assert (resamples(7, 100, 0).sum(1) == 7).all()
    assert not np.array_equal(bootstrap(twice, seed=4), (low, high))


def test_the_interval_moves_and_scales_with_the_values():
    values = np.random.default_rng(0).exponential(size=(25, 3))
    low, high = bootstrap(values)
    moved = bootstrap(10 - 2 * values)
    np.testing.assert_allclose(moved, (10 - 2 * high, 10 - 2 * low), rtol=0.05)
    np.testing.assert_allclose(bootstrap(5 * values), (5 * low, 5 * high))


def test_missing_values_are_left_out():
    values = np.random.default_rng(0).normal(size=(30, 2))
    values[10:, 0] = np.nan
    values[:, 1] = np.nan
    low, high = bootstrap(values)
    assert low[0] < np.nanmean(values[:, 0]) < high[0]
    assert np.isnan(low[1])
    assert np.isnan(high[1])
    one = values.copy()
    one[1:, 0] = np.nan
    assert np.isnan(bootstrap(one)[0]).all()


def test_one_prompt_has_no_interval_and_equal_prompts_have_none_to_speak_of():
    assert np.isnan(bootstrap(np.ones((1, 4)))).all()
    np.testing.assert_allclose(bootstrap(np.full((9, 2), 0.1)), 0.1)


def test_a_confidence_outside_its_range_is_refused():
    with pytest.raises(InterpError, match="between 0 and 1"):
        bootstrap(np.ones(3), confidence=95)


def test_p_values_are_those_of_scipy():
    values = np.random.default_rng(1).normal(0.3, 1.0, (24, 3, 5))
    found = paired_test(values)
    np.testing.assert_allclose(found.p, stats.ttest_1samp(values, 0.0, axis=0).pvalue, rtol=1e-10)
    ranks = paired_test(values, method="wilcoxon")
    np.testing.assert_allclose(ranks.p[1, 2], stats.wilcoxon(values[:, 1, 2], zero_method="pratt").pvalue)


def test_false_discovery_is_that_of_statsmodels():
    p = np.random.default_rng(2).beta(0.5, 3.0, size=(6, 8))
    p[0, :2] = np.nan
    q = false_discovery(p)
    called, adjusted, *_ = multipletests(p[np.isfinite(p)], alpha=0.1, method="fdr_bh")
    np.testing.assert_allclose(q[np.isfinite(p)], adjusted)
    np.testing.assert_array_equal(q[np.isfinite(p)] <= 0.1, called)
    assert np.isnan(q[0, :2]).all()


def test_false_discoveries_stay_below_the_level():
    """150 families of 60 heads, 10 of them real: the mean share of false calls among calls keeps to the level."""
    rng = np.random.default_rng(5)
    shares = []
    for _ in range(150):
        values = rng.normal(size=(20, 60))
        values[:, :10] += 1.0
        found = paired_test(values, 0.1).significant
        shares.append(found[10:].sum() / max(1, found.sum()))
    assert np.mean(shares) < 0.1 + 2 * np.std(shares) / 150**0.5


def test_values_that_are_all_zero_or_all_equal():
    values = np.zeros((8, 3))
    values[:, 1] = 0.25
    values[:, 2] = np.nan
    found = paired_test(values)
    assert found.p[0] == 1
    assert found.p[1] == 0
    assert np.isnan(found.p[2])
    assert found.significant.tolist() == [False, True, False]
    assert np.isnan(paired_test(np.ones((1, 2))).p).all()


def test_unknown_test_and_level_are_refused():
    with pytest.raises(InterpError, match="wilcoxon"):
        paired_test(np.ones((4, 2)), method="wilcoxn")
    with pytest.raises(InterpError, match="between 0 and 1"):
        paired_test(np.ones((4, 2)), 5)


def test_many_heads_are_resampled_in_parts_without_a_difference():
    values = np.random.default_rng(0).normal(size=(6, 2500))
    low, high = bootstrap(values, n_boot=50)
    np.testing.assert_array_equal(bootstrap(values[:, 2400:], n_boot=50), (low[2400:], high[2400:]))
