"""Attention rollout and flow: two layers by hand, graphs solved by hand, by networkx and by linear programming; models."""

import networkx
import numpy as np
import pytest
from random_batches import model_of, random_batch, shallow
from scipy import optimize
from test_other_attention import pairs

import interp
from interp.core.errors import InterpError
from interp.engine.activations import activations
from interp.measures.attention_flow import max_flow
from interp.measures.attention_graph import augmented
from interp.measures.attention_rollout import rollouts
from interp.models.sites import Site
from interp.models.tiny import tiny

BACK = np.array([[1.0, 0, 0], [1, 0, 0], [0, 1, 0]])        # each token to the one before
FIRST = np.array([[1.0, 0, 0], [1, 0, 0], [1, 0, 0]])       # each to the first


def only(key):
    return np.arange(3) == key


def test_two_layers_by_hand():
    """One head a layer: back, then back. From token 2: stay, stay ¼; one step ½ (two ways); two steps ¼."""
    pattern = np.stack([BACK[None], BACK[None]])
    for key, expected in ((2, 0.25), (1, 0.5), (0, 0.25)):
        values, plain = rollouts(pattern, only(key), 2)
        assert plain == pytest.approx(expected)
        np.testing.assert_allclose(values, expected)        # a layer's only head is its average


def test_one_head_in_place_of_its_layer_by_hand():
    """Layer 0 has the heads back and first, layer 1 has back twice; read at token 2, asked about token 0."""
    pattern = np.stack([np.stack([BACK, FIRST]), np.stack([BACK, BACK])])
    values, plain = rollouts(pattern, only(0), 2)
    # ½ stays at 2 in layer 1, ½ goes to 1; below, from 2: back gives 0, first gives ½; from 1: both give ½
    np.testing.assert_allclose(values[0], [0.25, 0.5])
    np.testing.assert_allclose(values[1], 0.375)
    assert plain == pytest.approx(0.375)
    alone, _ = rollouts(pattern, only(0), 2, others="left out")
    np.testing.assert_allclose(alone, [[0, 0.5], [0, 0]])
    bare, _ = rollouts(pattern, only(0), 2, residual=0.0)
    np.testing.assert_allclose(bare, [[1, 1], [1, 1]])      # 2 → 1 → 0, and 2 → 1 → 0 again


def test_rows_of_a_learned_sink_are_made_whole():
    half = augmented(np.array([[0.2, 0.0], [0.0, 0.2]]))
    np.testing.assert_allclose(half, np.eye(2))
    np.testing.assert_allclose(augmented(np.array([[0.2, 0.0], [0.2, 0.0]])).sum(-1), 1)


def test_a_flow_solved_by_hand():
    """From 2: stay ½, back ½ in both layers. To 1: ½ → 1, of which ½ stays (0.5 wide), and ½ stays at 2, then back."""
    layers = augmented(np.stack([BACK, BACK]))
    assert max_flow(layers, only(1), 2) == pytest.approx(1.0)
    assert max_flow(layers, only(0), 2) == pytest.approx(0.5)       # only over 1: ½ wide on both edges
    assert max_flow(layers, only(2), 2) == pytest.approx(0.5)
    assert max_flow(layers, only(2), 0) == 0                        # token 0 cannot see it
    narrow = layers.copy()
    narrow[0, 1, 0] = 0.125
    assert max_flow(narrow, only(0), 2) == pytest.approx(0.125)
    assert max_flow(layers, only(0) | only(1), 2) == pytest.approx(1.0)


def by_linear_programming(layers, key, answer):
    """The same flow as a linear programme: one variable per edge, conserved at every inner node."""
    depth, n = layers.shape[:2]
    index = np.arange(layers.size).reshape(layers.shape)
    goal = np.zeros(layers.size)
    goal[index[0, :, key]] = -1
    rows = []
    for layer in range(depth - 1):
        for node in range(n):
            row = np.zeros(layers.size)
            row[index[layer + 1, :, node]] += 1
            row[index[layer, node]] -= 1
            rows.append(row)
    bounds = [(0, width if layer < depth - 1 or query == answer else 0)
              for (layer, query, _), width in np.ndenumerate(layers)]
    return -optimize.linprog(goal, A_eq=np.array(rows), b_eq=np.zeros(len(rows)), bounds=bounds).fun


def conserved(layers, key):
    """Edges of the bottom layer that end elsewhere carry nothing to the key."""
    kept = layers.copy()
    kept[0, :, np.arange(layers.shape[1]) != key] = 0
    return kept


@pytest.mark.parametrize("seed", range(3))
def test_flows_by_other_programs(seed):
    rng = np.random.default_rng(seed)
    pattern = np.tril(rng.exponential(size=(3, 5, 5)))
    layers = augmented(pattern / pattern.sum(-1, keepdims=True))
    graph = networkx.DiGraph()
    for (layer, query, key), width in np.ndenumerate(layers):
        graph.add_edge((layer + 1, query), (layer, key), capacity=round(width * 2**40))
    for key in range(5):
        theirs = networkx.maximum_flow_value(graph, (3, 4), (0, key)) / 2**40
        assert max_flow(layers, np.arange(5) == key, 4) == pytest.approx(theirs, abs=1e-7)
        expected = by_linear_programming(conserved(layers, key), key, 4)
        assert max_flow(layers, np.arange(5) == key, 4) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("name", ["llama", "gpt_oss"])
def test_rollout_and_flow_of_a_model(name):
    """The patterns of each prompt alone, multiplied out; flow bounds rollout from above."""
    model, batch = interp.load(shallow(name), verify=False), random_batch(n=2, lengths=(6, 8))
    rolled, flowed = (getattr(interp.measures, f"attention_{what}")(model, batch, keys="B") for what in ("rollout", "flow"))
    for i in range(2):
        sites = [Site("pattern", layer) for layer in range(2)]
        found = activations(model, batch.subset([i]), sites)
        patterns = np.stack([found[site][0].double().numpy() for site in sites])
        length = len(batch.subset([i]).clean.rows()[0])
        patterns = patterns[:, :, :length, :length]
        mixed = patterns + np.eye(length)
        mixed /= mixed.sum(-1, keepdims=True)
        mean = patterns.mean(1) + np.eye(length)
        mean /= mean.sum(-1, keepdims=True)
        np.testing.assert_allclose(rolled.baselines["averaged"][i], (mean[1] @ mean[0])[-1, 3:5].sum(), rtol=1e-5)
        for head in range(4):
            np.testing.assert_allclose(rolled.values[0, head, i], (mean[1] @ mixed[0, head])[-1, 3:5].sum(), rtol=1e-5)
            np.testing.assert_allclose(rolled.values[1, head, i], (mixed[1, head] @ mean[0])[-1, 3:5].sum(), rtol=1e-5)
    assert (flowed.values >= rolled.values - 1e-9).all()
    assert (flowed.values <= 1 + 1e-9).all()


@pytest.mark.parametrize("measure", ["attention_rollout", "attention_flow"])
def test_encoders_images_and_what_is_refused(measure):
    function = getattr(interp.measures, measure)
    for name, attention in (("bert", "encoder"), ("t5", "encoder"), ("vit", "vision")):
        scores = function(interp.load(tiny(name), verify=False), pairs(name), attention=attention)
        assert ((scores.values > 0) & (scores.values <= 1)).all()
    with pytest.raises(InterpError, match="queries and keys are different"):
        function(model_of("t5"), pairs("t5"), attention="cross")
    with pytest.raises(InterpError, match="residual stream the weight"):
        function(model_of("llama"), random_batch(), residual=1.0)
    nowhere = function(model_of("llama"), random_batch(n=2, lengths=(6, 9)), keys=7)
    assert np.isnan(nowhere.values[..., 0]).all()
    assert np.isfinite(nowhere.values[..., 1]).all()
