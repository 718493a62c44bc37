"""Encoders, encoder-decoders and image encoders: their heads by hooks on the output projection, and what is refused."""

import numpy as np
import pytest
import torch
from input_pairs import pairs

import interp
from interp.core.errors import InterpError
from interp.models.load import load
from interp.models.tiny import tiny

STACKS = {
    ("bert", "encoder"): lambda m, layer: m.bert.encoder.layer[layer].attention.output.dense,
    ("vit", "vision"): lambda m, layer: output_of_vit(m, layer),
    ("t5", "self"): lambda m, layer: m.decoder.block[layer].layer[0].SelfAttention.o,
    ("t5", "cross"): lambda m, layer: m.decoder.block[layer].layer[1].EncDecAttention.o,
    ("t5", "encoder"): lambda m, layer: m.encoder.block[layer].layer[0].SelfAttention.o,
    ("bart", "self"): lambda m, layer: m.model.decoder.layers[layer].self_attn.out_proj,
    ("bart", "cross"): lambda m, layer: m.model.decoder.layers[layer].encoder_attn.out_proj,
    ("bart", "encoder"): lambda m, layer: m.model.encoder.layers[layer].self_attn.out_proj,
}


def output_of_vit(network, layer):
    """The projection that takes all heads of one layer, whatever this version of transformers calls it."""
    found = [
        module
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear) and "attention" in name and any(k in name for k in ("output", "o_proj"))
    ]
    return found[layer]


@torch.no_grad()
def logit_diff(network, given, batch, module=None, head=None, z=None):
    def put(_, args):
        new = args[0].clone()
        new[..., 8 * head : 8 * head + 8] = z[..., 8 * head : 8 * head + 8]
        return (new, *args[1:])

    handle = None if module is None else module.register_forward_pre_hook(put)
    logits = network(**given).logits
    if handle is not None:
        handle.remove()
    at = logits if logits.dim() == 2 else logits[torch.arange(batch.n), batch.answer_position]
    return (at.gather(1, batch.answers)[:, 0] - at.gather(1, batch.wrong).mean(1)).double().numpy()


@torch.no_grad()
def z_of(network, given, module):
    seen = []
    handle = module.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    network(**given)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize(("architecture", "attention"), STACKS)
def test_patching_and_ablation_by_plain_hooks(architecture, attention):
    batch, network, model = pairs(architecture), tiny(architecture), load(tiny(architecture), verify=False)
    patching = interp.measures.activation_patching(model, batch, attention=attention)
    zero = interp.measures.ablation(model, batch, kind="zero", attention=attention)
    clean = logit_diff(network, batch.clean, batch)
    for layer in range(patching.n_layers):
        module = STACKS[architecture, attention](network, layer)
        corrupt = z_of(network, batch.corrupt, module)
        for head in range(patching.n_heads):
            expected = clean - logit_diff(network, batch.clean, batch, module, head, corrupt)
            np.testing.assert_allclose(patching.values[layer, head], expected, atol=1e-4)
            expected = clean - logit_diff(network, batch.clean, batch, module, head, torch.zeros_like(corrupt))
            np.testing.assert_allclose(zero.values[layer, head], expected, atol=1e-4)
    assert np.abs(patching.values).max() > 1e-3
    assert patching.attention == patching.provenance.options["attention"] == attention


@pytest.mark.parametrize(("architecture", "attention"), STACKS)
@pytest.mark.parametrize("component", ["z", "q", "k", "v", "pattern"])
def test_every_component_of_every_stack(architecture, attention, component):
    batch, model = pairs(architecture), load(tiny(architecture), verify=False)
    options = {"component": component, "attention": attention}
    exact = interp.measures.activation_patching(model, batch, **options)
    estimate = interp.measures.attribution_patching(model, batch, **options)
    assert exact.values.shape == estimate.values.shape == (model.stack(attention).n_layers, 4, 3)
    assert np.abs(exact.values).max() > 1e-3
    assert np.abs(estimate.values).max() > 1e-3
    whole = interp.measures.attribution_patching(model, batch, positions="each", **options)
    assert np.isfinite(whole.values).all()
    if component not in "qk":  # first order: the tokens' estimates add up
        np.testing.assert_allclose(whole.values.sum(-1), estimate.values, atol=1e-6)
    importance = interp.measures.head_importance(model, batch, attention=attention)
    assert importance.attention == attention
    assert importance.values.max() > 1e-3


def test_each_patch_of_an_image():
    batch, model = pairs("vit"), load(tiny("vit"), verify=False)
    scores = interp.measures.activation_patching(model, batch, positions="each")
    assert scores.values.shape == (3, 4, 3, 5)  # 4 patches and the class token
    assert np.abs(scores.values).max() > 1e-3


def test_a_stack_that_the_model_lacks():
    with pytest.raises(InterpError, match="it has none of that kind"):
        interp.measures.ablation(load(tiny("bert"), verify=False), pairs("bert"), attention="cross")
