"""A coarse table made certain where it matters: order and flags of the fine one, at the stated confidence, read in part."""

import numpy as np
import pytest
from scipy import stats

from interp.core import recheck as rechecking
from interp.core.errors import InterpError
from interp.core.intervals import false_discovery, paired_test
from interp.core.recheck import p_values, recheck

RUNS = 100
ERRORS = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "uniform": lambda rng, shape: rng.uniform(-1.7, 1.7, shape),
    "shared": lambda rng, shape: rng.standard_normal(shape) + 5 * rng.standard_normal((1, shape[1])),
    "uneven": lambda rng, shape: rng.standard_normal(shape) * rng.uniform(0.3, 1.7, (shape[0], 1)),
    "heavy": lambda rng, shape: rng.standard_t(6, shape) / 1.2,
}


def tables(seed, kind="normal", error=0.02, candidates=80, prompts=10):
    """(fine, coarse): a third of the effects are nothing but noise over the prompts."""
    rng = np.random.default_rng(seed)
    mean = np.where(rng.random((candidates, 1)) < 1 / 3, 0, rng.standard_normal((candidates, 1)))
    fine = mean + 0.5 * rng.standard_normal((candidates, prompts))
    return fine, fine - error * ERRORS[kind](rng, fine.shape)


def answer(values, k=10, magnitude=False):
    mean, exactly = values.mean(1), np.zeros(len(values))
    p = p_values(values, np.isfinite(values), exactly, exactly)[0]
    return np.argsort(-(np.abs(mean) if magnitude else mean), kind="stable")[:k], false_discovery(p) <= 0.05


def same(values, fine, k=10, magnitude=False):
    return all(np.array_equal(a, b) for a, b in zip(answer(values, k, magnitude), answer(fine, k, magnitude), strict=True))


@pytest.mark.parametrize("kind", ERRORS)
def test_order_and_flags_are_those_of_the_fine_table_in_five_hundred_runs(kind):
    right = wrong_before = read = 0
    for seed in range(RUNS):
        fine, coarse = tables(seed, kind)
        found = recheck(coarse, lambda rows, fine=fine: fine[rows], 10, seed=seed, magnitude=bool(seed % 2))
        right += same(found.values, fine, magnitude=bool(seed % 2))
        wrong_before += not same(coarse, fine, magnitude=bool(seed % 2))
        read += found.read.mean()
        np.testing.assert_array_equal(found.values[found.fine], fine[found.fine])
    assert stats.binomtest(right, RUNS, 0.95, alternative="less").pvalue > 1e-3, f"{kind}: right in {right / RUNS:.1%}"
    assert wrong_before > RUNS / 3, "the coarse table is right anyway: nothing was tested"
    assert read / RUNS < 0.75, f"{read / RUNS:.0%} were read again"


def test_without_an_allowance_for_those_not_sampled_it_fails(monkeypatch):
    monkeypatch.setattr(rechecking, "reach", lambda *_: 0.0)
    right = sum(same(recheck(coarse, lambda rows, fine=fine: fine[rows], 10, seed=seed).values, fine)
                for seed in range(RUNS) for fine, coarse in [tables(seed)])
    assert stats.binomtest(right, RUNS, 0.95, alternative="less").pvalue < 1e-3


def test_what_is_read_is_what_is_open():
    fine, coarse = tables(0, error=1e-9)
    log = []
    found = recheck(coarse, lambda rows: log.append(len(rows)) or fine[rows], 10)
    assert sum(log) == found.read.sum() == found.sampled == 9, "errors of nothing change nothing"
    assert same(found.values, fine)
    rough = recheck(tables(0, error=5.0)[1], lambda rows: fine[rows], 10)
    assert rough.fine.all()
    np.testing.assert_array_equal(rough.values, fine)


def test_what_errors_share_is_taken_out():
    fine, coarse = tables(3, error=1e-6)
    lifted = recheck(coarse + np.linspace(-3, 4, 10), lambda rows: fine[rows], 10)
    assert lifted.read.sum() == lifted.sampled
    np.testing.assert_allclose(lifted.values, fine, atol=1e-4)
    assert lifted.error_median == pytest.approx(0.5, abs=1e-3)
    assert lifted.bound < 1e-4


def test_known_rows_are_not_read_and_missing_entries_stay_missing():
    fine, coarse = tables(4)
    fine[60:], coarse[60:] = 0.0, 0.0
    fine[:5, 6:], coarse[:5, 6:] = np.nan, np.nan
    known = np.full(fine.shape, np.nan)
    known[60:] = 0.0
    asked = []
    found = recheck(coarse, lambda rows: asked.extend(rows.tolist()) or fine[rows], 10, known=known)
    assert found.population == 60
    assert max(asked) < 60
    assert len(set(asked)) == len(asked)
    np.testing.assert_array_equal(np.isnan(found.values), np.isnan(fine))
    everything = recheck(fine, None, 10, known=fine)
    assert everything.fine.all()
    assert not everything.read.any()


def test_p_values_bracket_those_of_every_error_within_the_bounds():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((40, 8)) + rng.standard_normal((40, 1))
    exists = np.ones(values.shape, dtype=bool)
    least, most = p_values(values, exists, np.full(40, 0.1), np.full(40, 0.2))
    for _ in range(40):
        error = rng.standard_normal(values.shape)
        error = 0.2 * (error - error.mean(1, keepdims=True)) / error.std(1, ddof=1, keepdims=True)
        p = paired_test((values + error + rng.uniform(-0.1, 0.1, (40, 1))).T).p
        assert (least - 1e-12 <= p).all()
        assert (p <= most + 1e-12).all()
    exactly = p_values(values, exists, np.zeros(40), np.zeros(40))
    np.testing.assert_allclose(exactly[0], paired_test(values.T).p, rtol=1e-9)
    np.testing.assert_array_equal(*exactly)


def test_a_larger_error_than_allowed_for_raises_the_bound():
    fine, coarse = tables(5, error=1e-4)
    first, second = np.argsort(-coarse.mean(1))[:2]
    coarse[first] -= (gap := coarse[first].mean() - coarse[second].mean())      # they meet: one of them must be read
    found = next(found for seed in range(20) if (found := recheck(coarse, lambda rows: fine[rows], 10, seed=seed)).refuted)
    assert found.bound > gap
    assert same(found.values, fine)


def test_one_prompt_has_an_order_and_no_flags():
    fine, coarse = tables(6, prompts=1)
    found = recheck(coarse, lambda rows: fine[rows], 10)
    np.testing.assert_array_equal(answer(found.values)[0], answer(fine)[0])


def test_what_is_refused():
    fine, coarse = tables(7)
    for options in ({"k": 0}, {"k": 81}, {"k": 5, "confidence": 1.0}, {"k": 5, "sample": 0}):
        with pytest.raises(InterpError):
            recheck(coarse, lambda rows: fine[rows], **options)
    with pytest.raises(ValueError, match="read as NaN"):
        recheck(coarse, lambda rows: np.full((len(rows), 10), np.nan), 5)
