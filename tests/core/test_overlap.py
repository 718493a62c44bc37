"""Overlap of circuits: sets and chance worked out by hand, scipy's hypergeometric, simulated nulls."""

import numpy as np
import pytest
from scipy import stats

from interp.core.circuit import Circuit, Edge, Node
from interp.core.circuit_formats import from_heads
from interp.core.errors import InterpError
from interp.core.overlap import (
    average_overlap,
    bootstrap_overlap,
    by_role,
    overlap,
    overlap_of,
    permutation_p,
    top_jaccard,
    weighted_jaccard,
)
from interp.core.overlap_many import heads, intersections, matrix, pairs, union
from interp.core.universe import Shape, universe

SHAPE = Shape(3, 4)
A = from_heads({"mover": ["L2H0", "L2H1"], "inhibition": ["L1H0"]}, name="a", provenance={"shape": SHAPE.record()})
B = from_heads({"mover": ["L2H1", "L1H0"], "previous token": ["L0H3"]}, name="b")
C = from_heads(["L2H1", "L0H0"], name="c")


def test_two_circuits_worked_out_by_hand():
    found = overlap(A, B, universe(SHAPE, "heads"))
    assert (found.n, found.sizes, [str(one) for one in found.shared]) == (12, (3, 3), ["L1H0", "L2H1"])
    assert [[str(one) for one in only] for only in found.only] == [["L2H0"], ["L0H3"]]
    assert found.jaccard == 2 / 4
    assert found.smaller == 2 / 3
    chance = stats.hypergeom(12, 3, 3)
    assert found.chance.shared == pytest.approx(9 / 12)
    assert found.chance.p == pytest.approx(chance.sf(1))
    assert found.chance.jaccard == pytest.approx(sum(chance.pmf(s) * s / (6 - s) for s in range(4)))
    # by layer: none of 4 in layer 0, 1 and 1 of 4 in layer 1, 2 and 1 of 4 in layer 2 -> met with 1/4 and with 1/2
    assert found.matched.shared == pytest.approx(1 / 4 + 1 / 2)
    assert found.matched.p == pytest.approx(1 / 8)
    assert found.matched.jaccard == pytest.approx(1 / 8 * 2 / 4 + (1 / 4 * 1 / 2 + 3 / 4 * 1 / 2) * 1 / 5)
    assert "2 heads of 3 and 3 shared (of 12): Jaccard 0.50" in str(found)


def test_published_sizes_share_little_by_chance():
    strata = dict.fromkeys(range(384), 0)
    found = overlap_of(range(29), range(4, 32), strata)
    assert (len(found.shared), found.jaccard) == (25, 25 / 32)
    assert found.chance.jaccard == pytest.approx(0.039, abs=0.001)
    assert found.chance.p < 1e-20


def test_the_exact_p_is_uniform_under_chance_and_matched_chance_knows_of_layers():
    random = np.random.default_rng(0)
    strata = {i: i // 10 for i in range(40)}
    ps, blind = [], []
    for _ in range(150):
        one, other = (np.concatenate([10 * layer + random.permutation(10)[:size] for layer, size in enumerate((0, 1, 4, 6))])
                      for _ in range(2))      # both sit in the upper layers, at random there
        found = overlap_of(one.tolist(), other.tolist(), strata)
        ps.append(found.matched.p)
        blind.append(found.chance.p)
    for level in (0.05, 0.1, 0.3):
        assert np.mean(np.array(ps) <= level) <= level + 2 * np.sqrt(level * (1 - level) / 150)
    assert np.mean(np.array(blind) <= 0.05) > 0.3      # chance that does not know the layers is too easily surprised


@pytest.mark.parametrize("statistic", [weighted_jaccard, average_overlap, lambda u, v: top_jaccard(u, v, (5, 5))])
def test_permutation_p_is_valid_under_chance_and_small_for_equals(statistic):
    random = np.random.default_rng(1)
    ps = [permutation_p(statistic, random.random(30), random.random(30), n=19, seed=i) for i in range(100)]
    for level in (0.1, 0.3, 0.6):
        assert np.mean(np.array(ps) <= level) <= level + 2.5 * np.sqrt(level * (1 - level) / 100)
    if statistic in (weighted_jaccard, average_overlap):      # no ties: uniform, not only valid
        assert stats.kstest(ps, "uniform").pvalue > 0.01
    same = random.random(30)
    assert permutation_p(statistic, same, same, n=99) == 0.01
    assert permutation_p(statistic, same, same, strata=np.arange(30), n=99) == 1.0      # nothing to exchange within strata


def test_weights_and_ranks_by_hand():
    assert weighted_jaccard([1, 0, 1], [0, 2, 2]) == pytest.approx((0 + 0 + 0.5) / (0.5 + 0.5 + 0.5))
    assert weighted_jaccard([1, -2, 3], [10, 20, -30]) == pytest.approx(1)
    assert weighted_jaccard([1, 0], [0, 1]) == 0
    # tops: {0}, {0, 1}, {0, 1, 2} and {1}, {1, 0}, {1, 0, 2}: 0, 1, 1
    assert average_overlap([3, 2, 1], [2, 3, 1]) == pytest.approx(2 / 3)
    assert average_overlap([3, 2, 1], [2, 3, 1], 1) == 0
    random = np.random.default_rng(0)
    drawn = [average_overlap(random.random(20), random.random(20), 8) for _ in range(500)]
    assert np.mean(drawn) == pytest.approx(9 / 40, abs=0.01)
    assert top_jaccard([5, -9, 1, np.nan], [5, 9, 1, 0], (2, 1)) == 1 / 2
    with pytest.raises(InterpError, match="same items"):
        weighted_jaccard([0, 0], [1, 2])


def test_bootstrap_intervals_hold_what_is_true_of_many_prompts():
    random = np.random.default_rng(3)
    true = [np.r_[np.full(6, 1.0), np.full(4, shift), np.zeros(30)] for shift in (0.9, 0.0)]
    wanted = top_jaccard(*true, (10, 6))
    held = []
    for seed in range(20):
        scores = [x[:, None] + random.normal(scale=0.8, size=(40, 24)) for x in true]
        value, low, high = bootstrap_overlap(lambda u, v: top_jaccard(u, v, (10, 6)), *scores, n_boot=120, seed=seed)
        assert 0 <= low <= value + 1e-9
        assert value <= high + 1e-9
        held.append(low - 1e-9 <= wanted <= high + 1e-9)
    assert np.mean(held) >= 0.8
    assert np.isnan(bootstrap_overlap(weighted_jaccard, np.ones((3, 1)), np.ones((3, 1)))[1])


def test_roles():
    table = by_role(A, B, SHAPE).set_index("role")
    assert table.loc["mover", ["a", "b", "shared", "heads"]].tolist() == [2, 2, 1, "L2H1"]
    assert table.loc["mover", "jaccard"] == 1 / 3
    assert table.loc["inhibition", ["shared", "elsewhere"]].tolist() == [0, "L1H0"]      # B has it as a mover
    assert table.loc["mover", "p"] == pytest.approx(stats.hypergeom(12, 2, 2).sf(0))


def test_edges_of_grouped_keys_count_once_and_edges_without_an_input_thrice():
    shape = Shape(2, 4, 2)
    every = universe(shape, "edges")
    # layer 0: 1 sender into 4 q, 2 k, 2 v, 5 into the MLP; layer 1: 6 into 8 receivers, 10 into the MLP; 11 into the logits
    assert len(every) == 8 + 5 + 48 + 10 + 11
    one = Circuit(edges=(Edge.parse("L0H0->L1H2.k"), Edge.parse("L0H0@S2->L1H3@end.k")))
    assert every.members(one) == {Edge.parse("L0H0->L1H2.k")}
    assert len(every.members(Circuit(edges=(Edge.parse("L0H0->L1H1"),)))) == 3
    assert len(universe(Shape(12, 12), "edges")) == 32491
    assert len(universe(Shape(2, 2, parallel=True), "edges")) == 6 + 1 + 24 + 4 + 7
    assert len(universe(Shape(2, 2, mlps=()), "nodes")) == 4
    with pytest.raises(InterpError, match="list of nodes without edges"):
        every.members(A)
    with pytest.raises(InterpError, match="has no L2H"):
        universe(shape, "heads").members(A)


def test_the_shape_is_told_by_files_or_asked_for():
    assert Shape.of_circuits(A, B) == SHAPE
    with pytest.raises(InterpError, match="--layers 12"):
        Shape.of_circuits(B, C)
    other = from_heads(["L0H0"], name="other", provenance={"shape": Shape(5, 8, 8).record()})
    with pytest.raises(InterpError, match="different shapes"):
        Shape.of_circuits(A, other)
    with pytest.raises(InterpError, match="equal groups"):
        Shape(2, 4, 3)


def test_many_circuits():
    every, named = universe(SHAPE), {"a": A, "b": B, "c": C}
    found = pairs(named, every)
    table = matrix(found)
    assert table.loc["a", "b"] == table.loc["b", "a"] == 0.5
    assert table.loc["a", "c"] == 1 / 4
    assert table.loc["c", "c"] == 1
    assert found["p_holm"].min() == pytest.approx(min(1, 3 * found["p"].min()))
    shown = intersections(named, every).set_index("circuits")["count"].to_dict()
    assert shown[("a", "b", "c")] == 1
    assert shown[("a", "b")] == 1
    assert shown[("a",)] == shown[("b",)] == shown[("c",)] == 1
    assert sum(shown.values()) == 5
    whole, membership = union(named, every)
    assert [str(head) for head in whole.heads()] == list(membership.index)
    assert membership.loc["L2H1"].tolist() == [True, True, True]
    assert membership.loc["L0H3"].tolist() == [False, True, False]
    shared = heads(named).set_index("head")
    assert shared.loc["L2H1", ["n", "roles"]].tolist() == [3, "a: mover; b: mover"]
    assert shared["n"].tolist() == [3, 2, 1, 1, 1]
    assert shared.loc["L0H3", "circuits"] == "b"
    with pytest.raises(InterpError, match="give two or more"):
        pairs({"a": A}, every)


def test_expected_intersections_are_those_of_random_circuits():
    random, wanted = np.random.default_rng(0), 6 * (1 / 9 * 2 / 3 + 4 / 9 * 1 / 3)
    counts = []
    for _ in range(400):
        x, y, z = ({(layer, head) for layer, size in ((0, 2), (1, 4)) for head in random.permutation(6)[:size].tolist()}
                   for _ in range(3))
        counts.append(len(x & y - z))
    assert np.mean(counts) == pytest.approx(wanted, abs=0.15)
    drawn = {name: Circuit(nodes=tuple(Node("head", *place) for place in chosen)) for name, chosen in
             (("x", x), ("y", y), ("z", z))}
    table = intersections(drawn, universe(Shape(2, 6))).set_index("circuits")
    assert table.loc[[("x", "y")], "chance"].iloc[0] == pytest.approx(wanted)
