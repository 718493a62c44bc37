"""Attribution patching: exact where the network is linear, a derivative everywhere, the correction by a second path."""

import numpy as np
import pytest
import slow_path
import torch
from random_batches import FEW, model_of, random_batch

import interp
from interp.core.errors import InterpError
from interp.engine.gradients import gradients
from interp.models.load import load
from interp.models.plain import PlainConfig, PlainForCausalLM
from interp.models.sites import Site
from interp.models.tiny import randomise

POSITIONS = [None, "each", ("A", "B", "end")]


def network(layers=2, **fixed_attention):
    """A random network without norms and MLPs; with queries of 0 all patterns are uniform and it is linear in z and v."""
    made = PlainForCausalLM(
        PlainConfig(vocab_size=97, hidden_size=32, num_hidden_layers=layers, num_attention_heads=4, head_dim=8)
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        randomise(made)
    if fixed_attention:
        for layer in made.model.layers:
            torch.nn.init.zeros_(layer.self_attn.q_proj.weight)
    return load(made.double().eval(), verify=False)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("component", ["z", "v"])
@pytest.mark.parametrize("direction", ["noising", "denoising"])
def test_equals_patching_in_a_linear_network(component, direction, positions):
    model, batch = network(linear=True), random_batch(lengths=(7, 9))
    options = {"component": component, "direction": direction, "positions": positions}
    estimate = interp.measures.attribution_patching(model, batch, **options)
    exact = interp.measures.activation_patching(model, batch, **options)
    np.testing.assert_allclose(estimate.values, exact.values, atol=1e-6)
    assert np.nanmax(np.abs(exact.values)) > 1e-2
    assert (estimate.unit, estimate.dims, dict(estimate.coords)) == (exact.unit, exact.dims, dict(exact.coords))


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("component", ["q", "k", "pattern"])
@pytest.mark.parametrize("direction", ["noising", "denoising"])
def test_corrected_queries_and_keys_are_exact_where_only_the_softmax_is_curved(component, direction, positions):
    """In one layer without norm or MLP the logits are linear in the pattern, so nothing is left to estimate."""
    model, batch = network(layers=1), random_batch(lengths=(7, 9), differ=(1, 3, -1))
    options = {"component": component, "direction": direction, "positions": positions}
    estimate = interp.measures.attribution_patching(model, batch, **options)
    exact = interp.measures.activation_patching(model, batch, **options)
    np.testing.assert_allclose(estimate.values, exact.values, atol=1e-6)
    assert np.nanmax(np.abs(exact.values)) > 1e-2
    if component != "pattern":
        rough = interp.measures.attribution_patching(model, batch, qk_fix=False, **options)
        assert np.nanmax(np.abs(rough.values - exact.values)) > 1e-3


@pytest.mark.parametrize("component", ["z", "q", "k", "v", "pattern"])
@pytest.mark.parametrize("architecture", FEW)
def test_is_the_derivative_of_patching(architecture, component):
    """Finite differences, by plain hooks: moving a head's activation a little of the way to the other run."""
    step, batch = 3e-3, random_batch(n=2)
    slow, model = slow_path.untouched(architecture), model_of(architecture)
    scores = interp.measures.attribution_patching(model, batch, component=component, qk_fix=False)
    sizes = slow_path.shape(architecture, slow)

    def metric(logits):
        at = logits[:, -1]
        return (at.gather(1, batch.answers)[:, 0] - at.gather(1, batch.wrong).mean(1)).numpy()

    for layer in range(sizes.layers):
        for head in range(scores.n_heads):
            other = slow_path.read(architecture, slow, batch.corrupt.inputs, layer, head, component)
            ends = [
                metric(
                    slow_path.patched_logits(
                        architecture,
                        slow,
                        batch.clean.inputs,
                        layer,
                        head,
                        component,
                        lambda old, s=s, other=other: old + s * (other - old),
                    )
                )
                for s in (-step, step)
            ]
            np.testing.assert_allclose(scores.values[layer, head], (ends[0] - ends[1]) / (2 * step), rtol=1e-2, atol=2e-3)
    assert np.abs(scores.values).max() > 0.05


@pytest.mark.parametrize("component", ["q", "k"])
@pytest.mark.parametrize("architecture", FEW)
@pytest.mark.parametrize("positions", POSITIONS)
def test_softmax_correction_by_a_second_path(architecture, component, positions):
    """Every pattern re-made by patching one head's q or k at one place with plain hooks, times the gradient there."""
    batch, model = random_batch(n=2), model_of(architecture)
    slow = slow_path.untouched(architecture)
    sizes = slow_path.shape(architecture, slow)
    scores = interp.measures.attribution_patching(model, batch, component=component, positions=positions)
    sites = [Site("pattern", layer) for layer in range(sizes.layers)]
    _, here, slope = gradients(model, batch, sites)
    group = sizes.heads // sizes.kv if component == "k" else 1
    wanted = {None: [(0, 7)], "each": [(t, t + 1) for t in range(7)], ("A", "B", "end"): [(1, 2), (3, 5), (6, 7)]}[positions]
    for layer in range(sizes.layers):
        for head in range(sizes.kv if component == "k" else sizes.heads):
            other = slow_path.read(architecture, slow, batch.corrupt.inputs, layer, head, component)
            for at, (start, stop) in enumerate(wanted):
                rows = torch.zeros(2, 7, dtype=torch.bool)
                rows[:, start:stop] = True
                with RecordedPatterns() as patterns:
                    slow_path.patched_logits(
                        architecture, slow, batch.clean.inputs, layer, head, component, lambda old, other=other: other, rows
                    )
                expected = 0.0
                for query_head in range(head * group, (head + 1) * group):
                    change = patterns[layer][:, query_head, :, :7] - here[sites[layer]][:, query_head]
                    expected = expected - (change * slope[sites[layer]][:, query_head]).sum((1, 2)).double().numpy()
                got = scores.values[layer, head] if positions is None else scores.values[layer, head, :, at]
                np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-5)


class RecordedPatterns:
    """The softmax outputs of a pass, layer by layer, unchanged."""

    def __enter__(self):
        self.seen = []
        self.tap = slow_path.tapped_softmax(lambda layer, pattern: (self.seen.append(pattern.clone()), pattern)[1])
        self.tap.__enter__()
        return self.seen

    def __exit__(self, *error):
        self.tap.__exit__(*error)


def test_needs_aligned_prompts_and_a_gradient():
    model, batch = model_of("gpt2"), random_batch()
    unaligned = interp.tasks.from_tokens([[5, 6, 7], [5, 6, 8]], [[5, 6], [6, 5]], [9, 10], [11, 12])
    assert not unaligned.aligned
    with pytest.raises(InterpError, match="aligned"):
        interp.measures.attribution_patching(model, unaligned)
    with pytest.raises(InterpError, match="gradient"):
        interp.measures.attribution_patching(model, batch, metric="accuracy")
