"""Padding on either side changes nothing for real tokens, and a pass with a cache equals the pass without."""

import copy

import pytest
import torch

from interp.core.errors import InterpError
from interp.models.load import load
from interp.models.sites import Site
from interp.models.tiny import DECODERS, ENCODER_DECODERS, inputs, tiny
from interp.models.transformers_backend import TransformersBackend

TOKENS = (*DECODERS, "bert", *ENCODER_DECODERS)
SIDES = [(name, side) for name in TOKENS for side in ("left", "right") if (name, side) != ("bart", "left")]


def padded(given, side, count):
    before, after = (count, 0) if side == "left" else (0, count)
    pad = {key: torch.nn.functional.pad(given[key], (before, after)) for key in ("input_ids", "attention_mask")}
    return given | pad, slice(before, before + given["input_ids"].shape[1])


@pytest.mark.parametrize(("name", "side"), SIDES)
def test_padding_changes_nothing_for_real_tokens(name, side):
    backend = TransformersBackend(tiny(name))
    given = inputs(name, 2, 8)
    wider, real = padded(given, side, 3)
    sites = [s for s in backend.sites() if s.attention != "cross"]
    with torch.no_grad():
        plain, run = backend.run(given, capture=sites), backend.run(wider, capture=sites)
    at = slice(None) if name in ENCODER_DECODERS else real
    torch.testing.assert_close(run.logits[:, at], plain.logits, atol=2e-5, rtol=1e-4)
    for site in sites:
        own = real if name not in ENCODER_DECODERS or site.attention == "encoder" else slice(None)
        got = run.captured[site]
        got = got[:, :, own, own] if site.head_axis == 1 else got[:, own]
        visible = plain.captured[site] > -1e4
        torch.testing.assert_close(got * visible, plain.captured[site] * visible, atol=5e-5, rtol=1e-4,
                                   msg=lambda m, site=site: f"{site}: {m}")


@pytest.mark.parametrize("name", DECODERS)
def test_rows_of_unequal_length_are_each_as_if_alone(name):
    backend = TransformersBackend(tiny(name))
    given = inputs(name, 2, 8)
    for side in ("left", "right"):
        cut = {key: x.clone() for key, x in given.items()}
        short = slice(0, 5) if side == "right" else slice(3, 8)
        cut["attention_mask"][1] = 0
        cut["attention_mask"][1, short] = 1
        with torch.no_grad():
            alone = backend.run({key: x[1:, short] for key, x in cut.items()}).logits
            together = backend.run(cut).logits
            whole = backend.run(given).logits
        torch.testing.assert_close(together[1:, short], alone, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(together[:1], whole[:1], atol=2e-5, rtol=1e-4)


def test_left_padding_is_refused_where_positions_cannot_follow():
    model = load(tiny("bart"))
    wider, _ = padded(inputs("bart", 2, 8), "left", 2)
    assert model.verification.inexact_padding == ("left",)
    with pytest.raises(InterpError, match="padded on the left"):
        model.run(wider)
    model.run(padded(inputs("bart", 2, 8), "right", 2)[0])


def step_by_step(backend, given, edits, first=5, capture=()):
    """The prompt's first tokens in one pass, the rest one by one, with the cache of the passes before."""
    ids, mask = given["input_ids"], given["attention_mask"]
    run = backend.run({"input_ids": ids[:, :first], "attention_mask": mask[:, :first]}, edits, capture, use_cache=True)
    parts, captured = [run.logits], [run.captured]
    for t in range(first, ids.shape[1]):
        run = backend.run({"input_ids": ids[:, t:t + 1], "attention_mask": mask[:, :t + 1]}, edits, capture, cache=run.cache)
        parts.append(run.logits)
        captured.append(run.captured)
    return torch.cat(parts, 1), captured


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("name", DECODERS)
def test_a_cache_changes_nothing(name, padding):
    backend = TransformersBackend(tiny(name))
    given, real = padded(inputs(name, 2, 9), "left", padding)
    sites = [Site(what, 1) for what in ("q", "k", "v", "z", "resid_post")]
    with torch.no_grad():
        whole = backend.run(given, capture=sites)
        steps, captured = step_by_step(backend, given, {}, 5 + padding, sites)
    torch.testing.assert_close(steps[:, real], whole.logits[:, real], atol=5e-5, rtol=1e-4)
    for site in sites:
        joined = torch.cat([seen[site] for seen in captured], 1)
        torch.testing.assert_close(joined[:, real], whole.captured[site][:, real], atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("what", ["q_pre", "k_pre", "q", "k", "v", "scores", "pattern", "z", "result", "resid_mid",
                                  "mlp_out"])
@pytest.mark.parametrize("name", DECODERS)
def test_edits_made_at_every_step_equal_edits_of_the_whole_pass(name, what):
    backend = TransformersBackend(tiny(name))
    given, sites = inputs(name, 2, 9), [Site(what, 0), Site(what, 2)]
    if sites[0] not in backend.sites():
        pytest.skip(f"{name} has no {what}")

    def edit(x):
        if what in ("scores", "pattern"):                # the second token is hidden from the first head
            new = x.clone()
            new[:, 0, :, 1] = torch.finfo(x.dtype).min if what == "scores" else 0.0
            return new
        return x * torch.linspace(0.2, 1.8, x.shape[-1])

    edits = dict.fromkeys(sites, edit)
    with torch.no_grad():
        whole, plain = backend.run(given, edits).logits, backend.run(given).logits
        if name == "deepseek_v3" and what in ("k", "v"):
            with pytest.raises(InterpError, match="with a cache: the cache holds latents"):
                step_by_step(backend, given, edits)
            return
        steps, _ = step_by_step(backend, given, edits)
    torch.testing.assert_close(steps, whole, atol=5e-5, rtol=1e-4)
    assert (whole - plain).abs().max() > 1e-3


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_the_cache_of_an_encoder_decoder_keeps_the_edited_keys(name):
    backend = TransformersBackend(tiny(name))
    given = inputs(name, 2, 9)
    sites = [Site(what, 1, kind) for what in ("k", "v") for kind in ("self", "cross")]
    edits = {site: lambda x: x * 0.5 for site in sites}
    ids = given["decoder_input_ids"]
    with torch.no_grad():
        whole = backend.run(given, edits, sites)
        run = backend.run(given | {"decoder_input_ids": ids[:, :4]}, edits, sites, use_cache=True)
        parts = [run.logits]
        for t in range(4, ids.shape[1]):
            run = backend.run(given | {"decoder_input_ids": ids[:, t:t + 1]}, edits, sites, cache=run.cache)
            parts.append(run.logits)
            for site in sites:
                expected = whole.captured[site] if site.attention == "cross" else whole.captured[site][:, t:t + 1]
                torch.testing.assert_close(run.captured[site], expected, atol=5e-5, rtol=1e-4)
    torch.testing.assert_close(torch.cat(parts, 1), whole.logits, atol=5e-5, rtol=1e-4)


def test_a_copied_cache_branches():
    backend = TransformersBackend(tiny("llama"))
    given = inputs("llama", 1, 8)
    with torch.no_grad():
        first = backend.run({key: x[:, :7] for key, x in given.items()}, use_cache=True)
        branch = copy.deepcopy(first.cache)
        last = {"input_ids": given["input_ids"][:, 7:], "attention_mask": given["attention_mask"]}
        one, two = backend.run(last, cache=first.cache).logits, backend.run(last, cache=branch).logits
    torch.testing.assert_close(one, two, atol=0, rtol=0)
