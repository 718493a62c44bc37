"""On every architecture: reading, patching and ablating through the backend equals a plain loop on the untouched model."""

import pytest
import torch
from oracle_attention import AFTER_ATTENTION, NAMES, set_eager, slow_run

from interp.models.sites import Site
from interp.models.tiny import ARCHITECTURES, inputs, tiny
from interp.models.transformers_backend import TransformersBackend

ATTENTIONS = [(name, kind) for name in ARCHITECTURES for kind in NAMES[name]]
INSIDE = ("q", "k", "v", "scores", "pattern", "z")
OUTSIDE = ("attn_out", "mlp_out", "resid_pre", "resid_mid", "resid_post")


def logits_of(run):
    return run.output if run.logits is None else run.logits


@pytest.fixture(scope="module")
def made():
    """Each architecture's model, its backend, two inputs, and what the slow path sees on both."""
    store = {}

    def get(name):
        if name not in store:
            model = tiny(name)
            clean, other = inputs(name, 2, 9, seed=1), inputs(name, 2, 9, seed=2)
            backend = TransformersBackend(model)
            with torch.no_grad():
                store[name] = model, backend, clean, other, slow_run(model, name, clean), slow_run(model, name, other)
        return store[name]

    return get


def visible(scores):
    """Masked scores are a huge negative number in one path and in the other; only visible ones are compared."""
    return torch.where(scores < -1e4, torch.zeros_like(scores), scores)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_slow_path_is_the_model(made, name):
    model, backend, clean, _, (logits, _), _ = made(name)
    for implementation in ("eager", "sdpa"):
        absent = ("gpt_oss", "gptj", "bloom", "gemma2") if implementation == "sdpa" else ("falcon_alibi",)
        if name in absent:                      # sdpa is not there; eager attention adds Falcon's alibi twice
            continue
        set_eager(model, implementation)
        with torch.no_grad():
            torch.testing.assert_close(model(**clean).logits, logits, atol=2e-5, rtol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(logits_of(backend.run(clean)), logits, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(("name", "kind"), ATTENTIONS)
def test_captures_equal_what_the_slow_path_sees(made, name, kind):
    _, backend, clean, _, (_, seen), _ = made(name)
    sites = [site for site in backend.sites() if site.attention == kind and site.what in INSIDE + OUTSIDE]
    with torch.no_grad():
        run = backend.run(clean, capture=sites)
    compared = set()
    for site in sites:
        key = (site.what, site.layer, kind)
        if site.what == "resid_mid" and key not in seen:
            continue
        got, expected = run.captured[site], seen[key]
        if site.what == "scores":
            got, expected = visible(got), visible(expected)
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4, msg=lambda m, site=site: f"{site}: {m}")
        compared.add(site.what)
    missing = {"mlp_out", "resid_pre", "resid_mid", "resid_post"} if kind == "cross" else set()
    missing |= set() if name in AFTER_ATTENTION else {"resid_mid"}
    assert compared == set(INSIDE + OUTSIDE) - missing


def head_changes(what, there, kind):
    """Put one head of another run into this one, and set one head to zero (uniform over visible keys for scores)."""
    axis = 1 if what in ("scores", "pattern") else 2

    def patch(x):
        new = x.clone()
        new.select(axis, 1 % x.shape[axis]).copy_(there.select(axis, 1 % x.shape[axis]))
        return new

    def ablate(x):
        new = x.clone()
        chosen = new.select(axis, x.shape[axis] - 1)
        kept = chosen < -1e4 if what == "scores" else torch.zeros_like(chosen, dtype=torch.bool)
        chosen.copy_(torch.where(kept, chosen, torch.zeros_like(chosen)))
        return new

    return {"patch": patch, "ablate": ablate}


@pytest.mark.parametrize("what", INSIDE)
@pytest.mark.parametrize(("name", "kind"), ATTENTIONS)
def test_patching_and_ablating_a_head_equals_the_slow_path(made, name, kind, what):
    model, backend, clean, _, (base, _), (_, other) = made(name)
    for layer in (0, backend.stacks[0].n_layers - 1):
        for how, change in head_changes(what, other[what, layer, kind], kind).items():
            with torch.no_grad():
                slow, _ = slow_run(model, name, clean, {(what, layer, kind): change})
                fast = logits_of(backend.run(clean, {Site(what, layer, kind): change}))
            torch.testing.assert_close(fast, slow, atol=1e-4, rtol=0, msg=lambda m, s=(how, layer): f"{s}: {m}")
            assert (slow - base).abs().max() > 1e-4, (how, layer)


@pytest.mark.parametrize(("name", "kind"), ATTENTIONS)
def test_several_edits_at_once_equal_the_slow_path(made, name, kind):
    model, backend, clean, _, _, (_, other) = made(name)
    changes = {(what, layer, kind): head_changes(what, other[what, layer, kind], kind)["patch"]
               for what in ("q", "k", "v", "pattern", "z") for layer in (0, 1)}
    with torch.no_grad():
        slow, _ = slow_run(model, name, clean, changes)
        fast = logits_of(backend.run(clean, {Site(*key): change for key, change in changes.items()}))
    torch.testing.assert_close(fast, slow, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("name", "kind"), ATTENTIONS)
def test_residual_sites_equal_the_slow_path(made, name, kind):
    model, backend, clean, _, (base, _), (_, other) = made(name)
    for what in OUTSIDE:
        for layer in range(backend.stacks[0].n_layers):
            site, key = Site(what, layer, kind), (what, layer, kind)
            if site not in backend.sites() or key not in other:
                continue

            def change(x, there=other[key]):
                new = x.clone()
                new[:, ::2] = there[:, ::2]
                return new

            with torch.no_grad():
                slow, _ = slow_run(model, name, clean, {key: change})
                fast = logits_of(backend.run(clean, {site: change}))
            torch.testing.assert_close(fast, slow, atol=1e-4, rtol=0, msg=lambda m, site=site: f"{site}: {m}")
            assert (slow - base).abs().max() > 1e-4, site


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_captures_equal_the_attentions_and_hidden_states_of_transformers(name):
    if name == "falcon_alibi":
        pytest.skip("transformers' eager attention, which alone returns patterns, adds alibi twice")
    model = tiny(name)
    set_eager(model)
    given = inputs(name, 2, 9)
    backend = TransformersBackend(model)
    with torch.no_grad():
        out = model(**given, output_attentions=True, output_hidden_states=True)
        run = backend.run(given, capture=[s for s in backend.sites() if s.what in ("pattern", "resid_pre")])
    fields = {"self": ("attentions", "hidden_states")}
    if "decoder_input_ids" in given:
        fields = {"encoder": ("encoder_attentions", "encoder_hidden_states"), "cross": ("cross_attentions", None),
                  "self": ("decoder_attentions", "decoder_hidden_states")}
    elif name in ("bert", "vit"):
        fields = {backend.stacks[0].attention: ("attentions", "hidden_states")}
    for kind, (attentions, hidden) in fields.items():
        for layer, expected in enumerate(out[attentions]):
            torch.testing.assert_close(run.captured[Site("pattern", layer, kind)], expected)
            if hidden:
                torch.testing.assert_close(run.captured[Site("resid_pre", layer, kind)], out[hidden][layer])
