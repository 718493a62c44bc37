"""Circuits on the page: there when and only when they fit, their graph true to the edges, their numbers as stored."""

import xml.etree.ElementTree as ET

import pytest
import synthetic

from interp.core.circuit import Circuit, Edge, Node
from interp.core.errors import InterpError
from interp.report import add_circuits
from interp.report.circuits import check_fit, shipped_circuits
from interp.report.page import page
from interp.report.results import Findings
from interp.views.svg.circuit import circuit_graph, strongest

MODEL = {"name": "organism", "weights_sha256": "5f0c" * 16}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"provenance": {"model": {"name": "organism", "weights_sha256": "00" * 32}}}, "other weights"),
        ({"provenance": {}, "model": "gpt2"}, "it is of the model gpt2"),
        ({"provenance": {}, "model": ""}, r"\(none named\)"),
        ({"task": "capital"}, "it is of the task capital"),
        ({"task": ""}, r"the task \(none named\)"),
        ({"nodes": (Node("head", 6, 0),)}, "no L6H0"),
        ({"nodes": (Node("mlp", 6),)}, "no mlp6"),
        ({"provenance": {"model": MODEL, "shape": {"n_layers": 12, "n_heads": 12}}}, "12 layers of 12 heads"),
        ({"nodes": (Node("head", 0, 8),)}, "no L0H8"),
    ],
)
def test_a_circuit_that_does_not_fit_is_refused(change, said):
    fits = {"edges": (Edge.parse("L1H2->L3H5.k"),), "model": "organism", "task": "ioi", "provenance": {"model": MODEL}}
    check_fit(Circuit(**fits), MODEL, ["ioi", "induction"], (6, 8))
    with pytest.raises(InterpError, match=said):
        check_fit(Circuit(**(fits | change)), MODEL, ["ioi", "induction"], (6, 8))


def test_a_file_without_a_hash_goes_by_the_name_and_the_page_says_so():
    circuit = Circuit(nodes=(Node("head", 1, 2),), model="organism", task="ioi")
    findings = add_circuits(Findings((synthetic.result("ioi", measures=1, n=6),)), [circuit])
    text = page(findings)
    assert "taken on trust" in text
    assert "its file lists no edges" in text
    assert "interp evaluate measures it" in text


def test_shipped_circuits_are_of_the_very_weights(root):
    read = Circuit.load(root / "circuits" / "organism" / "ioi.json")
    model = dict(read.provenance["model"])
    found = shipped_circuits(model)
    assert "ioi" in {one.task for one in found}
    assert all(one.provenance["model"]["weights_sha256"] == model["weights_sha256"] for one in found)
    assert shipped_circuits(model | {"weights_sha256": "0" * 64}) == ()
    assert shipped_circuits(model | {"name": "nobody"}) == ()
    assert shipped_circuits({"name": "organism"}) == ()


def test_the_page_shows_circuits_and_overlaps_when_they_are_there():
    one, two = (synthetic.result(name, measures=2, n=6) for name in ("ioi", "induction"))
    without = page(Findings((one, two)))
    assert "Circuit:" not in without
    assert ">Circuit</th>" not in without
    assert "What do the circuits share?" not in without
    single = page(Findings((one, two), circuits=(synthetic.circuit("ioi"),)))
    assert "What do the circuits share?" not in single
    assert single.count(">Circuit</th>") == 1
    both = page(Findings((one, two), circuits=(synthetic.circuit("ioi"), synthetic.circuit("induction", judged=False))))
    assert "<b>0.96 [0.91, 0.99]</b>" in both
    assert "Random circuits of the same make carry 0.020 at most (of 2)" in both
    assert both.count("interp evaluate measures it") == 1
    assert "A circuit that was not judged is a proposal" in both
    assert "What do the circuits share?" in both
    assert "L1H2" in both[both.index("Heads by the circuits that have them"):]


def test_members_are_marked_in_the_ranking():
    text = page(Findings((synthetic.result("ioi", measures=2, n=6),), circuits=(synthetic.circuit("ioi"),)))
    table = text[text.index('class="ranked"'):]
    rows = table[: table.index("</table>")].split("<tr ")[1:]
    marked = {row[8:12] for row in rows if "in the circuit" in row}
    assert marked == {"L1H2", "L3H5", "L4H0"}


def test_other_options_of_the_prompts_are_said():
    other = synthetic.circuit("ioi", task={"name": "ioi", "n": 8, "seed": 0, "options": {"corruption": "swap"}})
    text = page(Findings((synthetic.result("ioi", measures=1, n=6),), circuits=(other,)))
    assert "other options: corruption swap (here abc)" in text


def test_new_circuits_of_a_task_take_the_place_of_the_old():
    findings = synthetic.findings("ioi", "induction", n=6, measures=1)
    new = Circuit(edges=(Edge.parse("L1H2->L4H0.v"),), name="mine", model="organism", task="ioi")
    assert [one.name for one in add_circuits(findings, [new]).circuits] == ["induction in the organism", "mine"]


def drawn(circuit: Circuit, layers: int = 6, heads: int = 8) -> ET.Element:
    scores = {edge: synthetic.EDGES["ioi"][str(edge)] for edge in circuit.edges if str(edge) in synthetic.EDGES["ioi"]}
    return ET.fromstring(circuit_graph(circuit, strongest(circuit, scores, 400), scores, layers=layers, heads=heads,
                                       identifier="g"))


def test_the_graph_draws_each_edge_once_with_sign_and_input():
    paths = {(p.get("data-s"), p.get("data-t"), p.get("class")) for p in drawn(synthetic.circuit("ioi")).iter()
             if (p.get("class") or "").startswith("e ")}
    assert paths == {("embed", "L1H2", "e pos v"), ("L1H2", "L3H5", "e neg q"), ("L1H2", "L3H5", "e pos k"),
                     ("L3H5", "L4H0", "e pos v"), ("L4H0", "logits", "e pos"), ("L3H5", "mlp5", "e pos"),
                     ("mlp5", "logits", "e pos")}


def test_layers_grow_upwards_and_heads_to_the_right():
    groups = drawn(synthetic.circuit("ioi")).iter("g")
    nodes = {g.get("data-h"): g for g in groups if (g.get("class") or "").startswith("node ")}
    heights = {name: float(g.find("text").get("y")) for name, g in nodes.items()}
    order = ["embed", "L1H2", "L3H5", "L4H0", "mlp5", "logits"]
    assert sorted(heights, key=heights.get, reverse=True) == order
    across = {name: float(nodes[name].find("text").get("x")) for name in ("L4H0", "L1H2", "L3H5")}
    assert sorted(across, key=across.get) == ["L4H0", "L1H2", "L3H5"]


@pytest.mark.parametrize(("layers", "heads"), [(6, 8), (40, 32), (1, 1)])
def test_graphs_of_any_shape_stay_inside_their_frame(layers, heads):
    edges = [Edge(Node("embed"), Node("head", layer, head), "q") for layer in (0, layers - 1) for head in (0, heads - 1)]
    svg = drawn(Circuit(edges=tuple(edges), task="ioi"), layers, heads)
    _, _, width, height = map(float, svg.get("viewBox").split())
    for circle in svg.iter("circle"):
        assert 10 < float(circle.get("cx")) < width
        assert 10 < float(circle.get("cy")) < height


def test_a_circuit_without_edges_and_names_that_would_do_harm():
    circuit = Circuit(nodes=(Node("head", 1, 2), Node("mlp", 3)), name="</svg><script>window.hacked=1</script>", task="ioi")
    svg = circuit_graph(circuit, [], {}, layers=6, heads=8, identifier="g")
    assert "<script" not in svg
    assert sum((g.get("class") or "").startswith("node ") for g in ET.fromstring(svg).iter()) == 2


def test_the_strongest_edges_come_first_and_unknown_ones_last():
    circuit = synthetic.circuit("ioi")
    scores = {Edge.parse("L1H2->L3H5.q"): -3.0, Edge.parse("embed->L1H2.v"): 1.0}
    assert list(map(str, strongest(circuit, scores, 2))) == ["L1H2->L3H5.q", "embed->L1H2.v"]
    assert len(strongest(circuit, scores, 400)) == 7
