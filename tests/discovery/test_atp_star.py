"""AtP*: cancelling paths, saturated attention, and the estimate without either against attribution patching."""

import numpy as np
import pytest
import torch
from masked_edges import network, pairs

import interp
from interp.discovery import discover
from interp.engine.grad_drop import dropped_gradients
from interp.models.handmade import HANDMADE
from interp.models.handmade.weights import HeadWeights, MLPWeights, Residual, assemble, one_hot
from interp.models.sites import Site
from interp.models.tiny import tiny
from interp.tasks import from_tokens

SIZE = 6


def cancelling(layers: int = 3):
    """Head L0H0 writes a bit into the output; the MLP of the next layer takes 0.9 of it off again, later ones do nothing."""
    space = Residual(tok=SIZE, pos=16, one=1, bit=1, out=1)
    first = space.read("pos", one_hot(16, 1))
    head = HeadWeights(50 * space.read("one"), first, space.read("tok", one_hot(SIZE, 2)),
                       space.write("bit") + space.write("out"))
    idle = HeadWeights(space.read("one"), space.read("one"), space.read("one"), torch.zeros(space.d_model, 1))
    nothing = MLPWeights(torch.zeros(1, space.d_model), torch.ones(1), torch.zeros(space.d_model, 1),
                         torch.zeros(space.d_model))
    remover = MLPWeights(space.read("bit"), torch.ones(1), -0.9 * space.write("out"), 0.9 * space.write("out")[:, 0])
    unembed = torch.zeros(SIZE, space.d_model)
    unembed[4] = space.read("out")[0]
    mlps = {layer: remover if layer == 1 else nothing for layer in range(layers)}
    model = assemble(space, [[head], *[[idle]] * (layers - 1)], unembed, mlps)
    return interp.load(model, verify=False), from_tokens([[0, 2, 3]], [[0, 1, 3]], 4, 5)


def test_graddrop_by_hand():
    """Slopes of the head: 1 - 0.9 in whole; with layer 0, 1, 2 cut off: 0 (its own), 1 (no removal), 0.1."""
    model, batch = cancelling()
    found = dropped_gradients(model, batch, [Site("z", 0)])
    slopes = [float(slope[Site("z", 0)][0, -1, 0, 0]) for slope in found.gradients]
    np.testing.assert_allclose(slopes, [0.1, 0, 1, 0.1], atol=1e-6)
    plain = discover(model, batch, method="atp_star", grad_drop=False)
    dropped = discover(model, batch, method="atp_star")
    head, mlp = plain.names().index("L0H0"), plain.names().index("mlp1")
    np.testing.assert_allclose(plain.values[[head, mlp], 0], [0.1, -0.9], atol=1e-6)
    np.testing.assert_allclose(dropped.values[[head, mlp], 0], [(0 + 1 + 0.1) / 2, (0.9 + 0.9) / 2], atol=1e-6)
    exact = discover(model, batch, method="node_patching", progress=False)
    np.testing.assert_allclose(exact.values[[head, mlp], 0], [0.1, -0.9], atol=1e-6)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2"])
def test_without_graddrop_it_is_attribution_patching(architecture):
    model, batch = interp.load(tiny(architecture), verify=False), pairs(vocab=97)
    for direction in ("noising", "denoising"):
        found = discover(model, batch, method="atp_star", grad_drop=False, direction=direction)
        for part in ("z", "q", "k", "v"):
            expected = interp.measures.attribution_patching(model, batch, component=part, direction=direction).values
            shared = np.repeat(expected, model.n_heads // expected.shape[1], axis=1)
            np.testing.assert_allclose(found.notes[part], shared, rtol=1e-4, atol=1e-5)
    mlps = discover(model, batch, method="eap", direction="denoising").by_sender()
    others = found.edges.senders.kind != 1
    np.testing.assert_allclose(found.values[others], mlps[others], rtol=1e-3, atol=1e-4)
    assert np.abs(found.values).max() > 0.05


def test_cutting_a_layer_is_a_network_without_its_gradient():
    """Finite differences of a network whose layer is held at what it was: what the cut leaves of the derivative."""
    made = network(layers=3)
    model, batch = interp.load(made, verify=False), pairs(n=1)
    found = dropped_gradients(model, batch, [Site("z", 0)])
    ids, step = batch.clean.ids, 1e-5

    def logit_diff(move, held):
        kept, handles = {}, []
        block = made.model.layers[held]

        def keep(name):
            return lambda module, args, output: kept.__setitem__(name, output)

        def put(name):
            return lambda module, args, output: kept[name]

        def moved(module, args):
            return (args[0] + move,)

        with torch.no_grad():
            parts = {"attention": block.self_attn, "mlp": block.mlp}
            handles = [module.register_forward_hook(keep(name)) for name, module in parts.items()]
            made(ids)
            for handle in handles:
                handle.remove()
            handles = [*(module.register_forward_hook(put(name)) for name, module in parts.items()),
                       made.model.layers[0].self_attn.o_proj.register_forward_pre_hook(moved)]
            logits = made(ids).logits[0, -1]
            for handle in handles:
                handle.remove()
        return float(logits[11] - logits[13])

    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(1, ids.shape[1], 16, generator=generator, dtype=torch.float64)
    for layer in (1, 2):
        slope = found.gradients[1 + layer][Site("z", 0)].flatten(2)
        expected = (logit_diff(step * direction, layer) - logit_diff(-step * direction, layer)) / (2 * step)
        np.testing.assert_allclose(float((slope * direction).sum()), expected, rtol=1e-5)
    assert float(found.gradients[1][Site("z", 0)].abs().max()) == 0


def test_the_softmax_recomputed_sees_a_saturated_head():
    """Gain 50: exchanging the previous-token head moves no gradient through the keys; their pattern changes altogether."""
    made = HANDMADE["handmade-induction"](beta=50.0)
    prompts = made.pairs(2, 0, "keys")
    model = interp.load(made.model, tokenizer=made.tokenizer, verify=False)
    batch = from_tokens([p.clean for p in prompts], [p.corrupt for p in prompts], [p.answer for p in prompts],
                        [p.wrong for p in prompts], name=made.name)
    fixed, linear = (discover(model, batch, method="atp_star", grad_drop=False, qk_fix=fix) for fix in (True, False))
    assert np.abs(linear.notes["k"][1, 1]).max() < 1e-3
    assert fixed.notes["k"][1, 1].min() > 1
