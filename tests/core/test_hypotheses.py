"""Tests of hypotheses: 3 to 7 % of true hypotheses are rejected at 5 %, and false ones are."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from interp.core.errors import InterpError
from interp.core.hypotheses import equivalence, holm, independence, minimality, sign_equivalence

RUNS = 2000


def test_equivalence_against_statsmodels_and_its_size_at_the_margin():
    random = np.random.default_rng(0)
    rejected = 0
    for i in range(RUNS):
        model = random.normal(size=60)
        circuit = model + random.normal(0.5, 1.0, size=60)      # the mean difference is the margin: not equivalent
        found = equivalence(circuit, model, 0.5)
        rejected += found.rejected
        if i < 20:
            assert found.p == pytest.approx(ttost_paired(circuit, model, -0.5, 0.5)[0])
    assert 0.03 <= rejected / RUNS <= 0.07
    near = model + random.normal(0, 0.1, size=60)
    assert equivalence(near, model, 0.5).rejected
    assert not equivalence(model + 1, model, 0.5).rejected
    assert equivalence(model, model, 0.5).p == 0


def test_sign_equivalence_at_the_margin():
    random = np.random.default_rng(1)
    rejected = sum(sign_equivalence(random.random(400) < 0.6, np.full(400, 0.5)).rejected for _ in range(RUNS))
    assert 0.03 <= rejected / RUNS <= 0.07
    assert sign_equivalence(np.tile([1.0, -1.0], 200), np.zeros(400)).rejected
    assert sign_equivalence(np.zeros(400), np.zeros(400)).statistic == 0.5
    assert not sign_equivalence(np.ones(400), np.zeros(400)).rejected


def test_independence_has_its_size_and_sees_dependence_without_correlation():
    random = np.random.default_rng(2)
    p = [independence(*random.normal(size=(2, 24)), n_permutations=99, seed=i).p for i in range(RUNS)]
    assert 0.03 <= np.mean(np.array(p) <= 0.05) <= 0.07
    assert stats.kstest(p, "uniform").statistic < 0.05
    x = random.normal(size=80)
    found = independence(np.abs(x) + 0.05 * random.normal(size=80), x)
    assert found.rejected
    assert abs(np.corrcoef(np.abs(x), x)[0, 1]) < 0.4


def test_minimality_corrects_for_many_edges():
    random = np.random.default_rng(3)
    any_false = [minimality(np.abs(random.normal(size=12)), np.abs(random.normal(size=999)))[1].any() for _ in range(RUNS)]
    assert 0.03 <= np.mean(any_false) <= 0.07
    p, kept = minimality([5.0, 4.0, 0.1], np.abs(random.normal(0, 0.5, size=999)))
    assert kept.tolist() == [True, True, False]
    assert p[2] > 0.5


def test_holm_is_statsmodels():
    p = np.random.default_rng(4).random(30) ** 2
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])


def test_refusals():
    with pytest.raises(InterpError, match="pairs"):
        equivalence([1.0], [2.0], 0.1)
    with pytest.raises(InterpError, match="margin"):
        equivalence([1.0, 2.0], [1.0, 2.0], 0)
    with pytest.raises(InterpError, match="nothing to compare"):
        minimality([1.0], [])
