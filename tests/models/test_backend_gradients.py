"""Gradients at every site equal finite differences, with frozen weights."""

import pytest
import torch
from oracle_attention import NAMES

from interp.models.sites import Site
from interp.models.tiny import ARCHITECTURES, inputs, tiny
from interp.models.transformers_backend import TransformersBackend

ATTENTIONS = [(name, kind) for name in ARCHITECTURES for kind in NAMES[name]]


def metric(run):
    logits = run.output if run.logits is None else run.logits
    generator = torch.Generator().manual_seed(5)
    return (logits * torch.randn(logits.shape, generator=generator, dtype=logits.dtype)).sum()


def gradients(backend, given, sites):
    """The caller makes the entering residual stream require a gradient; everything captured is then on the graph."""
    start = Site("resid_pre", 0, "encoder" if "decoder_input_ids" in given else backend.stacks[0].attention)
    also = Site("resid_pre", 0, backend.stacks[0].attention)
    edits = {site: lambda x: x.detach().requires_grad_() for site in {start, also}}
    run = backend.run(given, edits, sites)
    return run, torch.autograd.grad(metric(run), [run.captured[site] for site in sites])


@pytest.mark.parametrize(("name", "kind"), ATTENTIONS)
def test_gradients_at_every_site_equal_finite_differences(name, kind):
    network = tiny(name)
    if hasattr(network.config, "_experts_implementation"):
        network.set_experts_implementation("eager")            # the grouped one knows no float64
    backend = TransformersBackend(network, dtype=torch.float64)
    given = {key: x.double() if x.is_floating_point() else x for key, x in inputs(name, 1, 6).items()}
    sites = sorted(site for site in backend.sites() if site.attention == kind and site.layer == 1)
    run, slopes = gradients(backend, given, sites)
    for site, slope in zip(sites, slopes, strict=True):
        value = run.captured[site].detach()
        generator = torch.Generator().manual_seed(3)
        direction = torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value.dtype)
        direction = torch.where(value < -1e4, torch.zeros_like(direction), direction)
        step = 1e-3 * float(value[value > -1e4].abs().mean())
        with torch.no_grad():
            up, down = (metric(backend.run(given, {site: lambda x, s=s, d=direction: x + s * d})) for s in (step, -step))
        expected = (up - down) / (2 * step)
        got = (slope * direction).sum()
        torch.testing.assert_close(got, expected.to(got), atol=2e-3, rtol=2e-2, msg=lambda m, site=site: f"{site}: {m}")


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "falcon", "gpt_oss"])
def test_all_sites_captured_at_once_carry_the_gradient_of_each_alone(name):
    """A site that is captured must not take gradient away from those before it."""
    backend = TransformersBackend(tiny(name))
    given, sites = inputs(name, 1, 6), sorted(backend.sites())
    _, together = gradients(backend, given, sites)
    for site, slope in list(zip(sites, together, strict=True))[::5]:
        _, (alone,) = gradients(backend, given, [site])
        torch.testing.assert_close(slope, alone, atol=1e-4, rtol=1e-3, msg=lambda m, site=site: f"{site}: {m}")


def test_weights_are_frozen_in_the_backend_and_not_in_the_network_given():
    network = tiny("gpt2")
    backend = TransformersBackend(network)
    assert not any(p.requires_grad for p in backend.network.parameters())
    assert all(p.requires_grad for p in network.parameters())
