"""Gradients against finite differences, at every site, per prompt; and that nothing of the caller's state changes."""

import numpy as np
import pytest
import torch
from cases import batch_of, model_of

from interp.core.errors import InterpError
from interp.engine.forward import metric_values
from interp.engine.gradients import gradients
from interp.engine.intervention import Add, Intervention, Resample, Scale
from interp.models.sites import SQUARE, Site
from interp.tasks.metrics import METRICS


def double(architecture):
    """A loaded tiny model in float64, for sharp finite differences (where networks still take softmax in float32)."""
    import interp
    from interp.models.tiny import tiny

    return interp.load(tiny(architecture), dtype=torch.float64, verify=False)


ARCHITECTURES = ("gpt2", "llama", "gpt_neox", "gemma2", "bloom", "mistral")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_against_finite_differences(architecture):
    """Directional derivative in a random direction of each prompt's activation, at every site of the middle layer."""
    model = double(architecture)
    batch = batch_of("right")
    sites = sorted(site for site in model.backend.sites() if site.layer == 1)
    assert {"z", "q", "k", "v", "pattern", "resid_pre"} <= {site.what for site in sites}
    others = [Intervention("z", 0, 1, None, Scale(1.5)), Intervention("z", 2, 0, "S", Resample("corrupt"))]
    found = gradients(model, batch, sites, interventions=others)
    np.testing.assert_allclose(found.metric, metric_values(model, batch, others), atol=1e-6)
    generator = torch.Generator().manual_seed(0)
    for site in sites:
        activation, slope = found.activations[site], found.gradients[site]
        direction = torch.randn(activation.shape, generator=generator, dtype=torch.float64)
        step = 1e-3
        if site.what in SQUARE:
            direction = direction * (found.activations[Site("pattern", 1)] > 0)
        nudges = [Intervention(site.what, 1, None, None, Add(sign * step * direction)) for sign in (1, -1)]
        up, down = (metric_values(model, batch, [*others, nudge]) for nudge in nudges)
        mask = batch.clean.mask.bool().view(4, *([1, -1, 1] if site.what in SQUARE else [-1] + [1] * (slope.dim() - 2)))
        want = (slope * direction * mask).flatten(1).sum(1).numpy()
        np.testing.assert_allclose((up - down) / (2 * step), want, atol=1e-3, rtol=1e-3, err_msg=str(site))
        assert np.abs(want).max() > 1e-2, site


def test_an_intervention_at_the_same_site():
    """Activation and gradient are those behind the intervention: what the network goes on with."""
    model, batch, site = model_of("gpt2"), batch_of(), Site("z", 1)
    scale = Intervention("z", 1, 1, None, Scale(-3.0))
    plain, found = gradients(model, batch, [site]), gradients(model, batch, [site], interventions=scale)
    real = batch.clean.mask.bool()
    torch.testing.assert_close(found.activations[site][real][:, 1], -3 * plain.activations[site][real][:, 1])
    np.testing.assert_allclose(found.metric, metric_values(model, batch, scale), atol=1e-5)
    put = Intervention("z", 1, None, None, Resample(found.activations[site]))
    scaled = gradients(model, batch, [site], interventions=put)
    torch.testing.assert_close(found.gradients[site], scaled.gradients[site], atol=1e-5, rtol=1e-4)
    assert (found.gradients[site] - plain.gradients[site])[real].abs().max() > 1e-3


@pytest.mark.parametrize("batch_size", [1, 3])
def test_any_batch_size(batch_size):
    model, batch = model_of("llama"), batch_of()
    sites = [Site("z", 0), Site("k", 1)]
    one, other = gradients(model, batch, sites), gradients(model, batch, sites, batch_size=batch_size)
    for site in sites:
        torch.testing.assert_close(one.gradients[site], other.gradients[site], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(one.activations[site], other.activations[site], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("architecture", ["gpt2", "gemma2", "deepseek_v3"])
def test_either_padding(architecture):
    """Gradients at real tokens do not depend on the side of the padding, and are 0 on it."""
    model, right, left = model_of(architecture), batch_of("right"), batch_of("left")
    sites = [Site(what, 1) for what in ("z", "q", "v", "resid_pre")]
    one, other = gradients(model, right, sites), gradients(model, left, sites)
    for site in sites:
        real = left.clean.mask.bool()
        torch.testing.assert_close(other.gradients[site][real], one.gradients[site][right.clean.mask.bool()], atol=1e-5,
                                   rtol=1e-4)
        assert other.gradients[site][~real].abs().max() == 0


def test_leaves_everything_as_it_was():
    model, batch = model_of("gpt2"), batch_of()
    with torch.no_grad():
        found = gradients(model, batch, [Site("z", 1)], "corrupt")
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()
    assert all(p.grad is None for p in model.backend.network.parameters())
    assert not found.gradients[Site("z", 1)].requires_grad
    assert not found.activations[Site("z", 1)].requires_grad


def test_positions_behind_the_answer_have_no_gradient():
    model, batch = model_of("gpt2"), batch_of("right")
    slope = gradients(model, batch, [Site("resid_pre", 0)]).gradients[Site("resid_pre", 0)]
    assert slope[~batch.clean.mask.bool()].abs().max() == 0
    assert slope[batch.clean.mask.bool()].abs().amax(dim=1).min() > 0


@pytest.mark.parametrize("name", ["logit_diff", "logit_diff_max", "answer_logprob", "prob_diff"])
def test_other_metrics(name):
    model, batch = double("gpt2"), batch_of()
    site, metric = Site("resid_post", 2), METRICS[name]
    found = gradients(model, batch, [site], metric=metric)
    direction = torch.randn(found.activations[site].shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    up, down = (metric_values(model, batch, Intervention("resid_post", 2, None, None, Add(sign * 1e-3 * direction)),
                              metric=metric) for sign in (1, -1))
    want = (found.gradients[site] * direction * batch.clean.mask[:, :, None]).flatten(1).sum(1)
    np.testing.assert_allclose((up - down) / 2e-3, want.numpy(), atol=1e-5, rtol=1e-3)


def test_refuses():
    model, batch = model_of("gpt2"), batch_of()
    with pytest.raises(InterpError, match=r"metric 'accuracy'.*does not change smoothly"):
        gradients(model, batch, [Site("z", 0)], metric=METRICS["accuracy"])
    with pytest.raises(InterpError, match="the model has no z of layer 7"):
        gradients(model, batch, [Site("z", 7)])
    with pytest.raises(InterpError, match="no site was given"):
        gradients(model, batch, [])
