"""What a random sample says of those not drawn: exact limits, and a reach that holds for the tails it is made for."""

import itertools

import numpy as np
import pytest
from scipy import stats

from interp.core.errors import InterpError
from interp.core.unseen import most_unseen, most_unseen_of_strata, reach, sample_size


@pytest.mark.parametrize(("population", "drawn"), [(40, 10), (144, 24), (100, 77), (500, 45)])
def test_the_limit_on_how_many_is_valid_and_the_smallest_that_is(population, drawn):
    most = most_unseen(population, drawn, 0.95)

    def chance_of_more(m):
        return stats.hypergeom.pmf(0, population, m + 1, drawn)      # m + 1 members above all that were drawn

    assert chance_of_more(most) <= 0.05
    assert most == 0 or chance_of_more(most - 1) > 0.05


def test_the_limit_by_hand():
    assert most_unseen(10, 10) == 0
    assert most_unseen(20, 19) == 0          # one of twenty is left: it is the largest with probability 1/20
    assert most_unseen(20, 18) == 1          # two are left: the largest is among them with probability 1/10
    assert most_unseen(100, 10, 0.5) == 6    # C(93, 10) / C(100, 10) = 0.46, C(94, 10) / C(100, 10) = 0.52


def test_the_limit_holds_in_simulation_whatever_the_population():
    rng = np.random.default_rng(0)
    most = most_unseen(80, 15, 0.9)
    scores = rng.standard_cauchy(80)
    runs = 2000
    held = 0
    for _ in range(runs):
        drawn = rng.choice(80, 15, replace=False)
        held += (scores > scores[drawn].max()).sum() <= most
    assert stats.binomtest(held, runs, 0.9, alternative="less").pvalue > 1e-3
    assert held < runs, "the limit is so wide that it is never exceeded"


@pytest.mark.parametrize(("shape", "draw"), [
    ("normal", lambda rng, n: np.abs(rng.standard_normal(n))),
    ("uniform", lambda rng, n: rng.random(n)),
    ("exponential", lambda rng, n: rng.exponential(1, n)),
    ("log-normal", lambda rng, n: np.exp(rng.standard_normal(n))),
    ("Student, 3", lambda rng, n: np.abs(rng.standard_t(3, n))),
    ("Pareto, 2", lambda rng, n: 1 + rng.pareto(2, n)),
])
@pytest.mark.parametrize(("population", "drawn"), [(40, 13), (1000, 64)])
def test_nothing_lies_beyond_reach(shape, draw, population, drawn):
    rng = np.random.default_rng(1)
    factor, runs = reach(population, drawn, 0.05), 1000
    scores = draw(rng, (runs * population)).reshape(runs, population)
    sampled, others = scores[:, :drawn].max(1), scores[:, drawn:].max(1)
    held = int((others <= factor * sampled).sum())
    assert stats.binomtest(held, runs, 0.95, alternative="less").pvalue > 1e-3, f"{shape}: {held / runs}"
    without = int((others <= sampled).sum())
    assert without < 0.5 * runs, "the largest sampled alone bounds nothing"


def test_a_tail_heavier_than_assumed_breaks_the_reach():
    rng = np.random.default_rng(2)
    scores = np.abs(rng.standard_cauchy((1000, 1000)))
    held = (scores[:, 64:].max(1) <= reach(1000, 64, 0.05) * scores[:, :64].max(1)).mean()
    assert held < 0.9
    assert (scores[:, 64:].max(1) <= reach(1000, 64, 0.05, tail=1.0) * scores[:, :64].max(1)).mean() >= 0.94


def test_reach_by_hand_and_what_is_refused():
    assert reach(100, 99, 0.05) == 1.0                       # 1 / 100 / 0.05 < 1
    assert reach(100, 19, 0.05) == pytest.approx(9.0)        # sqrt(81 / 20 / 0.05)
    assert sample_size(5) == 5
    assert sample_size(2880) == 108
    for bad in (lambda: reach(10, 0, 0.05), lambda: reach(10, 11, 0.05), lambda: reach(10, 5, 1.0),
                lambda: reach(10, 5, 0.05, tail=0.0), lambda: most_unseen(10, 5, 1.5)):
        with pytest.raises(InterpError):
            bad()


def test_strata_of_one_are_the_plain_bound_and_undrawn_strata_may_hold_all():
    for population, drawn in ((50, 5), (200, 24), (30, 30)):
        assert most_unseen_of_strata([population], [drawn]) == most_unseen(population, drawn)
    assert most_unseen_of_strata([50, 7], [5, 0]) == most_unseen(50, 5) + 7
    with pytest.raises(InterpError, match="at most all"):
        most_unseen_of_strata([5], [6])


def test_the_bound_of_strata_is_the_worst_of_all_ways_to_share_them_out():
    sizes, drawn = (6, 9, 5), (2, 3, 1)

    def none_drawn(held):
        return np.prod([stats.hypergeom.pmf(0, size, m, n) for size, m, n in zip(sizes, held, drawn, strict=True)])

    ways = list(itertools.product(*(range(size + 1) for size in sizes)))
    for confidence in (0.5, 0.8, 0.95):
        worst = max(sum(held) for held in ways if none_drawn(held) > 1 - confidence)
        assert most_unseen_of_strata(sizes, drawn, confidence) == worst
