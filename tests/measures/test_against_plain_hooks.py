"""Activation patching and ablation against plain hooks on the untouched transformers model, on every decoder."""

import numpy as np
import pytest
import slow_path
import torch
from random_batches import DECODERS, random_batch, shallow

import interp
from interp.models.load import load
from interp.models.tiny import tiny

CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def metric(logits, batch):
    """Logit of the answer minus the mean of the wrong ones, at the last real token."""
    at = logits[torch.arange(len(logits)), batch.clean.last]
    return (at.gather(1, batch.answers)[:, 0] - at.gather(1, batch.wrong).mean(1)).double().numpy()


def runs(batch, direction):
    sides = (batch.clean.inputs, batch.corrupt.inputs)
    return sides if direction == "noising" else sides[::-1]


def by_hooks(architecture, network, batch, component, direction, rows=None):
    """What activation patching is, head by head."""
    base, source = runs(batch, direction)
    with torch.no_grad():
        unpatched = metric(network(**base).logits, batch)
    sizes = slow_path.shape(architecture, network)
    heads = sizes.kv if component in "kv" else sizes.heads
    out = np.zeros((sizes.layers, heads, batch.n))
    for layer in range(sizes.layers):
        for head in range(heads):
            other = slow_path.read(architecture, network, source, layer, head, component)
            logits = slow_path.patched_logits(
                architecture, network, base, layer, head, component, lambda old, other=other: other, rows
            )
            out[layer, head] = metric(logits, batch) - unpatched
    return -out if direction == "noising" else out


@pytest.mark.parametrize("architecture", DECODERS)
def test_the_network_of_the_hooks_is_the_default_one(architecture):
    with torch.no_grad():
        given = random_batch().clean.inputs
        torch.testing.assert_close(
            slow_path.untouched(architecture)(**given).logits, tiny(architecture)(**given).logits, rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("component", ["z", "q", "k", "v", "pattern"])
@pytest.mark.parametrize("architecture", DECODERS)
def test_activation_patching(architecture, component):
    batch = random_batch()
    for direction in ("noising", "denoising"):
        slow = by_hooks(architecture, slow_path.untouched(architecture), batch, component, direction)
        scores = interp.measures.activation_patching(
            load(tiny(architecture), verify=False), batch, component=component, direction=direction
        )
        assert scores.unit == ("kv_head" if component in "kv" else "head")
        np.testing.assert_allclose(scores.values, slow, **CLOSE)
        assert np.abs(slow).max() > 1e-2


@pytest.mark.parametrize("component", ["z", "q", "k", "v", "pattern"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize("padding_side", ["right", "left"])
def test_activation_patching_at_positions_of_padded_prompts(architecture, component, padding_side):
    """Each token and each span, prompts of unlike lengths: the hooks see every prompt alone and without padding."""
    batch = random_batch(n=2, lengths=(5, 7), padding_side=padding_side)
    model, network = load(shallow(architecture), verify=False), shallow(architecture, attn_implementation="eager")
    each = interp.measures.activation_patching(model, batch, component=component, positions="each")
    spans = interp.measures.activation_patching(model, batch, component=component, positions=("A", "B", "end"))
    one = interp.measures.activation_patching(model, batch, component=component, positions="B")
    assert each.dims == spans.dims == ("layer", "head", "prompt", "position")
    assert each.coords["position"] == tuple(range(7))
    assert spans.coords["position"] == ("A", "B", "end")
    np.testing.assert_array_equal(one.values, spans.at(position="B").values)
    assert np.isnan(each.values[:, :, 0, 5:]).all()
    assert np.isfinite(each.values[:, :, 1]).all()
    for i, length in enumerate((5, 7)):
        alone = random_batch(n=2, lengths=(5, 7)).subset([i])
        for t in range(length):
            rows = torch.zeros(1, length, dtype=torch.bool)
            rows[0, t] = True
            slow = by_hooks(architecture, network, alone, component, "noising", rows)
            np.testing.assert_allclose(each.values[:, :, i, t], slow[:, :, 0], **CLOSE)
        for at, span in enumerate(((1, 2), (3, 5), (length - 1, length))):
            rows = torch.zeros(1, length, dtype=torch.bool)
            rows[0, slice(*span)] = True
            slow = by_hooks(architecture, network, alone, component, "noising", rows)
            np.testing.assert_allclose(spans.values[:, :, i, at], slow[:, :, 0], **CLOSE)


def ablated_by_hooks(architecture, network, batch, layer, head, kind):
    """The metric of the clean run with one head ablated, each prompt alone and without padding."""
    parts = [batch.subset([i]) for i in range(batch.n)]
    z = [slow_path.read(architecture, network, part.clean.inputs, layer, head, "z")[0] for part in parts]
    longest = max(map(len, z))
    by_position = torch.stack([torch.stack([one[t] for one in z if len(one) > t]).mean(0) for t in range(longest)])
    out = []
    for part in parts:
        value = {
            "zero": lambda old: torch.zeros_like(old),
            "mean token": lambda old: torch.cat(z).mean(0).expand_as(old),
            "mean position": lambda old: by_position[None, : old.shape[1]],
            "uniform": lambda old: (old > 0).float() / (old > 0).sum(-1, keepdim=True),
            "first": lambda old: torch.nn.functional.one_hot((old > 0).int().argmax(-1), old.shape[-1]).to(old),
        }[kind]
        component = "pattern" if kind in ("uniform", "first") else "z"
        out.append(
            metric(slow_path.patched_logits(architecture, network, part.clean.inputs, layer, head, component, value), part)[
                0
            ]
        )
    return np.array(out)


@pytest.mark.parametrize("kind", ["zero", "mean token", "mean position", "uniform", "first"])
@pytest.mark.parametrize("architecture", DECODERS)
def test_ablation(architecture, kind):
    batch = random_batch(n=3, lengths=(6, 8))
    network = slow_path.untouched(architecture)
    sizes = slow_path.shape(architecture, network)
    with torch.no_grad():
        clean = np.concatenate(
            [metric(network(**p.clean.inputs).logits, p) for p in (batch.subset([i]) for i in range(batch.n))]
        )
    slow = np.array(
        [
            [clean - ablated_by_hooks(architecture, network, batch, layer, head, kind) for head in range(sizes.heads)]
            for layer in range(sizes.layers)
        ]
    )
    options = {"kind": kind.split()[0]} | ({"mean_over": kind.split()[1]} if " " in kind else {})
    scores = interp.measures.ablation(load(tiny(architecture), verify=False), batch, **options)
    np.testing.assert_allclose(scores.values, slow, **CLOSE)
    np.testing.assert_allclose(scores.baselines["clean"], clean, **CLOSE)
    assert np.abs(slow).max() > 1e-2


def test_resampling_from_the_corrupted_prompt_is_noising():
    model, batch = load(tiny("llama"), verify=False), random_batch()
    resampled = interp.measures.ablation(model, batch, kind="resample")
    noised = interp.measures.activation_patching(model, batch, component="z", direction="noising")
    np.testing.assert_array_equal(resampled.values, noised.values)


def test_resampling_from_other_prompts_takes_each_from_a_partner():
    """With two prompts the partner is known: each takes the head's output of the other."""
    model, network, batch = load(tiny("gpt2"), verify=False), slow_path.untouched("gpt2"), random_batch(n=2)
    swapped = {name: tensor.flip(0) for name, tensor in batch.clean.inputs.items()}
    scores = interp.measures.ablation(model, batch, kind="resample", resample_from="other prompts", seed=3)
    for layer in range(3):
        for head in range(4):
            other = slow_path.read("gpt2", network, swapped, layer, head, "z")
            logits = slow_path.patched_logits(
                "gpt2", network, batch.clean.inputs, layer, head, "z", lambda old, other=other: other
            )
            np.testing.assert_allclose(
                scores.values[layer, head], scores.baselines["clean"] - metric(logits, batch), **CLOSE
            )


def test_mean_over_another_batch():
    """The reference's own mean: with the batch itself as reference nothing changes, with another it does."""
    model, batch, other = load(tiny("llama"), verify=False), random_batch(), random_batch(seed=1)
    own = interp.measures.ablation(model, batch)
    np.testing.assert_allclose(interp.measures.ablation(model, batch, reference=batch).values, own.values, atol=1e-6)
    corrupt = interp.measures.ablation(model, batch, reference="corrupt")
    another = interp.measures.ablation(model, batch, reference=other)
    assert np.abs(another.values - own.values).max() > 1e-3
    assert np.abs(corrupt.values - own.values).max() > 1e-3
    assert another.provenance.options["reference"] == other.provenance_dict()
