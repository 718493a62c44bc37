"""Sets of edges: nodes <-> edges, loose ends, circuits there and back, grouped keys, parallel blocks."""

import numpy as np
import pytest
from masked_edges import metric_of_circuit, network, pairs

import interp
from interp.core.circuit import Circuit, Edge, Node
from interp.core.errors import InterpError
from interp.discovery.graph import circuit_of, edges_among, edges_of, mask_of, nodes_of, prune, scored_edges
from interp.engine.edges import EdgeScores, make_edges
from interp.models.tiny import tiny

SHAPES = {"plain": (2, 2, 2, [True, True], False), "attention only": (2, 2, 2, [False, False], False),
          "grouped": (2, 4, 2, [True, True], False), "parallel": (2, 2, 2, [True, True], True)}


def mask(edges, *names):
    chosen = np.zeros(len(edges), dtype=bool)
    chosen[[edges.index(name) for name in names]] = True
    return chosen


def test_what_a_receiver_feeds():
    edges = make_edges(*SHAPES["grouped"])
    names = [str(edges.sender_node(i)) for i in range(len(edges.senders))]
    fed = {edges._receiver_name(i): {names[j] for j in np.flatnonzero(row)} for i, row in enumerate(edges.feeds)}
    assert fed["L1H2.q"] == {"L1H2"}
    assert fed["L1KV1.k"] == fed["L1KV1.v"] == {"L1H2", "L1H3"}
    assert fed["mlp0.mlp"] == {"mlp0"}
    assert fed["logits.out"] == set()


def test_loose_ends_by_hand():
    edges = make_edges(*SHAPES["plain"])
    path = ("embed->L0H1.v", "L0H1->mlp0.mlp", "mlp0->L1H0.k", "L1H0->logits.out")
    np.testing.assert_array_equal(prune(edges, mask(edges, *path)), mask(edges, *path))
    loose = ("embed->L0H0.q", "L1H1->logits.out", "embed->L1H1.k")      # read by nobody; the last two hang together
    expected = mask(edges, *path, *loose[1:])
    np.testing.assert_array_equal(prune(edges, mask(edges, *path, *loose)), expected)
    for cut in path:
        assert not prune(edges, mask(edges, *(name for name in path if name != cut))).any()


def test_loose_ends_of_shared_keys():
    edges = make_edges(*SHAPES["grouped"])
    assert prune(edges, mask(edges, "embed->L0KV0.k", "L0H1->logits.out")).sum() == 2
    assert not prune(edges, mask(edges, "embed->L0KV1.k", "L0H1->logits.out")).any()


@pytest.fixture(scope="module")
def plain():
    made = network()
    return made, interp.load(made, verify=False), pairs()


def test_without_loose_ends_a_circuit_does_the_same(plain):
    """Full = clean, empty = corrupt, and random circuits give the same numbers without what hangs loose."""
    made, model, batch = plain
    edges = edges_of(model)
    everything, generator = np.ones(len(edges), dtype=bool), np.random.default_rng(0)
    for on, chosen in (("clean", everything), ("corrupt", ~everything)):
        np.testing.assert_allclose(metric_of_circuit(made, batch, edges, chosen),
                                   interp.engine.metric_values(model, batch, on=on), atol=1e-5)
    changed = 0
    for share in np.linspace(0.1, 0.8, 12):
        chosen = generator.random(len(edges)) < share
        kept = prune(edges, chosen)
        assert not (kept & ~chosen).any()
        changed += int((kept != chosen).any())
        np.testing.assert_allclose(metric_of_circuit(made, batch, edges, kept),
                                   metric_of_circuit(made, batch, edges, chosen), atol=1e-10)
    assert changed > 5


def test_exact_patching_of_an_edge_is_a_circuit_without_it(plain):
    made, model, batch = plain
    scores = interp.discovery.discover(model, batch, method="edge_patching", direction="noising", progress=False)
    everything = np.ones(len(scores.edges), dtype=bool)
    clean = metric_of_circuit(made, batch, scores.edges, everything)
    for i in np.random.default_rng(0).choice(len(scores.edges), 12, replace=False):
        without = everything.copy()
        without[i] = False
        expected = clean - metric_of_circuit(made, batch, scores.edges, without)
        np.testing.assert_allclose(scores.values[i], expected, atol=1e-6, err_msg=scores.edges.names([i])[0])


@pytest.mark.parametrize("shape", SHAPES)
def test_circuits_there_and_back(shape):
    edges, generator = make_edges(*SHAPES[shape]), np.random.default_rng(0)
    for share in (0, 0.1, 0.5, 1):
        chosen = generator.random(len(edges)) < share
        circuit = circuit_of(edges, chosen, name="x")
        np.testing.assert_array_equal(mask_of(edges, circuit), chosen)
        np.testing.assert_array_equal(mask_of(edges, Circuit.from_json(circuit.to_json())), chosen)
    assert nodes_of(edges, chosen).all()
    np.testing.assert_array_equal(edges_among(edges, nodes_of(edges, chosen)), chosen)


@pytest.mark.parametrize("shape", SHAPES)
def test_nodes_and_edges(shape):
    """Of nodes the edges among them, of these the same nodes again (each is read by the output)."""
    edges, generator = make_edges(*SHAPES[shape]), np.random.default_rng(1)
    for _ in range(6):
        nodes = generator.random(len(edges.senders)) < 0.5
        nodes[0] = True
        among = edges_among(edges, nodes)
        np.testing.assert_array_equal(nodes_of(edges, among), nodes)
        np.testing.assert_array_equal(prune(edges, among), among)


def test_a_circuit_of_heads_and_unnamed_inputs():
    edges = make_edges(*SHAPES["plain"])
    heads = Circuit(nodes=(Node("head", 0, 1), Node("head", 1, 0)))
    names = set(edges.names(np.flatnonzero(mask_of(edges, heads))))
    assert names == {"embed->logits.out", *(f"embed->{h}.{x}" for h in ("L0H1", "L1H0") for x in "qkv"),
                     *(f"L0H1->L1H0.{x}" for x in "qkv"), "L0H1->logits.out", "L1H0->logits.out"}
    unnamed = Circuit(edges=(Edge.parse("L0H1->L1H0"),))
    assert edges.names(np.flatnonzero(mask_of(edges, unnamed))) == [f"L0H1->L1H0.{x}" for x in "qkv"]
    for wrong in ("L0H5->logits.out", "L0H1->L7H0.q"):
        with pytest.raises(InterpError, match="no edge"):
            mask_of(edges, Circuit(edges=(Edge.parse(wrong),)))
    with pytest.raises(InterpError, match="L8H0"):
        mask_of(edges, Circuit(nodes=(Node("head", 8, 0),)))


def test_positions_stand_where_something_is_read():
    edges = make_edges(*SHAPES["plain"])
    circuit = circuit_of(edges, mask(edges, "L0H0->L1H0.k", "L0H0->L1H0.q", "L1H0->logits.out"), position="S2")
    assert {str(edge) for edge in circuit.edges} == {"L0H0@S2->L1H0.k", "L0H0@S2->L1H0@S2.q", "L1H0@S2->logits@S2.out"}
    np.testing.assert_array_equal(mask_of(edges, circuit), mask(edges, "L0H0->L1H0.k", "L0H0->L1H0.q", "L1H0->logits.out"))


def test_scores_by_edge_keep_their_sum():
    edges = make_edges(*SHAPES["grouped"])
    values = np.random.default_rng(0).normal(size=(len(edges), 3))
    values[5] = np.nan
    scores = EdgeScores(edges, values, None)
    assert sum(scored_edges(scores).values()) == pytest.approx(np.nansum(values.mean(1)))
    assert set(scored_edges(scores)) == set(circuit_of(edges, np.arange(len(edges)) != 5).edges)


def test_parallel_blocks_have_no_edges_inside():
    edges = edges_of(interp.load(tiny("gpt_neox"), verify=False))
    assert "L1H0->mlp1.mlp" not in edges.names()
    assert "L0H0->mlp1.mlp" in edges.names()
