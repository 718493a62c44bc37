"""Integrated gradients of edges: linear networks, both ends of the mask path, completeness, gates worked out by hand."""

import numpy as np
import pytest
import torch
from cases import batch_of, linear_network, model_of

import interp
from interp.core.errors import InterpError
from interp.engine.edge_attribution import edge_attribution
from interp.engine.edge_patching import edge_patching
from interp.engine.edge_paths import PATHS, integrated_edges
from interp.models.handmade import HANDMADE
from interp.models.norm_slope import norm_slope
from interp.tasks import from_tokens

SOME = ["gpt2", "llama", "gemma2", "gpt_neox"]      # biases; grouped heads; post-norms and caps; parallel blocks


@pytest.fixture(scope="module")
def models():
    return {name: model_of(name) for name in SOME}


def gate(kind):
    made = HANDMADE[f"handmade-{kind}"]()
    pairs = made.pairs(2, 0)
    return interp.load(made.model, tokenizer=made.tokenizer, verify=False), from_tokens(
        [pair.clean for pair in pairs], [pair.corrupt for pair in pairs], [pair.answer for pair in pairs],
        [pair.wrong for pair in pairs], name=made.name)


def scored(scores, *names):
    return [scores.values[scores.edges.index(name)] for name in names]


@pytest.mark.parametrize("direction", ["noising", "denoising"])
def test_in_a_linear_network_activation_and_input_paths_are_attribution_and_exact_patching(direction):
    model, batch = linear_network(), batch_of(rows=[0, 1])
    first_order = edge_attribution(model, batch, direction=direction).values
    for path in ("activation", "input"):
        found = integrated_edges(model, batch, path, direction=direction, steps=1)
        np.testing.assert_allclose(found.values, first_order, atol=1e-10)
        np.testing.assert_allclose(found.notes["residual"], 0, atol=1e-10)
    exact = edge_patching(model, batch, direction=direction, progress=False).values
    np.testing.assert_allclose(first_order, exact, atol=1e-10)
    assert np.abs(exact).max() > 0.01


@pytest.mark.parametrize("architecture", SOME)
def test_the_ends_of_the_mask_path_are_edge_attribution(architecture, models):
    """With one step the left rule takes the slope at m = 0, the right rule that at m = 1."""
    model, batch = models[architecture], batch_of(rows=[0, 2])
    for direction, rule in (("noising", "right"), ("denoising", "left")):
        end = integrated_edges(model, batch, "mask", direction=direction, rule=rule, steps=1, tolerance=None)
        first_order = edge_attribution(model, batch, direction=direction)
        apart = np.abs(end.values - first_order.values).max(1)
        if architecture == "gemma2":      # heads are split by the secant of the post-norm there
            apart = apart[first_order.edges.senders.kind[first_order.edges.sender] != 1]
        assert apart.max() < 1e-4, architecture
        assert np.abs(first_order.values).max() > 0.05


@pytest.mark.parametrize("architecture", SOME)
def test_completeness_on_smooth_paths(architecture, models):
    """The sum of the scores is compared with the metrics of the unchanged runs, not with what the path says of itself."""
    model, batch = models[architecture], batch_of(rows=[1])
    found = {path: integrated_edges(model, batch, path, steps=24, tolerance=None) for path in ("mask", "input")}
    whole = found["mask"].baselines["clean"] - found["mask"].baselines["corrupt"]
    embed = found["mask"].edges.senders.kind[found["mask"].edges.sender] == 0
    np.testing.assert_allclose(found["mask"].values.sum(0), whole, rtol=0.01)
    np.testing.assert_allclose(found["input"].values[embed].sum(0), whole, rtol=0.01)
    assert np.abs(found["input"].values.sum(0) / whole - 1) > 0.02      # other senders' need not add up
    for one in found.values():
        np.testing.assert_allclose(one.notes["difference"], whole, atol=1e-4)
    rough = integrated_edges(model, batch, "mask", steps=3, tolerance=None)
    assert np.abs(rough.notes["residual"]) > 4 * np.abs(found["mask"].notes["residual"])


def test_edges_of_a_group_add_up_to_exchanging_it(models):
    model, batch = models["gemma2"], batch_of(rows=[0])
    found = integrated_edges(model, batch, "activation", steps=12, tolerance=None)
    heads = interp.engine.Intervention("z", 1, tuple(range(4)), None, interp.engine.Resample("corrupt"))
    exact = found.baselines["clean"] - interp.engine.metric_values(model, batch, heads)
    senders = found.edges.senders
    own = (senders.kind[found.edges.sender] == 1) & (senders.layer[found.edges.sender] == 1)
    np.testing.assert_allclose(found.values[own].sum(0), exact, rtol=0.02)
    assert found.notes["evaluations"] == 7 * 13      # the embedding and two groups in each of three layers


def test_published_code_averages_over_the_paths_of_all_groups():
    """Paths of embedding, layer 0 and layer 1: no slope goes through the group on its path, which cuts what reads for it."""
    model, batch = linear_network(), batch_of(rows=[0])
    own, everything = (integrated_edges(model, batch, "activation", steps=2, tolerance=None, over=over)
                       for over in ("own", "all"))
    receivers, at = own.edges.receivers, own.edges.receiver
    np.testing.assert_allclose(everything.values[receivers.kind[at] == 4], own.values[receivers.kind[at] == 4], atol=1e-10)
    second = receivers.layer[at] == 1
    np.testing.assert_allclose(everything.values[second], own.values[second] * 2 / 3, atol=1e-10)
    assert np.abs(own.values[second]).max() > 0.01


@pytest.mark.parametrize("direction", ["noising", "denoising"])
def test_masks_of_the_or_gate_by_hand(direction):
    """At mask m the heads write m, the MLP reads m², the output reads m · min(1, 2 m²): integrals of its three factors."""
    model, batch = gate("or")
    found = integrated_edges(model, batch, "mask", tolerance=1e-3, budget=200)
    into_gate = 2**-1.5 / 3
    out = 1 - 4 * into_gate
    for name, expected in (("mlp0->logits.out", out), ("L0H0->mlp0.mlp", into_gate), ("L0H2->mlp0.mlp", into_gate),
                           ("embed->L0H0.v", into_gate), ("embed->L0H2.v", into_gate), ("L0H1->mlp0.mlp", 0)):
        np.testing.assert_allclose(*scored(found, name), expected, atol=2e-3, err_msg=name)
    back = integrated_edges(model, batch, "mask", direction="denoising", tolerance=1e-2)
    np.testing.assert_allclose(back.values.sum(0), 1, atol=0.011)


def test_what_both_gradients_miss_is_found_where_the_residual_sits():
    model, batch = gate("saturated")
    into = ("embed->L0H0.v", "embed->L0H2.v", "L0H0->mlp0.mlp", "L0H2->mlp0.mlp")
    for direction in ("noising", "denoising"):
        assert np.abs(scored(edge_attribution(model, batch, direction=direction), *into)).max() == 0
    few = integrated_edges(model, batch, "mask", steps=3, tolerance=None)
    assert np.abs(scored(few, *into)).max() < 1e-6
    assert np.abs(few.notes["residual"]).min() > 0.2
    found = integrated_edges(model, batch, "mask", steps=3)
    assert found.notes["complete"].all()
    assert np.abs(found.notes["residual"]).max() <= 0.01
    assert np.min(scored(found, *into)) > 0.1
    with pytest.warns(UserWarning, match="do not add up on 2 of 2 paths: after 6 gradients"):
        short = integrated_edges(model, batch, "mask", steps=3, budget=6)
    assert short.notes["evaluations"].tolist() == [6, 6]
    assert not short.notes["complete"].any()


def test_a_saturated_softmax_is_found_by_the_adaptive_path():
    """Gain 50: the gradient through the induction head's keys is 0 at both ends; the edge into them carries the circuit."""
    made = HANDMADE["handmade-induction"](beta=50.0)
    model, pairs = interp.load(made.model, tokenizer=made.tokenizer, verify=False), made.pairs(2, 0, "keys")
    batch = from_tokens([pair.clean for pair in pairs], [pair.corrupt for pair in pairs], [pair.answer for pair in pairs],
                        [pair.wrong for pair in pairs], name=made.name)
    edge = "L0H2->L1H1.k"
    for direction in ("noising", "denoising"):
        assert np.abs(scored(edge_attribution(model, batch, direction=direction), edge)).max() < 1e-3
    found = integrated_edges(model, batch, "mask", budget=96)
    assert np.abs(found.notes["residual"] / found.notes["difference"]).max() <= 0.01
    assert np.min(scored(found, edge)) > 1
    assert np.max(found.notes["evaluations"]) > 9


def test_batches_padding_and_memory_change_nothing(models, monkeypatch):
    model, batch = models["llama"], batch_of("right")
    for path in PATHS:
        options = {"path": path, "steps": 2, "tolerance": None}
        whole = integrated_edges(model, batch, **options)
        left = integrated_edges(model, batch_of("left"), **options)
        monkeypatch.setattr("interp.engine.edge_paths.MEMORY", 20_000)      # fewer than two prompts
        one = integrated_edges(model, batch, **options)
        monkeypatch.undo()
        for other in (one, left):
            np.testing.assert_allclose(other.values, whole.values, rtol=1e-3, atol=1e-5)
            np.testing.assert_allclose(other.notes["residual"], whole.notes["residual"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("path", PATHS)
def test_parts_of_places_add_up(path, models):
    model, batch = models["gemma2"], batch_of(rows=[0, 1])
    options = {"steps": 2, "tolerance": None}
    whole, each = (integrated_edges(model, batch, path, positions=positions, **options) for positions in (None, "each"))
    np.testing.assert_array_equal(each.values, whole.values)
    np.testing.assert_allclose(sum(each.places.values()), whole.values, rtol=1e-4, atol=1e-6)
    named = integrated_edges(model, batch, path, positions=("S", "end"), batch_size=1, **options)
    np.testing.assert_allclose(named.at("S").values[:, 0], each.at("2").values[:, 0], rtol=1e-3, atol=1e-5)
    assert np.abs(named.at("end").values).max() > 0.01


@pytest.mark.parametrize("centred", [True, False])
def test_parts_of_a_step_through_a_norm_add_up(centred):
    norm = torch.nn.LayerNorm(8, dtype=torch.float64) if centred else torch.nn.RMSNorm(8, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    norm.requires_grad_(False)
    norm.weight.copy_(torch.rand(8, generator=generator) + 0.5)
    x, y, *parts = torch.randn(5, 3, 8, generator=generator, dtype=torch.float64)
    parts = torch.stack([*parts, x - y - sum(parts)])
    here, there = norm_slope(norm, x), norm_slope(norm, y)
    torch.testing.assert_close(here.between(there, parts).sum(0), norm(x) - norm(y), atol=1e-9, rtol=0)
    torch.testing.assert_close(here.between(here, parts), here.push(parts))


def test_what_is_no_path_is_refused(models):
    for options in ({"path": "weights"}, {"over": "some"}, {"direction": "sideways"}, {"steps": 0}, {"rule": "simpson"}):
        with pytest.raises(InterpError):
            integrated_edges(models["gpt2"], batch_of(rows=[0]), **options)
