"""Circuits: JSON both ways, one edge per line, and edges that run forward."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.core.circuit import Circuit, Edge, Node
from interp.core.errors import InterpError
from interp.core.head import ATTENTIONS, Head

POSITIONS = st.none() | st.sampled_from(["end", "S2", "S1+1"])
NODES = st.one_of(
    st.builds(Node, st.just("head"), st.integers(0, 30), st.integers(0, 30), st.sampled_from(ATTENTIONS), POSITIONS),
    st.builds(Node, st.just("mlp"), st.integers(0, 30), st.none(), st.sampled_from(ATTENTIONS), POSITIONS),
    st.builds(Node, st.sampled_from(["embed", "logits"]), st.none(), st.none(), st.just("self"), POSITIONS),
)
INPUTS = {"head": "qkv", "mlp": ["mlp"], "logits": ["out"], "embed": []}


@st.composite
def edges(draw):
    source, target = draw(st.tuples(NODES, NODES).filter(lambda pair: pair[0].depth < pair[1].depth))
    return Edge(source, target, draw(st.sampled_from([None, *INPUTS[target.kind]])))


@given(st.lists(NODES, max_size=5), st.lists(edges(), max_size=6), st.text(max_size=10))
def test_round_trip(nodes, joined, name):
    roles = {node: f"role {i}" for i, node in enumerate(dict.fromkeys(nodes))}
    made = Circuit(tuple(nodes), tuple(joined), roles, name, "organism", "ioi", "a paper", {"seed": (1, 2)})
    text = made.to_json()
    back = Circuit.from_json(text)
    assert back == made
    assert back.to_json() == text
    for node in made.nodes:
        assert Node.parse(str(node)) == node
    for edge in made.edges:
        assert Edge.parse(str(edge)) == edge
        assert text.count(f"    {json.dumps(str(edge))}") >= 1
    assert len(text.splitlines()) >= len(made.nodes) + len(made.edges)


def test_nodes_of_edges_and_roles_belong_to_it_in_the_order_of_computation():
    made = Circuit(edges=(Edge.parse("L1H2->logits.out"), Edge.parse("L0H1->L1H2.k"), Edge.parse("L0H1->L1H2.k")),
                   roles={Node.parse("0.1"): "previous token", Node.parse("mlp0"): "early"})
    assert [str(node) for node in made.nodes] == ["L0H1", "mlp0", "L1H2", "logits"]
    assert len(made.edges) == 2
    assert made.heads() == (Head(0, 1), Head(1, 2))
    assert made.heads("previous token") == (Head(0, 1),)


def test_a_head_at_two_positions_is_one_head():
    made = Circuit(nodes=(Node.parse("L0H1@S2"), Node.parse("L0H1@end")))
    assert made.heads() == (Head(0, 1),)


def test_an_encoder_comes_before_its_decoder():
    Edge.parse("enc.L9H0->cross.L0H3.v")
    with pytest.raises(InterpError, match="not computed before"):
        Edge.parse("L0H0->enc.L9H0.v")


@pytest.mark.parametrize(("text", "said"), [
    ("L1H0->L1H1.q", "not computed before"),
    ("L2H0->L1H1", "not computed before"),
    ("logits->L1H1", "not computed before"),
    ("L0H0->mlp0.k", "has no input 'k'"),
    ("L0H0->L1H0.mlp", "has no input 'mlp'"),
    ("L0H0", "no '->'"),
    ("L0H0->neuron5", "not of the form"),
])
def test_bad_edges_are_refused(text, said):
    with pytest.raises(InterpError, match=said):
        Edge.parse(text)


@pytest.mark.parametrize("parts", [("head", 1), ("mlp",), ("mlp", 1, 2), ("embed", 0), ("neuron", 1, 2), ("head", -1, 0)])
def test_bad_nodes_are_refused(parts):
    with pytest.raises(InterpError):
        Node(*parts)


def test_only_heads_are_heads():
    with pytest.raises(InterpError, match="kind mlp"):
        Node.parse("mlp3").as_head()


def test_files(tmp_path):
    made = Circuit(edges=(Edge.parse("L0H1->L1H2.k"),), name="induction")
    assert Circuit.load(made.save(tmp_path / "a" / "induction.json")) == made
    with pytest.raises(InterpError, match="Cannot read the circuit"):
        Circuit.load(tmp_path / "absent.json")


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"nodes": [], "edges": [], "format": 99}'])
def test_other_text_is_refused(text):
    with pytest.raises(InterpError, match="Cannot read a circuit"):
        Circuit.from_json(text)
