"""Selection by hand on a graph of one layer, and what holds for every graph and size."""

import numpy as np
import pytest

from interp.core.errors import InterpError
from interp.core.provenance import Provenance
from interp.discovery.graph import mask_of, prune
from interp.discovery.node_scores import NodeScores
from interp.discovery.selection import HOWS, choose, select
from interp.engine.edges import EdgeScores, make_edges

MADE = Provenance("by hand", {}, {"name": "m"}, {"name": "t"}, "logit_diff")
EDGES = make_edges(1, 2, 2, [True], False)


def scores(edges=EDGES, **given):
    """Scores by name (``->`` written as ``__``, ``.`` as ``_``); all others 0.001 less and less."""
    values = -1e-3 * np.arange(1, len(edges) + 1, dtype=float) / len(edges)
    for name, value in given.items():
        values[edges.index(name.replace("__", "->").replace("_", "."))] = value
    return EdgeScores(edges, values[:, None], MADE)


def names(found, n, **options):
    return set(EDGES.names(np.flatnonzero(choose(found, n, **options))))


GOOD = {"embed__L0H0_v": 5.0, "L0H0__mlp0_mlp": -4.0, "mlp0__logits_out": 0.5, "L0H1__logits_out": 3.0,
        "embed__L0H1_q": 0.2, "embed__logits_out": 0.1}


def test_top():
    found = scores(**GOOD)
    assert names(found, 3, loose_ends=True) == {"embed->L0H0.v", "L0H0->mlp0.mlp", "L0H1->logits.out"}
    assert names(found, 3) == set()                                        # nothing of it is connected
    assert names(found, 4) == {"embed->L0H0.v", "L0H0->mlp0.mlp", "mlp0->logits.out"}
    assert names(found, 5, by="value", loose_ends=True) == {
        "embed->L0H0.v", "mlp0->logits.out", "L0H1->logits.out", "embed->L0H1.q", "embed->logits.out"}


def test_greedy():
    found = scores(**GOOD)
    assert names(found, 1, how="greedy", loose_ends=True) == {"L0H1->logits.out"}
    assert names(found, 2, how="greedy", loose_ends=True) == {"L0H1->logits.out", "mlp0->logits.out"}
    assert names(found, 4, how="greedy") == {"mlp0->logits.out", "L0H0->mlp0.mlp", "embed->L0H0.v"}
    assert names(found, 5, how="greedy") == {"mlp0->logits.out", "L0H0->mlp0.mlp", "embed->L0H0.v", "L0H1->logits.out",
                                             "embed->L0H1.q"}


def test_connected():
    found = scores(**GOOD)
    best_path = {"embed->L0H0.v", "L0H0->logits.out"}      # two edges connect the best one, the good way takes three
    assert names(found, 2, how="connected") == best_path
    assert names(found, 1, how="connected") == {"embed->logits.out"}       # no better one connects in one
    assert names(found, 4, how="connected") == best_path | {"L0H0->mlp0.mlp", "mlp0->logits.out"}
    assert names(found, 6, how="connected") == best_path | {
        "L0H0->mlp0.mlp", "mlp0->logits.out", "L0H1->logits.out", "embed->L0H1.q"}


@pytest.mark.parametrize("shape", [(2, 2, 2, [True, True], False), (3, 4, 2, [True, False, True], False),
                                   (2, 3, 1, [True, True], True)])
def test_what_holds_for_every_size(shape):
    edges = make_edges(*shape)
    found = EdgeScores(edges, np.random.default_rng(0).normal(size=(len(edges), 2)), MADE)
    for n in (1, 2, 5, 11, 30, len(edges)):
        chosen = {how: choose(found, n, how=how) for how in HOWS}
        for mask in chosen.values():
            assert mask.sum() <= n
            np.testing.assert_array_equal(prune(edges, mask), mask)
        assert chosen["connected"].sum() == n      # with an edge from embedding to output there is always one that fits
        loose = choose(found, n, loose_ends=True)
        assert loose.sum() == n
        assert np.abs(found.mean())[loose].min() >= np.abs(found.mean())[~loose].max(initial=0)
    assert all(mask.all() for mask in chosen.values())


def test_connected_keeps_the_best_edge_that_top_loses():
    edges = make_edges(2, 2, 2, [True, True], False)
    found = scores(edges, L0H0__L1H1_k=9.0, embed__logits_out=1.0)
    assert not choose(found, 1).any()
    assert choose(found, 3, how="connected")[edges.index("L0H0->L1H1.k")]


def test_unscored_edges_are_never_chosen():
    values = np.array(scores(**GOOD).values)
    values[EDGES.index("mlp0->logits.out")] = np.nan
    found = EdgeScores(EDGES, values, MADE)
    for how in HOWS:
        assert "mlp0->logits.out" not in names(found, len(EDGES), how=how)


def test_nodes():
    values = np.array([[np.nan], [0.1], [-2.0], [1.0]])      # embed, L0H0, L0H1, mlp0
    found = NodeScores(EDGES, values, MADE)
    assert names(found, 1) == {"embed->logits.out", "L0H1->logits.out", "embed->L0H1.q", "embed->L0H1.k", "embed->L0H1.v"}
    assert names(found, 2) >= {"L0H1->mlp0.mlp", "mlp0->logits.out"}
    assert names(found, 1, by="value") >= {"mlp0->logits.out", "embed->mlp0.mlp"}
    with pytest.raises(InterpError, match="top"):
        choose(found, 1, how="greedy")


def test_edges_from_nodes_are_as_good_as_the_weaker_end():
    found = NodeScores(EDGES, np.array([[np.nan, np.nan], [0.1, 0.2], [-2.0, 3.0], [1.0, 1.0]]), MADE).to_edges()
    expected = {"embed->L0H1.q": (2, 3), "L0H1->mlp0.mlp": (1, 1), "L0H0->mlp0.mlp": (0.1, 0.2), "mlp0->logits.out": (1, 1)}
    for name, value in expected.items():
        np.testing.assert_allclose(found.values[EDGES.index(name)], value)
    assert np.isnan(found.values[EDGES.index("embed->logits.out")]).all()


def test_a_circuit_says_how_it_was_made():
    found = scores(**GOOD)
    circuit = select(found, 4, name="c", citation="nobody")
    assert circuit.provenance["method"] == "by hand"
    assert circuit.provenance["select"] == {"n": 4, "how": "top", "by": "size", "loose_ends": False, "places": False}
    assert (circuit.name, circuit.model, circuit.task, circuit.citation) == ("c", "m", "t", "nobody")
    np.testing.assert_array_equal(mask_of(EDGES, circuit), choose(found, 4))


def test_places():
    found = scores(**GOOD)
    parts = {"S": np.zeros_like(found.values), "end": found.values.copy()}
    parts["S"][EDGES.index("embed->L0H0.v")] = 7
    parts["end"][EDGES.index("embed->L0H0.v")] = -2
    placed = EdgeScores(EDGES, found.values, MADE, places=parts)
    assert {str(edge) for edge in select(placed, 5, places=True).edges} == {
        "embed@S->L0H0.v", "embed@end->L0H0.v", "L0H0@end->mlp0@end.mlp", "mlp0@end->logits@end.out"}
    np.testing.assert_array_equal(placed.at("S").values, parts["S"])
    for wrong in ({"how": "greedy"}, {"by": "name"}):
        with pytest.raises(InterpError):
            select(placed, 3, places=True, **wrong)
    with pytest.raises(InterpError, match="no places"):
        select(found, 3, places=True)
    with pytest.raises(InterpError, match="place"):
        placed.at("nowhere")


@pytest.mark.parametrize("options", [{"n": 0}, {"n": 10**6}, {"n": 1, "how": "best"}, {"n": 1, "by": "name"}])
def test_refused(options):
    with pytest.raises(InterpError):
        choose(scores(), **options)
