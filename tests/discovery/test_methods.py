"""What every discovery method must do, from the registry, and identities between them."""

import inspect

import numpy as np
import pytest
from masked_edges import network, pairs

import interp
from interp.core.errors import InterpError
from interp.discovery import discover, find, names
from interp.discovery.both import larger
from interp.discovery.graph import edges_of
from interp.discovery.node_scores import NodeScores
from interp.engine.edge_attribution import edge_attribution
from interp.engine.edges import EdgeScores
from interp.measures.catalog import RUNNING
from interp.models.handmade import HANDMADE
from interp.tasks import from_tokens

QUIET = {"progress": False}
OPTIONS = {"mask_ig": {"tolerance": None},
           "edge_pruning": {"steps": 8}, "matryoshka": {"steps": 8},
           "edge_patching": {"edges": ["embed->L0H0.v", "L0H1->mlp0.mlp", "L1H0->logits.out"]}}
"""Without a tolerance a path does not depend on rounding; few edges and steps are quick."""


@pytest.fixture(scope="module")
def small():
    return interp.load(network(), verify=False), pairs()


def score(name, model, batch, **options):
    quiet = {key: value for key, value in QUIET.items() if key in find(name).options}
    return discover(model, batch, method=name, **OPTIONS.get(name, {}) | quiet | options)


@pytest.mark.parametrize("name", names())
def test_every_method(name, small):
    model, batch = small
    method, scores = find(name), score(name, model, batch)
    edges = edges_of(model)
    assert isinstance(scores, EdgeScores if method.level == "edges" else NodeScores)
    assert len(scores.values) == len(edges if method.level == "edges" else edges.senders)
    assert scores.n_prompts in (1, batch.n)
    asked = np.isfinite(scores.values).all(1)
    assert asked.all() or (name == "edge_patching" and asked.sum() == 3)
    assert np.abs(scores.mean()[asked]).max() > 1e-3
    assert scores.provenance.measure == name == inspect.unwrap(method.run).__name__
    assert set(scores.provenance.options) == set(method.options) - {"metric", *RUNNING}
    assert all((method.summary, method.sense, method.formula, method.source, method.does_not_show, method.cost))
    np.testing.assert_array_equal(score(name, model, batch).values, scores.values)
    if "batch_size" in method.options:
        np.testing.assert_allclose(score(name, model, batch, batch_size=1).values, scores.values, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", names())
def test_what_a_method_does_not_know_is_refused(name, small):
    with pytest.raises(InterpError, match="option of"):
        discover(*small, method=name, depth=3)
    if "direction" in find(name).options:
        with pytest.raises(InterpError, match="none of its choices"):
            discover(*small, method=name, direction="sideways")


def test_an_unknown_method_is_answered_with_the_nearest():
    with pytest.raises(InterpError, match="mask_ig"):
        find("mask_igg")


@pytest.mark.parametrize("direction", ["noising", "denoising"])
def test_one_nodes_edges_are_the_node_and_eap_adds_up_to_it(direction):
    """Without anything curved an edge's effect is its estimate, and the effects of a sender's edges add up to the node's."""
    made = network(neurons=0)
    for layer in made.model.layers:
        layer.self_attn.q_proj.weight.data.zero_()
    model, batch = interp.load(made, verify=False), pairs()
    found = {name: score(name, model, batch, direction=direction).values
             for name in ("eap", "node_patching")}
    found["edge_patching"] = score("edge_patching", model, batch, direction=direction, edges=None).values
    for name in ("eap_ig_inputs", "eap_ig_activations"):
        options = {} if name == "eap_ig_inputs" else {"over": "own"}
        np.testing.assert_allclose(score(name, model, batch, **options).values, found["eap"], atol=1e-10)
    np.testing.assert_allclose(found["eap"], found["edge_patching"], atol=1e-10)
    by_sender = edge_attribution(model, batch, direction=direction).by_sender()
    np.testing.assert_allclose(by_sender, found["node_patching"], atol=1e-10)


def test_published_rules_are_the_defaults(small):
    model, batch = small
    inputs, activations = (score(name, model, batch) for name in ("eap_ig_inputs", "eap_ig_activations"))
    assert inputs.provenance.options == {"steps": 5, "rule": "left"}
    assert activations.provenance.options == {"steps": 5, "rule": "right", "over": "all"}
    one = score("eap_ig_inputs", model, batch, steps=1)      # the left end alone is the corrupted run
    np.testing.assert_allclose(one.values, score("eap", model, batch, direction="denoising").values, atol=1e-10)


def test_mask_ig_adds_up(small):
    model, batch = small
    found = discover(model, batch, method="mask_ig")
    whole = found.baselines["clean"] - found.baselines["corrupt"]
    np.testing.assert_allclose(found.values.sum(0), whole, atol=0.011 * np.abs(whole).max())
    assert found.notes["complete"].all()


GATES = {       # edges of the bits into the gate: EAP at clean, EAP at corrupt, patched in both directions, mask gradients
    "or": (0, 1, 1, 1), "and": (1, 0, 1, 1), "saturated": (0, 0, 1, 1), "xor": (1, 1, 1, 1), "redundant": (0, 1, 1, 1),
}


@pytest.mark.parametrize("kind", GATES)
def test_which_method_sees_the_edges_of_a_gate(kind):
    made = HANDMADE[f"handmade-{kind}"]()
    prompts = made.pairs(2, 0)
    model = interp.load(made.model, tokenizer=made.tokenizer, verify=False)
    batch = from_tokens([p.clean for p in prompts], [p.corrupt for p in prompts], [p.answer for p in prompts],
                        [p.wrong for p in prompts], name=made.name)
    bits = ["L0H0->mlp0.mlp", "L0H2->mlp0.mlp"]
    columns = [score("eap", model, batch), score("eap", model, batch, direction="denoising"),
               score("edge_patching", model, batch, edges=bits),
               score("mask_ig", model, batch, tolerance=0.05, budget=200)]
    for scores, seen in zip(columns, GATES[kind], strict=True):
        sizes = [np.abs(scores.mean()[scores.edges.index(bit)]) for bit in bits]
        assert (min(sizes) > 0.05) == (max(sizes) > 1e-6) == bool(seen), (scores.provenance.measure, sizes)


def test_both_directions():
    noising, denoising = np.array([[0.0, 0.0], [2, 4], [-1, -1], [1, 1]]), np.array([[1.0, 1], [1, 1], [1, 1.2], [-0.05, 0]])
    values, notes = larger(noising, denoising)
    np.testing.assert_array_equal(values, [[1, 1], [2, 4], [1, 1.2], [1, 1]])
    assert notes["conflict"].tolist() == [False, False, True, False]
