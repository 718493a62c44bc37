"""Comparisons against sklearn, scipy and counting by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import provenance, random_scores, scores
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from interp.core.compare import auroc, average_precision, precision_at_k, rank_agreement, top_overlap
from interp.core.errors import InterpError
from interp.core.head import Head


def flat(values, **parts):
    """Scores of one layer, the same on both prompts."""
    return scores(np.repeat(np.asarray(values, dtype=float)[None, :, None], 2, axis=2), **parts)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=20).filter(
    lambda heads: 0 < sum(true for _, true in heads) < len(heads)))
def test_recovery_is_that_of_sklearn(heads):
    values, true = [v for v, _ in heads], [t for _, t in heads]
    made, wanted = flat(values), [Head(0, i) for i, t in enumerate(true) if t]
    np.testing.assert_allclose(auroc(made, wanted), roc_auc_score(true, values))
    np.testing.assert_allclose(average_precision(made, wanted), average_precision_score(true, values))


def test_precision_by_hand():
    made = flat([5, 4, 3, 3, 1])
    wanted = [Head(0, 0), Head(0, 2)]
    assert precision_at_k(made, wanted, 1) == 1
    assert precision_at_k(made, wanted) == 0.5
    assert precision_at_k(made, wanted, 3) == pytest.approx(1.5 / 3)    # one of the two tied heads, by its share
    assert precision_at_k(made, wanted, 5) == pytest.approx(2 / 5)


def test_missing_heads_take_no_part():
    made = flat([5, np.nan, 4, 1])
    assert auroc(made, [Head(0, 0), Head(0, 2)]) == 1
    with pytest.raises(InterpError, match="L0H1 has no score"):
        auroc(made, [Head(0, 1)])
    with pytest.raises(InterpError, match="L7H0 has no score"):
        auroc(made, [Head(7, 0)])
    with pytest.raises(InterpError, match="0 of 3"):
        auroc(made, [])
    with pytest.raises(InterpError, match="choose k"):
        precision_at_k(made, [Head(0, 0)], 9)


@pytest.mark.parametrize("method", ["spearman", "kendall"])
def test_rank_agreement_is_that_of_scipy(method):
    a, b = random_scores(seed=1), random_scores(seed=2)
    found = rank_agreement(a, b, method=method, n_boot=50)
    theirs = {"spearman": stats.spearmanr, "kendall": stats.kendalltau}[method]
    assert found.value == pytest.approx(theirs(a.mean().ravel(), b.mean().ravel()).statistic)
    assert found.n_heads == 12
    assert found.paired
    assert found.low <= found.high


def test_agreement_with_itself_is_certain_and_with_its_negative_is_minus_one():
    made = random_scores()
    same = rank_agreement(made, made, n_boot=100)
    assert (same.value, same.low, same.high) == pytest.approx((1, 1, 1))
    opposite = scores(-made.values)
    assert rank_agreement(made, opposite, n_boot=100).value == pytest.approx(-1)


def test_the_interval_of_an_agreement_covers_it():
    """Scores of 30 heads around known sizes, with much noise, which lowers the correlation of what is measured.

    The interval holds the correlation of the sizes nearly as often as it says; the percentile interval does in 43 %.
    """
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(80):
        sizes = rng.normal(size=30)
        others = 0.7 * sizes + 0.7 * rng.normal(size=30)
        truth = stats.spearmanr(sizes, others).statistic
        noise = rng.normal(size=(2, 30, 60)) * 3
        a, b = (scores((x[:, None] + n)[None]) for x, n in zip((sizes, others), noise, strict=True))
        found = rank_agreement(a, b, n_boot=400)
        inside += found.low <= truth <= found.high
    assert 0.75 < inside / 80 < 0.98


def test_other_prompts_are_resampled_apart():
    other = random_scores(prompts=35, seed=2, provenance=provenance(task={"name": "ioi", "tokens_sha256": "dd"}))
    with pytest.raises(InterpError, match="prompts"):
        rank_agreement(random_scores(), other)
    found = rank_agreement(random_scores(), other, across=("task",), n_boot=100)
    assert not found.paired
    assert found.low < found.high


def test_one_prompt_gives_no_interval():
    one = random_scores(prompts=1)
    found = rank_agreement(one, one)
    assert found.value == pytest.approx(1)
    assert np.isnan(found.low)


def test_what_has_no_order_is_refused():
    with pytest.raises(InterpError, match="same score"):
        rank_agreement(flat([1, 1, 1]), flat([1, 2, 3]))
    with pytest.raises(InterpError, match="2 heads in common"):
        rank_agreement(flat([1, 2, np.nan]), flat([1, 2, 3]))
    with pytest.raises(InterpError, match="1x3 self heads against 1x4 self heads"):
        rank_agreement(flat([1, 2, 3]), flat([1, 2, 3, 4]))
    with pytest.raises(InterpError, match="spearman"):
        rank_agreement(flat([1, 2, 3]), flat([1, 2, 3]), method="spearmen")
    wide = scores(np.ones((1, 3, 2, 2)), dims=("layer", "head", "prompt", "position"))
    with pytest.raises(InterpError, match=r"position; choose one label with \.at"):
        rank_agreement(wide, wide)


def test_overlap_and_its_chance_by_counting():
    a, b = flat([6, 5, 4, 3, 2, 1]), flat([6, 1, 5, 2, 4, 3])
    found = top_overlap(a, b, 3)
    assert found.heads == (Head(0, 0), Head(0, 2))
    assert (found.shared, found.jaccard) == (2, 0.5)
    sets = [set(s) for s in itertools.combinations(range(6), 3)]
    shared = np.array([len(s & t) for s in sets for t in sets])
    assert found.chance_shared == pytest.approx(shared.mean())
    assert found.chance_jaccard == pytest.approx((shared / (6 - shared)).mean())
    assert found.p == pytest.approx((shared >= 2).mean())
    with pytest.raises(InterpError, match="choose k from 1 to 6"):
        top_overlap(a, b, 7)


def test_overlap_of_all_heads_is_no_news():
    found = top_overlap(random_scores(seed=1), random_scores(seed=2), 12)
    assert (found.jaccard, found.chance_jaccard, found.p) == pytest.approx((1, 1, 1))
