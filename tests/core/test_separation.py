"""The k largest without measuring all: exact on the way it ends, honest on what it left out, over thousands of runs."""

import numpy as np
import pytest
from populations import SHAPES, hidden, missed, population, reader
from scipy import stats

import interp.core.separation as separation
from interp.core.errors import InterpError
from interp.core.separation import separate, subset_sizes

RUNS = 300
"""For each of the seven shapes: 2,100 in all."""


def holds(successes, runs=RUNS, confidence=0.95):
    """Whether so many successes are what a procedure of that confidence gives (one in a thousand false alarms)."""
    return stats.binomtest(int(successes), runs, confidence, alternative="less").pvalue > 1e-3


def simulate(shape, runs=RUNS, **options):
    """Over many tables: how often nothing is missed, how often all intervals hold, and the share of entries read."""
    right = inside = spent = full = 0
    for seed in range(runs):
        values, proxy = population(shape, seed)
        found = separate(proxy, reader(values), 5, seed=seed, **options)
        mean = values.mean(1)
        right += missed(found.top, values) == 0
        inside += bool(((found.low <= mean + 1e-9) & (mean <= found.high + 1e-9)).all())
        spent, full = spent + found.spent, full + found.full
    return right, inside, spent / full


@pytest.mark.parametrize("shape", SHAPES)
def test_the_stated_confidence_holds_over_two_thousand_runs(shape):
    right, inside, share = simulate(shape)
    assert holds(right), f"{shape}: the top is right in {right / RUNS:.1%}"
    assert holds(inside), f"{shape}: all intervals hold in {inside / RUNS:.1%}"
    assert share < 1 or shape == "crowded", "everything was read, so that nothing was tested"


@pytest.mark.parametrize("shape", ["normal", "heavy", "skewed"])
def test_it_holds_with_growing_subsets_of_prompts(shape):
    right = inside = spent = full = early = 0
    for seed in range(150):
        values, proxy = population(shape, seed, prompts=32, error=0.5)
        found = separate(proxy, reader(values), 5, seed=seed, confidence=0.9)
        mean = values.mean(1)
        right += missed(found.top, values) == 0
        inside += bool(((found.low <= mean + 1e-9) & (mean <= found.high + 1e-9)).all())
        spent, full = spent + found.spent, full + found.full
        part = np.isfinite(found.values).sum(1)
        early += bool(((part > 0) & (part < 32)).any())
    assert holds(right, 150, 0.9)
    assert holds(inside, 150, 0.9)
    assert spent < full
    assert early > 15, "no candidate was ever left out after a part of the prompts"


@pytest.mark.parametrize("shape", ["skewed", "spiky"])
def test_without_an_allowance_for_those_not_sampled_the_same_simulation_fails(shape, monkeypatch):
    monkeypatch.setattr(separation, "reach", lambda *_: 1.0)
    right, inside, _ = simulate(shape)
    assert not holds(inside), f"{shape}: {inside / RUNS:.1%}"
    assert not holds(right), f"{shape}: {right / RUNS:.1%}"


def test_the_count_of_those_missed_holds_even_where_the_proxy_is_blind():
    right = counted = 0
    for seed in range(runs := 1000):
        values, proxy = hidden(seed)
        found = separate(proxy, reader(values), 5, seed=seed, sample=30)
        assert found.most_missed < 5
        lost = missed(found.top, values)
        right, counted = right + (lost == 0), counted + (lost <= found.most_missed)
    assert holds(counted, runs)
    assert not holds(right, runs), "what no sample has seen cannot be found: this is why the count is reported"


def test_a_sample_that_meets_a_hidden_candidate_opens_the_search():
    values, proxy = hidden(0, count=1)
    where = int(values.mean(1).argmax())
    proxy[where] -= 100        # it would never be looked at but for the sample
    drawn = [separate(proxy, reader(values), 5, seed=seed, sample=16) for seed in range(30)]
    found = next(found for found in drawn if found.whole[where])
    assert found.top[0] == where
    unseen = [other for other in drawn if not other.whole[where]]
    assert unseen
    assert found.spent > 1.5 * unseen[0].spent, "an error as large as the largest effect must widen every interval"


def test_the_top_is_exact_ordered_and_read_in_full():
    values, proxy = population("normal", 3)
    log = []
    found = separate(proxy, reader(values, log), 7)
    np.testing.assert_array_equal(found.top, np.argsort(-values.mean(1))[:7])
    assert found.whole[found.top].all()
    np.testing.assert_array_equal(found.values[found.top], values[found.top])
    np.testing.assert_allclose(found.high[found.top], values[found.top].mean(1))
    assert sum(c * p for c, p in log) == found.spent == np.isfinite(found.values).sum()
    assert found.full == 480
    assert found.highest_left <= found.threshold == pytest.approx(np.sort(values.mean(1))[-7])
    assert found.margin == pytest.approx(np.diff(np.sort(values.mean(1)))[-7], rel=1e-6)


def test_a_perfect_proxy_costs_the_sample_and_the_top():
    values, _ = population("normal", 1, candidates=400)
    found = separate(values, reader(values), 5)
    assert found.spent <= (40 + 5) * 8
    assert missed(found.top, values) == 0


def test_a_useless_proxy_costs_everything_and_is_right():
    values, _ = population("normal", 1)
    found = separate(np.random.default_rng(0).standard_normal(values.shape), reader(values), 5)
    assert found.spent == found.full
    assert missed(found.top, values) == 0
    assert found.most_missed == 0
    assert found.highest_left == -np.inf


def test_ties_are_separated_by_nothing_and_a_tolerance_spares_the_work():
    values = np.ones((50, 4)) + np.zeros((50, 1))
    found = separate(values + 0.01 * np.random.default_rng(0).standard_normal(values.shape), reader(values), 5)
    assert found.margin == 0
    assert missed(found.top, values) == 0
    crowded, proxy = population("crowded", 0, candidates=200)
    near = separate(proxy, reader(crowded), 5, tolerance=3.0)
    assert near.spent < separate(proxy, reader(crowded), 5).spent
    assert near.highest_left <= near.threshold + 3.0


def test_magnitude_ranks_by_absolute_value():
    values, proxy = population("signs", 4)
    found = separate(proxy, reader(values), 6, magnitude=True)
    np.testing.assert_array_equal(found.top, np.argsort(-np.abs(values.mean(1)))[:6])
    assert (values[found.top].mean(1) < 0).any()
    right = sum(missed(separate(p, reader(v), 5, magnitude=True, seed=s).top, v, magnitude=True) == 0
                for s in range(200) for v, p in [population("signs", s)])
    assert holds(right, 200)


def test_entries_that_do_not_exist_are_never_read_and_known_ones_cost_nothing():
    values, proxy = population("normal", 5)
    proxy[10:20, 4:] = np.nan
    values[10:20, 4:] = np.nan
    known = np.full(values.shape, np.nan)
    known[30:] = 0.0
    values[30:], proxy[30:] = 0.0, 0.0
    known[0, :3] = values[0, :3]
    found = separate(proxy, reader(values), 4, known=known)
    assert missed(found.top, values) == 0
    assert np.isnan(found.values[10:20, 4:]).all()
    assert (found.free, found.population, found.full) == (243, 30, 440)
    assert found.spent <= 440 - 243
    assert found.whole[30:].all()


def test_the_same_seed_gives_the_same_and_subsets_double():
    values, proxy = population("heavy", 6)
    one, two = (separate(proxy, reader(values), 5, seed=9) for _ in range(2))
    np.testing.assert_array_equal(one.values, two.values)
    assert subset_sizes(8) == (0,)
    assert subset_sizes(16) == (0, 8)
    assert subset_sizes(64) == (0, 8, 16, 32)


def test_what_is_refused():
    values, proxy = population("normal", 7)
    for options in ({"k": 0}, {"k": 61}, {"k": 5, "confidence": 1.0}, {"k": 5, "tolerance": -1.0}, {"k": 5, "sample": 0}):
        with pytest.raises(InterpError):
            separate(proxy, reader(values), **options)
    with pytest.raises(ValueError, match="read as NaN"):
        separate(proxy, lambda c, p: np.full((len(c), len(p)), np.nan), 5)
