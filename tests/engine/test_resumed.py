"""Resumed passes against whole ones: the same numbers on every architecture, at a fraction of the tokens."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cases import batch_of, equal_length_batch, model_of

from interp.engine.idle import idle
from interp.engine.intervention import Intervention, Mean, Resample, Scale, Uniform, Zero
from interp.engine.passes import open_passes
from interp.engine.units import UNIT_FLOPS
from interp.models.load import load
from interp.models.resume.resumable import resumable
from interp.models.tiny import ARCHITECTURES, DECODERS, tiny

WHOLE_ATTENTION = ("gptj", "falcon", "falcon_new", "falcon_alibi", "bloom")
"""Decoders whose attention does not go by transformers' interface: their blocks are resumed, each as a whole."""
APART = tuple(name for name in DECODERS if name not in WHOLE_ATTENTION)
NOT_CAUSAL = ("bert", "vit")
"""Resumed at a layer, never at a position."""
FULL = dict.fromkeys(("t5", "bart"), "an encoder-decoder's two stacks are run as a whole")
FIRST, LAST = 2, 7
"""The batches of equal length differ from this token on, and are read at that one."""


def run_all(passes):
    values = np.full((len(passes.lists), passes.batch.n), np.nan)
    acted = np.zeros(values.shape, dtype=bool)
    for unit in passes.units:
        at = np.ix_(unit.lists, unit.rows)
        found, acted[at] = passes.run(unit)
        values[at] = found[0]
    assert np.isfinite(values).all()
    return values, acted


def lists_of(kv_heads, places):
    """Each component in each layer, at one of two places in turn; and lists that act in several layers at once."""
    found = []
    for i, what in enumerate(("z", "q", "k", "v", "pattern", "result")):
        for layer in range(3):
            head = (i + layer) % (kv_heads if what in "kv" else 4)
            found.append([Intervention(what, layer, head, places[(i + layer) % 2], Resample("corrupt"))])
        found.append([Intervention(what, 0, None, places[0], Scale(0.6)), Intervention(what, 2, 0, "end", Zero())])
    return [*found, [],
            [Intervention("z", 0, 1, "phrase", Zero()), Intervention("k", 1, 0, None, Resample("corrupt")),
             Intervention("v", 1, 0, "phrase", Mean("corrupt"))],
            [Intervention("resid_pre", 1, None, "S", Resample("corrupt")), Intervention("pattern", 1, 3, None, Uniform())],
            [Intervention("mlp_out", 0, None, "S", Zero()), Intervention("resid_pre", 2, None, "phrase", Scale(0.5))]]


@pytest.mark.parametrize("architecture", DECODERS)
def test_equal_to_whole_passes(architecture):
    model = load(tiny(architecture), verify=False)
    for side, places in (("right", (None, "phrase")), ("left", ("S", "end"))):
        batch, lists = batch_of(side), lists_of(model.stacks[0].n_kv_heads, places)
        fast, full = open_passes(model, batch, lists), open_passes(model, batch, lists, resume=False)
        assert (fast.how, fast.why, full.how, full.why) == ("resumed", "", "full", "it was asked for")
        values, acted = run_all(fast)
        want, wanted = run_all(full)
        np.testing.assert_allclose(values, want, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(acted, wanted)
        assert np.abs(want - want[lists.index([])]).max() > 0.1


def test_which_architectures_resume():
    """A change here is a change of what users wait for: it belongs into the changelog."""
    for architecture in ARCHITECTURES:
        found = load(tiny(architecture), verify=False).resuming
        said = found if isinstance(found, str) else (found.causal, len(found.apart) > 0)
        assert said == FULL.get(architecture, (architecture not in NOT_CAUSAL, architecture in APART)), architecture


def test_a_backend_without_modules_says_so():
    assert resumable(SimpleNamespace()) == "the backend runs its network as a whole"


# ---- what costs nothing, and what the rest costs

@pytest.fixture(scope="module")
def model():
    return model_of("llama")


def by_position(heads=range(4)):
    return [[Intervention("z", layer, head, position, Resample("corrupt"))]
            for layer in range(3) for head in heads for position in range(8)]


def counting(model):
    """Tokens that pass an MLP, counted as they do."""
    seen = []
    for layer in model.backend.network.model.layers:
        layer.mlp.register_forward_hook(lambda module, args, out: seen.append(out.numel() // out.shape[-1]))
    return seen


def test_what_does_not_differ_costs_nothing_and_the_rest_what_depends_on_it():
    """By hand: the prompts differ from the third token on, so earlier positions act in no layer, and of the last layer only
    the position that is read does. A row that enters layer l at position p passes l's MLP once, those above at the positions
    from p on, and the last one at the answer alone."""
    model, batch = model_of("llama"), equal_length_batch()
    passes = open_passes(model, batch, by_position())
    acts = np.zeros((3, 4, 8, 4), dtype=bool)
    acts[:2, :, FIRST:], acts[2, :, LAST] = True, True
    np.testing.assert_array_equal(idle(model, batch, by_position()), ~acts.reshape(96, 4))
    seen = counting(model)
    values, _ = run_all(passes)
    positions = range(FIRST, LAST + 1)
    once = sum(1 + (LAST + 1 - p) + 1 for p in positions) + sum(1 + 1 for _ in positions) + 1
    assert sum(seen) == once * 4 * 4 == 736
    assert sum(unit.tokens for unit in passes.units) == (once + sum(LAST - p for p in positions) * 2) * 16
    untouched = run_all(open_passes(model, batch, [[]]))[0]
    still = ~acts.reshape(96, 4)
    np.testing.assert_array_equal(values[still], np.broadcast_to(untouched, values.shape)[still])


def test_a_sweep_of_what_is_idle_runs_no_layer(model):
    batch = equal_length_batch()
    seen = counting(model)
    passes = open_passes(model, batch, [[Intervention("z", layer, 1, 0, Resample("corrupt"))] for layer in range(3)])
    seen.clear()
    run_all(passes)
    assert seen == []
    assert sum(unit.tokens for unit in passes.units) == 0


def test_rows_of_many_lists_share_a_pass(model):
    """Heads, layers and prompts stand side by side: as many passes as layers are entered, not as there are rows."""
    seen = counting(model)
    passes = open_passes(model, equal_length_batch(), [[Intervention("z", layer, head, None, Resample("corrupt"))]
                                                       for layer in range(3) for head in range(4)])
    seen.clear()
    run_all(passes)
    assert len(seen) <= 6


def test_the_bits_do_not_depend_on_the_order_of_the_units(model, monkeypatch):
    """Each process sees other units first; the passes are the same."""
    monkeypatch.setitem(UNIT_FLOPS, "cpu", 4e5)
    lists = lists_of(2, (None, "phrase"))
    values = []
    for order in (1, -1):
        passes = open_passes(model, batch_of(), lists)
        assert len(passes.units) > 3
        found = {unit: passes.run(unit)[0] for unit in passes.units[::order]}
        values.append([found[unit] for unit in passes.units])
    for one, other in zip(*values, strict=True):
        np.testing.assert_array_equal(one, other)


def test_latent_attention_takes_keys_and_values_anywhere():
    """DeepSeek-V3's cache holds latents: the edit of a key or value at a late position is still followed."""
    model, batch = load(tiny("deepseek_v3"), verify=False), batch_of("left")
    lists = [[Intervention(what, layer, 1, place, Resample("corrupt"))] for what in "kv" for layer in range(3)
             for place in (None, "S", "end")]
    lists += [[Intervention("z", 0, 0, "S", Zero()), *entry] for entry in lists]
    np.testing.assert_allclose(run_all(open_passes(model, batch, lists))[0],
                               run_all(open_passes(model, batch, lists, resume=False))[0], rtol=1e-4, atol=1e-4)


def test_on_tensors(model):
    assert torch.is_grad_enabled()
    item = Intervention("z", 1, 2, None, Resample(torch.randn(4, 8, 4, 8, generator=torch.Generator().manual_seed(0))))
    batch = equal_length_batch()
    np.testing.assert_allclose(run_all(open_passes(model, batch, [item]))[0],
                               run_all(open_passes(model, batch, [item], resume=False))[0], rtol=1e-4, atol=1e-4)
