"""EAP-IG's graphs and lists of heads: written out by hand, there and back, and refused."""

import json

import pytest

from interp.core.circuit import Circuit, Edge, Node
from interp.core.circuit_formats import from_eap_ig, from_heads, scores_from_eap_ig, to_eap_ig, to_heads
from interp.core.errors import InterpError

SHAPE = {"n_layers": 2, "n_heads": 1, "d_model": 4}
NAMES = ["input->a0.h0<q>", "input->a0.h0<k>", "input->a0.h0<v>", "input->m0", "a0.h0->m0",
         "input->a1.h0<q>", "input->a1.h0<k>", "input->a1.h0<v>", "a0.h0->a1.h0<q>", "a0.h0->a1.h0<k>", "a0.h0->a1.h0<v>",
         "m0->a1.h0<q>", "m0->a1.h0<k>", "m0->a1.h0<v>", "input->m1", "a0.h0->m1", "m0->m1", "a1.h0->m1",
         "input->logits", "a0.h0->logits", "m0->logits", "a1.h0->logits", "m1->logits"]
CIRCUIT = Circuit(edges=tuple(map(Edge.parse, ("embed->L0H0.v", "L0H0->L1H0.k", "L1H0->mlp1.mlp", "mlp1->logits.out"))))


def test_every_edge_of_the_shape_is_written():
    record = json.loads(to_eap_ig(CIRCUIT, **SHAPE, scores={Edge.parse("L0H0->L1H0.k"): 0.5}))
    assert record["cfg"] == {"n_layers": 2, "n_heads": 1, "parallel_attn_mlp": False, "d_model": 4}
    assert sorted(record["edges"]) == sorted(NAMES)
    inside = {name for name, entry in record["edges"].items() if entry["in_graph"]}
    assert inside == {"input->a0.h0<v>", "a0.h0->a1.h0<k>", "a1.h0->m1", "m1->logits"}
    assert record["edges"]["a0.h0->a1.h0<k>"]["score"] == 0.5
    assert {name: entry["in_graph"] for name, entry in record["nodes"].items()} == {
        "input": True, "a0.h0": True, "m0": False, "a1.h0": True, "m1": True, "logits": True}


def test_number_of_edges_of_gpt2_small():
    record = json.loads(to_eap_ig(Circuit(), n_layers=12, n_heads=12, d_model=768))
    assert len(record["edges"]) == 32_491
    assert not any(entry["in_graph"] for entry in record["edges"].values())
    assert len(json.loads(to_eap_ig(Circuit(), n_layers=12, n_heads=12, d_model=768, parallel=True))["edges"]) == 32_347


def test_there_and_back():
    text = to_eap_ig(CIRCUIT, **SHAPE, scores={edge: i / 8 for i, edge in enumerate(CIRCUIT.edges)})
    assert from_eap_ig(text) == CIRCUIT
    assert {edge: score for edge, score in scores_from_eap_ig(text).items() if score} == {
        edge: i / 8 for i, edge in enumerate(CIRCUIT.edges) if i}
    assert len(scores_from_eap_ig(text)) == len(NAMES)
    named = from_eap_ig(text, name="x", citation="someone")
    assert (named.name, named.citation) == ("x", "someone")


def test_edges_into_no_named_input_are_all_three():
    record = json.loads(to_eap_ig(Circuit(edges=(Edge.parse("L0H0->L1H0"),)), **SHAPE))
    assert {name for name, entry in record["edges"].items() if entry["in_graph"]} == {f"a0.h0->a1.h0<{x}>" for x in "qkv"}


def test_a_circuit_of_nodes():
    heads = Circuit(nodes=(Node("head", 1, 0),))
    record = json.loads(to_eap_ig(heads, **SHAPE))
    assert {name for name, entry in record["edges"].items() if entry["in_graph"]} == {
        "input->logits", "a1.h0->logits", *(f"input->a1.h0<{x}>" for x in "qkv")}
    nodes = json.dumps({"cfg": {}, "nodes": {"a1.h0": True, "m0": {"in_graph": True}, "a0.h0": False}, "edges": {}})
    assert from_eap_ig(nodes).nodes == (Node("mlp", 0), Node("head", 1, 0))


@pytest.mark.parametrize("wrong", ["{", "[]", '{"nodes": {}}', '{"nodes": {"b0": true}, "edges": {}}',
                                   '{"nodes": {}, "edges": {"a0.h0=>m0": {"in_graph": true}}}'])
def test_what_is_no_graph_is_refused(wrong):
    with pytest.raises(InterpError):
        from_eap_ig(wrong)


def test_what_the_format_cannot_say_is_refused():
    with pytest.raises(InterpError, match="positions"):
        to_eap_ig(Circuit(nodes=(Node("head", 0, 0, position="end"),)), **SHAPE)
    with pytest.raises(InterpError, match="have no L5H0"):
        to_eap_ig(Circuit(nodes=(Node("head", 5, 0),)), **SHAPE)
    with pytest.raises(InterpError, match="no edge L0H0->mlp0"):
        to_eap_ig(Circuit(edges=(Edge.parse("L0H0->mlp0.mlp"),)), **SHAPE, parallel=True)


LIST = """
9.9, L9H6; a10.h0      # name movers of a well-known circuit
previous token: 2.2 4.11
induction:  5.5
"""


def test_lists_of_heads(tmp_path):
    circuit = from_heads(LIST, task="ioi")
    assert [str(node) for node in circuit.nodes] == ["L2H2", "L4H11", "L5H5", "L9H6", "L9H9", "L10H0"]
    assert circuit.roles == {Node("head", 2, 2): "previous token", Node("head", 4, 11): "previous token",
                             Node("head", 5, 5): "induction"}
    assert to_heads(circuit) == "L9H6, L9H9, L10H0\nprevious token: L2H2, L4H11\ninduction: L5H5\n"
    assert from_heads(to_heads(circuit), task="ioi") == circuit
    (tmp_path / "heads.txt").write_text(LIST)
    assert from_heads(tmp_path / "heads.txt", task="ioi") == circuit
    assert from_heads([(2, 2), "4.11"]).nodes == from_heads({"previous token": ["2.2", "4.11"]}).nodes
    assert to_heads(Circuit(nodes=(Node("head", 1, 2, position="end"), Node("head", 1, 2, position="S2")))) == "L1H2\n"


@pytest.mark.parametrize("wrong", ["", "# nothing", "9-9", []])
def test_lists_of_no_heads_are_refused(wrong):
    with pytest.raises(InterpError):
        from_heads(wrong)
