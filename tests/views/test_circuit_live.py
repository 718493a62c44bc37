"""The circuit graph beside a model: what Python answers when the threshold is moved, and what a page keeps of it."""

import numpy as np
import pytest

import interp
from interp.core.errors import InterpError
from interp.discovery.graph import circuit_of, edges_of
from interp.discovery.judgement import judge
from interp.discovery.shape import shape_of
from interp.discovery.truth import batch_of, truth_of
from interp.views import circuit_graph, workbench


@pytest.fixture(scope="module")
def program():
    model = interp.load("compiled-seen", verify=False)
    edges = edges_of(model)
    made = circuit_of(edges, truth_of(model), name="seen")
    scores = {str(edge): 1.0 + i for i, edge in enumerate(made.edges)}
    told = {"shape": shape_of(edges).record(), "scores": scores}
    return model, batch_of(model.name, n=16, seed=5), circuit_of(edges, truth_of(model), name="seen", provenance=told)


def test_a_threshold_is_answered_with_what_judge_says_and_kept_for_a_page(program):
    model, batch, circuit = program
    view = circuit_graph(circuit, model=model, batch=batch)
    assert view.state.header["answers"] == ["circuit"]
    view.state.ask = {"kind": "circuit", "n": 1, "question": {"threshold": 2.0}}
    answer = view.state.reply["answer"]
    mask = truth_of(model).copy()
    mask[np.flatnonzero(mask)[[edges_of(model).names(np.flatnonzero(mask)).index(str(circuit.edges[0]))]]] = False
    assert answer["faithfulness"] == pytest.approx(judge(model, batch, mask).faithfulness, abs=1e-6)
    assert (answer["threshold"], answer["n"], answer["edges"]) == (2.0, 16, len(circuit.edges) - 1)
    assert "measured on prompts of" in answer["how"]
    assert view.state.payloads["circuit"]["points"] == [answer]
    view.state.ask = {"kind": "circuit", "n": 2, "question": {"threshold": 2.0}}
    assert len(view.state.payloads["circuit"]["points"]) == 1


def test_a_curve_is_measured_at_once_and_the_workbench_asks_too(program):
    model, batch, circuit = program
    points = circuit_graph(circuit, model=model, batch=batch, curve=4).state.payloads["circuit"]["points"]
    assert 2 <= len(points) <= 4
    assert (points[-1]["threshold"], points[-1]["faithfulness"]) == (0.0, pytest.approx(1, abs=1e-3))
    assert min(point["faithfulness"] for point in points) < 0.9
    bench = workbench(model, batch, circuit=circuit)
    bench.state.ask = {"kind": "circuit", "n": 1, "question": {"threshold": 0.0}}
    assert bench.state.reply["answer"]["faithfulness"] == pytest.approx(1, abs=1e-3)


def test_what_cannot_be_measured_is_refused(program):
    model, batch, circuit = program
    with pytest.raises(InterpError, match="model or a batch is missing"):
        circuit_graph(circuit, model=model)
    view = circuit_graph(circuit, model=model, batch=batch, ablation="nothing")
    view.state.ask = {"kind": "circuit", "n": 1, "question": {"threshold": 0.0}}
    assert "nothing" in view.state.reply["answer"]["error"]
