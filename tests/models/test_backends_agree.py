"""Both backends give the same numbers on the same weights: reads, edits, gradients, weights, on every architecture."""

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.models.backend import Run
from interp.models.bridge_backend import BridgeBackend
from interp.models.bridge_of import bridge_of
from interp.models.sites import RESIDUAL, SQUARE, WHATS, Site
from interp.models.tiny import ARCHITECTURES, DECODERS, inputs, tiny
from interp.models.transformers_backend import TransformersBackend

GAPS = {name: {"resid_mid"} for name in ("gpt_neox", "gptj", "falcon", "falcon_new")}    # attention and MLP in parallel
GAPS["deepseek_v3"] = {"k_pre"}              # the heads share the rotary part of the key
"""What no site of the main stack gives, with either backend."""
TOLERANCE = 1e-5


@cache
def backends(name: str) -> tuple[TransformersBackend, BridgeBackend]:
    network = tiny(name)
    return TransformersBackend(network), BridgeBackend(bridge_of(network))


def out(run: Run) -> Tensor:
    return run.output if run.logits is None else run.logits


def close(a: Tensor, b: Tensor, where: Tensor | None = None) -> float:
    """Largest difference, relative to the size of ``b`` where that is above 1; scores below -1e4 count as masked."""
    assert a.shape == b.shape
    if where is not None:
        a, b = a[where], b[where]
    a, b = a.clamp_min(-1e4), b.clamp_min(-1e4)
    return float((a - b).abs().max() / b[b > -1e4].abs().max().clamp_min(1.0))


def change(site: Site) -> Callable[[Tensor], Tensor]:
    """An edit of one head (or some coordinates) at some positions that moves the logits."""
    def edit(x: Tensor) -> Tensor:
        new = x.clone()
        if site.what in RESIDUAL:
            new[:, 1:, ::2] *= -0.5
        elif site.what == "scores":
            new[:, 1, 2:, 1] += 1.5
        elif site.what == "pattern":
            new[:, 1, 2:] = new[:, 1, 2:].roll(1, -1)
        else:
            new[:, 1:, 0] = x[:, 1:, 0].flip(0) * 1.5
        return new
    return edit


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_stacks_and_sites(name: str):
    ours, theirs = backends(name)
    assert theirs.stacks == ours.stacks
    assert theirs.architecture == ours.architecture
    assert theirs.sites() == ours.sites()
    main = ours.stacks[0].attention
    assert set(WHATS) - {site.what for site in theirs.sites() if site.attention == main} == GAPS.get(name, set())


@pytest.mark.parametrize("name", GAPS)
def test_a_missing_site_is_refused_by_name(name: str):
    _, theirs = backends(name)
    site = Site(*GAPS[name], layer=1)
    with pytest.raises(InterpError, match=str(site)):
        theirs.run(inputs(name), capture=[site])


def test_what_a_bridge_lacks_is_refused_by_name():
    _, theirs = backends("gpt2")
    for site in (Site("z", 9), Site("z", 0, "cross")):
        with pytest.raises(InterpError, match=str(site)):
            theirs.run(inputs("gpt2"), capture=[site])
    with pytest.raises(InterpError, match="cross"):
        theirs.W_O(0, "cross")
    with pytest.raises(InterpError, match="layer 7"):
        theirs.W_O(7)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_reads(name: str):
    ours, theirs = backends(name)
    sites = ours.sites() & theirs.sites()
    with torch.no_grad():
        a, b = (backend.run(inputs(name, n=3), capture=sites) for backend in (ours, theirs))
    assert close(out(b), out(a)) < TOLERANCE
    differences = {str(site): close(b.captured[site], a.captured[site]) for site in sites}
    assert {site: d for site, d in differences.items() if not d < TOLERANCE} == {}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_edits(name: str):
    ours, theirs = backends(name)
    given = inputs(name, n=3)
    with torch.no_grad():
        clean = out(theirs.run(given))
        differences, unmoved = {}, []
        for site in sorted(ours.sites() & theirs.sites()):
            if site.layer == 1:
                a, b = (out(backend.run(given, {site: change(site)})) for backend in (ours, theirs))
                differences[str(site)] = close(b, a)
                if not float((b - clean).abs().max()) > 1e-3:
                    unmoved.append(str(site))
    assert {site: d for site, d in differences.items() if not d < TOLERANCE} == {}
    assert unmoved == []


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_gradients(name: str):
    ours, theirs = backends(name)
    sites = sorted(site for site in ours.sites() & theirs.sites() if site.layer == 0)

    # the transformers backend freezes its weights: a leaf edit starts its graph at the first residual stream
    start = {Site("resid_pre", 0, stack.attention) for stack in ours.stacks} & ours.sites()
    with torch.enable_grad():
        edits = {site: lambda x: x.detach().requires_grad_() for site in start}
        values = []
        for backend in (ours, theirs):
            run = backend.run(inputs(name), edits, capture=sites)
            weights = torch.linspace(-1, 1, out(run).numel()).reshape(out(run).shape)
            values.append(torch.autograd.grad((out(run) * weights).sum(), [run.captured[site] for site in sites]))
    differences = {str(site): close(b, a) for site, a, b in zip(sites, *values, strict=True)}
    assert {site: d for site, d in differences.items() if not d < 1e-4} == {}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", [*DECODERS, "bert"])
def test_padding_is_exact(name: str, side: str):
    ours, theirs = backends(name)
    given = inputs(name, n=2, length=9)
    ids = given["input_ids"].clone()
    mask = torch.ones_like(ids)
    real = slice(3, 9) if side == "left" else slice(0, 6)
    pad = slice(0, 3) if side == "left" else slice(6, 9)
    ids[1, real], mask[1, pad], ids[1, pad] = given["input_ids"][1, :6], 0, 0
    padded = {"input_ids": ids, "attention_mask": mask}
    alone = {"input_ids": given["input_ids"][1:, :6], "attention_mask": torch.ones(1, 6, dtype=torch.long)}
    sites = ours.sites() & theirs.sites()
    with torch.no_grad():
        a, b, c = ours.run(padded, capture=sites), theirs.run(padded, capture=sites), theirs.run(alone, capture=sites)
    assert close(out(b)[1, real], out(c)[0]) < TOLERANCE
    assert close(out(b)[1, real], out(a)[1, real]) < TOLERANCE
    for site in sites:
        x, y = b.captured[site][1], c.captured[site][0]
        x = x[:, real, real] if site.what in SQUARE else x[real]
        assert close(x, y) < TOLERANCE, site


@pytest.mark.parametrize("name", DECODERS)
def test_weights_and_direct_logits(name: str):
    ours, theirs = backends(name)
    given = inputs(name)
    last = Site("resid_post", ours.stacks[0].n_layers - 1)
    columns = torch.tensor([[3, 50, 7, 96, 20], [0, 9, 51, 33, 2]])
    zero = torch.zeros(ours.stacks[0].d_model)
    with torch.no_grad():
        for layer in range(ours.stacks[0].n_layers):
            assert torch.equal(theirs.W_O(layer), ours.W_O(layer))
            a, b = ours.b_O(layer), theirs.b_O(layer)
            assert close(zero if b is None else b, zero if a is None else a) == 0
            if name != "deepseek_v3":
                for weight in ("W_Q", "W_K", "W_V"):
                    assert torch.equal(getattr(theirs, weight)(layer), getattr(ours, weight)(layer))
                for bias in ("b_Q", "b_K", "b_V"):
                    a, b = getattr(ours, bias)(layer), getattr(theirs, bias)(layer)
                    assert (a is None) == (b is None)
                    assert a is None or torch.equal(a, b)
        whats = ("result", "attn_out", "attn_write", "mlp_out", "mlp_write")
        run = theirs.run(given, capture=[last, *(Site(what, 1) for what in whats)])
        parts, out_, write, mlp, mlp_write = (run.captured[Site(what, 1)] for what in whats)
        parts = parts.movedim(2, 0)
        through = [backend.write_parts("attn_out", 1, parts, out_) for backend in (ours, theirs)]
        assert close(through[1], through[0]) < TOLERANCE
        assert close(theirs.write_parts("attn_out", 1, out_, out_), write) < TOLERANCE
        assert close(theirs.write_parts("mlp_out", 1, mlp, mlp), mlp_write) < TOLERANCE
        resid = run.captured[last][:, -1]
        halves = torch.stack([resid * 0.3, resid * 0.7])
        mine = theirs.logit_parts(halves, resid, columns)
        assert close(mine, ours.logit_parts(halves, resid, columns)) < TOLERANCE
        assert close(theirs.logit_bias(columns), ours.logit_bias(columns)) < TOLERANCE
        total = mine.sum(0) + theirs.logit_bias(columns)
        cap = 10.0 if name == "gemma2" else None
        total = total if cap is None else cap * torch.tanh(total / cap)
        assert close(total, run.logits[:, -1].gather(1, columns)) < TOLERANCE


@pytest.mark.parametrize("name", DECODERS)
def test_the_cache_step_by_step_equals_the_whole_sequence(name: str):
    ours, theirs = backends(name)
    given = inputs(name, length=8)
    ids, mask = given["input_ids"], given["attention_mask"]
    latent = name == "deepseek_v3"    # its cache holds latents, from which keys and values are made anew
    edited = [Site("z", 1)] if latent else [Site("z", 1), Site("k", 0), Site("v", 2)]
    edits = {site: lambda x: torch.cat([x[:, :, :1] * 0.2, x[:, :, 1:]], 2) for site in edited}
    with torch.no_grad():
        whole = theirs.run(given, edits).logits
        for backend in (ours, theirs):
            steps, kept = [], None
            for start, stop in ((0, 5), (5, 6), (6, 8)):
                run = backend.run({"input_ids": ids[:, start:stop], "attention_mask": mask[:, :stop]}, edits,
                                  cache=kept, use_cache=True)
                steps.append(run.logits)
                kept = run.cache
            assert close(torch.cat(steps, 1), whole) < TOLERANCE, backend.name
