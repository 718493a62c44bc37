"""Integrated gradients of heads: linear networks, the ends of the mask path, completeness, gates that gradients miss."""

import numpy as np
import pytest
import torch
from random_batches import model_of, random_batch

import interp
from interp.core.errors import InterpError
from interp.engine.forward import metric_values
from interp.engine.intervention import Intervention, Resample
from interp.engine.node_paths import PATHS, integrated_heads
from interp.models.handmade import HANDMADE
from interp.models.load import load
from interp.models.plain import PlainConfig, PlainForCausalLM
from interp.models.tiny import randomise
from interp.tasks import from_tokens

A, B = (0, 0), (0, 2)


@pytest.fixture(scope="module")
def gemma():
    return model_of("gemma2")


def gate(kind):
    made = HANDMADE[f"handmade-{kind}"]()
    pairs = made.pairs(2, 0)
    return load(made.model, tokenizer=made.tokenizer, verify=False), from_tokens(
        [pair.clean for pair in pairs], [pair.corrupt for pair in pairs], [pair.answer for pair in pairs],
        [pair.wrong for pair in pairs], name=made.name)


@pytest.mark.parametrize("direction", ["noising", "denoising"])
def test_in_a_linear_network_all_paths_are_attribution_and_exact_patching(direction):
    """One layer of heads with uniform patterns: no head sees another, so the mask path is straight as well."""
    network = PlainForCausalLM(PlainConfig(vocab_size=97, hidden_size=32, num_hidden_layers=1, num_attention_heads=4))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        randomise(network)
    torch.nn.init.zeros_(network.model.layers[0].self_attn.q_proj.weight)
    model, batch = load(network.double().eval(), verify=False), random_batch()
    exact = interp.measures.activation_patching(model, batch, direction=direction)
    first_order = interp.measures.attribution_patching(model, batch, direction=direction)
    np.testing.assert_allclose(first_order.values, exact.values, atol=1e-10)
    for path in PATHS:
        found = interp.measures.integrated_gradients(model, batch, path=path, direction=direction, steps=1)
        np.testing.assert_allclose(found.values, exact.values, atol=1e-10)
        np.testing.assert_allclose(found.baselines["residual"], 0, atol=1e-10)
    assert np.abs(exact.values).max() > 0.01


def test_in_deeper_linear_networks_input_and_activation_paths_still_are():
    network = PlainForCausalLM(PlainConfig(vocab_size=97, hidden_size=32, num_hidden_layers=3, num_attention_heads=4))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        randomise(network)
    for layer in network.model.layers:
        torch.nn.init.zeros_(layer.self_attn.q_proj.weight)
    model, batch = load(network.double().eval(), verify=False), random_batch()
    exact = interp.measures.activation_patching(model, batch).values
    for path in ("activation", "input"):
        found = interp.measures.integrated_gradients(model, batch, path=path, steps=1)
        np.testing.assert_allclose(found.values, exact, atol=1e-10)


@pytest.mark.parametrize(("direction", "rule"), [("noising", "right"), ("denoising", "left")])
def test_the_ends_of_the_mask_path_are_attribution_patching(direction, rule, gemma):
    """With one step the left rule takes the slope at m = 0, the right rule that at m = 1."""
    batch, on = random_batch(lengths=(7, 9)), "clean" if direction == "noising" else "corrupt"
    end = integrated_heads(gemma, batch, "mask", on=on, rule=rule, steps=1, tolerance=None)
    expected = interp.measures.attribution_patching(gemma, batch, direction=direction).values
    np.testing.assert_allclose(end.values[0], expected, rtol=1e-3, atol=1e-4)
    assert np.abs(expected).max() > 0.05


def test_scores_add_up_to_what_exchanging_the_heads_does(gemma):
    batch = random_batch(lengths=(7, 9))
    everything = [Intervention("z", layer, None, None, Resample("corrupt")) for layer in range(gemma.n_layers)]
    base = metric_values(gemma, batch)
    mask = interp.measures.integrated_gradients(gemma, batch, steps=16)
    np.testing.assert_allclose(mask.values.sum((0, 1)), base - metric_values(gemma, batch, everything), rtol=0.02, atol=5e-3)
    layers = interp.measures.integrated_gradients(gemma, batch, path="activation", steps=16)
    for layer, one in enumerate(everything):
        effect = base - metric_values(gemma, batch, one)
        np.testing.assert_allclose(layers.values[layer].sum(0), effect, rtol=0.02, atol=5e-3)
    rough = interp.measures.integrated_gradients(gemma, batch, steps=2)
    assert (np.abs(rough.baselines["residual"]) > 4 * np.abs(mask.baselines["residual"])).all()


def test_places_that_make_up_the_prompt_add_up(gemma):
    batch = random_batch(lengths=(7, 9))
    for path in PATHS:
        whole = interp.measures.integrated_gradients(gemma, batch, path=path, steps=2)
        each = interp.measures.integrated_gradients(gemma, batch, path=path, steps=2, positions="each")
        np.testing.assert_allclose(np.nansum(each.values, -1), whole.values, atol=1e-12)
        assert each.dims == (*whole.dims, "position")
        assert np.isnan(each.values[:, :, 0, 7:]).all()      # the shorter prompt has no such tokens
    named = interp.measures.integrated_gradients(gemma, batch, steps=2, path="input", positions=("A", "B", "end"))
    np.testing.assert_allclose(named.values[..., 0], each.values[..., 1], atol=1e-12)


@pytest.mark.parametrize(("kind", "expected"), [("or", (0.5, 0.5)), ("and", (0.5, 0.5)), ("xor", (0, 0)),
                                                ("saturated", (0.5, 0.5)), ("cancel", (1, -1)), ("erased", (0, 1))])
def test_gates(kind, expected):
    """Each bit's share of the gate; an exclusive or is this score's blind spot, as its halves cancel."""
    model, batch = gate(kind)
    for direction in ("noising", "denoising"):
        found = interp.measures.integrated_gradients(model, batch, direction=direction, tolerance=0.01)
        for at, value in zip((A, B), expected, strict=True):
            np.testing.assert_allclose(found.values[at], value, atol=0.006)


def test_a_saturated_gate_that_gradients_miss_is_found_where_the_residual_sits():
    model, batch = gate("saturated")
    for direction in ("noising", "denoising"):
        assert np.abs(interp.measures.attribution_patching(model, batch, direction=direction).values).max() == 0
    few = interp.measures.integrated_gradients(model, batch, steps=3)
    np.testing.assert_allclose(few.values[A], 0, atol=1e-6)
    np.testing.assert_allclose(few.baselines["residual"], -1, atol=1e-6)
    found = interp.measures.integrated_gradients(model, batch, steps=3, tolerance=0.01)
    assert found.values[A].min() > 0.49
    assert np.abs(found.baselines["residual"]).max() <= 0.01
    assert found.provenance.options["prompts_above_tolerance"] == 0
    with pytest.warns(UserWarning, match="do not add up on 2 of 2 paths: after 6 gradients"):
        short = interp.measures.integrated_gradients(model, batch, steps=3, tolerance=0.01, budget=6)
    assert short.provenance.options["prompts_above_tolerance"] == 2
    spent = integrated_heads(model, batch, "mask", steps=3)
    uniform = integrated_heads(model, batch, "mask", steps=int(spent.evaluations.max()) - 1, tolerance=None)
    assert np.abs(uniform.residual).min() > 4 * np.abs(spent.residual).max()


def test_what_has_no_gradient_or_path_is_refused(gemma):
    with pytest.raises(InterpError, match="gradient of the metric"):
        interp.measures.integrated_gradients(gemma, random_batch(), metric="accuracy")
    with pytest.raises(InterpError):
        integrated_heads(gemma, random_batch(), "weights")
