"""Sweeps against TransformerLens' own patching functions; the engine on its backend against that of transformers."""

import itertools

import numpy as np
import pytest
import torch
from cases import batch_of, equal_length_batch, model_of

import interp
from interp.engine.forward import run
from interp.engine.generate import generate
from interp.engine.gradients import gradients
from interp.engine.intervention import (
    Add,
    AttendToFirst,
    Intervention,
    Mean,
    Resample,
    RowEdit,
    Scale,
    Uniform,
    Zero,
)
from interp.engine.sweep import sweep
from interp.models.sites import Site
from interp.models.tiny import tiny

PATCHES = [("z", "out"), ("q", "q"), ("k", "k"), ("v", "v"), ("pattern", "pattern")]


@pytest.fixture(scope="module", params=["gpt2", "llama", "gpt_neox"])
def pair(request):
    """A model, and its bridge."""
    model = model_of(request.param)
    return model, model.bridge


@pytest.mark.parametrize("by_position", [False, True])
@pytest.mark.parametrize(("what", "name"), PATCHES)
def test_patching_functions(pair, what, name, by_position):
    """Denoising: TransformerLens puts clean activations into the corrupted run. Ours keeps the prompts apart."""
    from transformer_lens import patching

    model, bridge = pair
    batch = equal_length_batch(n=2, length=5)
    function = getattr(patching, f"get_act_patch_attn_head_{name}_{'by' if by_position else 'all'}_pos")
    with torch.no_grad():
        cache = bridge.run_with_cache(batch.clean.ids)[1]
        theirs = function(bridge, batch.corrupt.ids, cache, lambda logits: (logits[:, -1, 21] - logits[:, -1, 31]).mean())
    layers, heads = theirs.shape[0], theirs.shape[-1]
    places = range(5) if by_position else [None]
    if what == "pattern" and by_position:
        theirs, heads = theirs.transpose(1, 2), theirs.shape[1]
    items = [Intervention(what, layer, head, place, Resample("clean"))
             for layer, place, head in itertools.product(range(layers), places, range(heads))]
    ours = sweep(model, batch, items, on="corrupt").mean(axis=1).reshape(theirs.shape)
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-4, rtol=1e-4)
    assert np.ptp(ours) > 1e-2


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gpt_neox", "gemma2", "opt"])
def test_both_backends(architecture):
    one, other = model_of(architecture), interp.load(tiny(architecture), backend="transformer_lens")
    assert other.backend.name == "transformer_lens"
    batch = batch_of("left")
    lists = [Intervention("z", 1, 1, "S", Resample("corrupt")), Intervention("v", 1, 1, None, Mean("corrupt", "token")),
             Intervention("q", 0, 1, "phrase", Scale(2.0)), Intervention("k", 2, 0, None, Zero()),
             Intervention("pattern", 1, 2, None, Uniform()), Intervention("pattern", 2, 0, "end", AttendToFirst()),
             Intervention("pattern", 1, 1, "end", RowEdit({"S": 0.7, 0: 0.3})),
             Intervention("scores", 1, 1, None, Scale(0.5)), Intervention("resid_pre", 1, None, "end", Add(0.5)),
             Intervention("pattern", 1, 3, None, Mean("corrupt"))]
    np.testing.assert_allclose(sweep(one, batch, lists), sweep(other, batch, lists), atol=1e-5, rtol=1e-5)
    sites = [Site(what, 1) for what in ("z", "q", "v", "pattern", "resid_pre")]
    a, b = gradients(one, batch, sites), gradients(other, batch, sites)
    real = batch.clean.mask.bool()
    for site in sites:
        where = a.activations[site] > 0 if site.what == "pattern" else real
        torch.testing.assert_close(a.gradients[site][where], b.gradients[site][where], atol=1e-5, rtol=1e-4)
    steps = [Intervention("z", 1, 1, "end", Scale(3.0)), Intervention("v", 0, 0, None, Scale(2.0))]
    torch.testing.assert_close(generate(one, batch, 4, steps, logits=True).logits,
                               generate(other, batch, 4, steps, logits=True).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.weights
def test_a_model_of_transformer_lens_itself(weights):
    """Zero ablation of every head of the two-layer induction model, as TransformerLens' own hooks do it."""
    model = interp.load(weights / "induction-2L")
    ids = torch.randint(1, 128, (3, 20), generator=torch.Generator().manual_seed(0))
    for layer, head in itertools.product(range(model.n_layers), range(model.n_heads)):
        def zero(z, hook, head=head):
            z = z.clone()
            z[:, :, head] = 0
            return z

        with torch.no_grad():
            want = model.bridge.run_with_hooks(ids, fwd_hooks=[(f"blocks.{layer}.attn.hook_z", zero)])[:, -1]
        found = run(model, {"input_ids": ids}, Intervention("z", layer, head, None, Zero())).logits
        torch.testing.assert_close(found, want, atol=1e-5, rtol=1e-5)
