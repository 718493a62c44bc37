"""What the backend promises besides numbers: the network given stays as it was, runs nest, and what cannot act says so."""

import pytest
import torch

from interp.core.errors import InterpError
from interp.models.sites import WHATS, Site
from interp.models.tiny import ARCHITECTURES, DECODERS, inputs, randomise, tiny
from interp.models.transformers_backend import TransformersBackend


def state(network):
    return (network.config._attn_implementation, network.training, [p.requires_grad for p in network.parameters()],
            [p.data_ptr() for p in network.parameters()],
            [(len(m._forward_hooks), len(m._forward_pre_hooks), "forward" in vars(m)) for m in network.modules()])


@pytest.mark.parametrize("name", ["gpt2", "llama", "falcon", "bloom", "t5"])
def test_the_network_given_stays_as_it_was(name):
    network = tiny(name)
    network.train()
    before, given = state(network), inputs(name)
    backend = TransformersBackend(network)
    own = state(backend.network)
    backend.run(given, dict.fromkeys(backend.sites(), torch.clone), backend.sites())
    with pytest.raises(ZeroDivisionError):
        backend.run(given, {Site("z", 0): lambda x: 1 / 0})
    assert state(network) == before
    assert state(backend.network) == own


def test_weights_are_shared_and_converted_where_asked():
    network = tiny("llama")
    shared = TransformersBackend(network)
    assert next(shared.network.parameters()).data_ptr() == next(network.parameters()).data_ptr()
    given = inputs("llama")
    with torch.no_grad():
        before = shared.run(given).logits
        randomise(network)
        torch.testing.assert_close(shared.run(given).logits, network(**given).logits, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(before, shared.run(given).logits)
    assert TransformersBackend(network, dtype=torch.bfloat16).run(given).logits.dtype == torch.bfloat16
    assert next(network.parameters()).dtype == torch.float32


def test_tied_weights_stay_tied():
    backend = TransformersBackend(tiny("gpt2"))
    assert backend.network.lm_head.weight is backend.network.transformer.wte.weight


@pytest.mark.parametrize("name", ["gpt2", "falcon", "gpt_oss"])
def test_a_run_inside_an_edit_of_another_run(name):
    """On the same backend, and on a second one of the same network; neither sees the other's edits."""
    network = tiny(name)
    one, two = TransformersBackend(network), TransformersBackend(network)
    given, other = inputs(name, seed=1), inputs(name, seed=2)
    site = Site("pattern", 0)
    with torch.no_grad():
        there = one.run(other, capture=[site, Site("z", 1)])
        flat = one.run(given, {site: lambda _: there.captured[site]}).logits
        inner = []

        def edit(_):
            inner.append(one.run(other, {Site("v", 2): torch.zeros_like}, [site]).captured[site])
            return two.run(other, capture=[site]).captured[site]

        nested = one.run(given, {site: edit, Site("z", 1): torch.clone}).logits
    torch.testing.assert_close(nested, flat, atol=0, rtol=0)
    torch.testing.assert_close(inner[0], there.captured[site], atol=0, rtol=0)


def test_an_edit_that_computes_attention_itself_is_not_tapped():
    """The softmax inside an edit (Falcon's inline attention is intercepted while it runs) is the edit's own."""
    backend = TransformersBackend(tiny("falcon"))
    given, calls = inputs("falcon"), []

    def edit(z):
        (z.transpose(1, 2) @ z.transpose(1, 2).transpose(2, 3)).softmax(-1)
        return z

    with torch.no_grad():
        run = backend.run(given, {Site("z", 0): edit, Site("pattern", 0): lambda x: (calls.append(x.shape), x)[1]})
        torch.testing.assert_close(run.logits, backend.run(given).logits, atol=0, rtol=0)
    assert len(calls) == 1


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_identity_edits_change_nothing_to_the_last_bit(name):
    backend = TransformersBackend(tiny(name))
    given = inputs(name)
    with torch.no_grad():
        plain = backend.run(given)
        same = backend.run(given, dict.fromkeys(backend.sites(), torch.clone), backend.sites())
    for a, b in ((plain.logits, same.logits), (plain.output, same.output)):
        assert (a is None and b is None) or torch.equal(a, b)


def test_captured_tensors_are_after_the_edit_and_stay_what_they_were():
    """Falcon adds attention to the MLP's output in place; the capture must not see it."""
    backend = TransformersBackend(tiny("falcon"))
    given, site = inputs("falcon"), Site("mlp_out", 1)
    with torch.no_grad():
        run = backend.run(given, {site: torch.zeros_like},
                          [site, *(Site(what, 1) for what in ("resid_pre", "attn_out", "resid_post"))])
    assert not run.captured[site].any()
    expected = run.captured[Site("resid_pre", 1)] + run.captured[Site("attn_out", 1)]
    torch.testing.assert_close(run.captured[Site("resid_post", 1)], expected)


@pytest.mark.parametrize("name", DECODERS)
def test_facts_of_the_stack(name):
    stack = TransformersBackend(tiny(name)).stacks[0]
    assert (stack.attention, stack.n_layers, stack.n_heads, stack.d_model, stack.causal) == ("self", 3, 4, 32, True)
    assert stack.n_kv_heads == {"falcon": 1, "gpt2": 4, "gpt_neox": 4, "opt": 4, "gptj": 4, "falcon_alibi": 4, "bloom": 4,
                                "deepseek_v3": 4}.get(name, 2)
    assert stack.rotary == (name not in ("gpt2", "opt", "bloom", "falcon_alibi"))
    assert stack.parallel == (name in ("gpt_neox", "gptj", "falcon", "falcon_new"))
    assert stack.post_norm == (name in ("gemma2", "gemma3", "olmo2"))
    assert stack.learned_sink == (name == "gpt_oss")
    assert stack.windows == {"mistral": (4, 4, 4), "gemma2": (4, None, 4), "gemma3": (4, None, 4),
                             "gpt_oss": (4, None, 4)}.get(name, (None,) * 3)
    assert (stack.d_head, stack.d_qk) == {"deepseek_v3": (10, 12), "qwen3": (12, 12), "gemma2": (12, 12), "gemma3": (12, 12),
                                          "gpt_oss": (12, 12)}.get(name, (8, 8))


def test_windows_and_sinks_show_in_the_patterns():
    for name, windows in (("mistral", (4, 4, 4)), ("gemma3", (4, None, 4)), ("gpt_oss", (4, None, 4))):
        backend, given = TransformersBackend(tiny(name)), inputs(name, 1, 9)
        with torch.no_grad():
            run = backend.run(given, capture=[Site("pattern", layer) for layer in range(3)])
        for layer, window in enumerate(windows):
            pattern = run.captured[Site("pattern", layer)]
            distance = torch.arange(9)[:, None] - torch.arange(9)[None]
            visible = (distance >= 0) & (distance < (window or 9))
            assert ((pattern > 0) == visible).all()
            total = pattern.sum(-1)
            assert (total < 0.999).any() if name == "gpt_oss" else torch.allclose(total, torch.ones_like(total))


def test_stacks_of_an_encoder_decoder():
    backend = TransformersBackend(tiny("bart"))
    assert [(s.attention, s.n_layers, s.causal) for s in backend.stacks] == [("self", 2, True), ("encoder", 2, False),
                                                                             ("cross", 2, False)]


@pytest.mark.parametrize(("name", "site", "reason"), [
    ("gpt_neox", Site("resid_mid", 0), "attention and MLP read the same residual stream"),
    ("deepseek_v3", Site("k_pre", 0), "the heads share the rotary part of the key"),
    ("t5", Site("resid_pre", 0, "cross"), "counted with the self-attention"),
    ("llama", Site("z", 3), "self of 3 layers"),
    ("llama", Site("z", 0, "cross"), "self of 3 layers"),
])
def test_a_site_that_is_not_there_is_refused_by_name(name, site, reason):
    backend = TransformersBackend(tiny(name))
    assert site not in backend.sites()
    for asked in ({"edits": {site: torch.clone}}, {"capture": [site]}):
        with pytest.raises(InterpError, match=reason):
            backend.run(inputs(name), **asked)


@pytest.mark.parametrize(("edit", "reason"), [
    (lambda x: x[:, :1], "returned shape"),
    (lambda x: None, "returned NoneType"),
    (lambda x: x.mul_(2), "wrote into the tensor"),
])
def test_an_edit_that_is_none(edit, reason):
    with pytest.raises(InterpError, match=reason), torch.no_grad():
        TransformersBackend(tiny("llama")).run(inputs("llama"), {Site("z", 0): edit})


def test_every_site_of_the_table_exists_somewhere():
    found = {site.what for name in ("llama", "bert") for site in TransformersBackend(tiny(name)).sites()}
    assert found == set(WHATS)


@pytest.mark.parametrize("name", ["llama", "bert", "olmo2", "opt"])
def test_parts_add_up_as_the_table_says(name):
    """result sums to attn_out; resid_pre + attn_write is resid_mid (before the norm in BERT); + mlp_write is resid_post."""
    backend = TransformersBackend(tiny(name))
    kind = backend.stacks[0].attention
    with torch.no_grad():
        run = backend.run(inputs(name), capture=[s for s in backend.sites() if s.layer == 1])
    at = {site.what: tensor for site, tensor in run.captured.items()}
    bias = backend.b_O(1, kind)
    torch.testing.assert_close(at["result"].sum(2) + (0 if bias is None else bias), at["attn_out"], atol=1e-5, rtol=1e-4)
    by_hand = torch.einsum("bthd,hdm->bthm", at["z"], backend.W_O(1, kind))
    torch.testing.assert_close(by_hand, at["result"], atol=1e-5, rtol=1e-4)
    mid, post = at["resid_pre"] + at["attn_write"], at["resid_mid"] + at["mlp_write"]
    if name == "bert":
        block = backend.network.bert.encoder.layer[1]
        mid, post = block.attention.output.LayerNorm(mid), block.output.LayerNorm(post)
    torch.testing.assert_close(mid, at["resid_mid"], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(post, at["resid_post"], atol=1e-5, rtol=1e-4)


def test_an_edit_of_result_moves_attention_by_the_difference():
    backend = TransformersBackend(tiny("gpt2"))
    given, added = inputs("gpt2"), torch.randn(32, generator=torch.Generator().manual_seed(0))

    def edit(result):
        new = result.clone()
        new[:, :, 2] += added
        return new

    with torch.no_grad():
        before = backend.run(given, capture=[Site("attn_out", 1)]).captured[Site("attn_out", 1)]
        run = backend.run(given, {Site("result", 1): edit}, [Site("attn_out", 1)])
    torch.testing.assert_close(run.captured[Site("attn_out", 1)], before + added, atol=1e-5, rtol=1e-5)


def test_scores_and_pattern_edits_together_and_fully_masked_rows():
    """A head whose scores are all hidden but one key, its pattern then replaced: the last word is the pattern's."""
    backend = TransformersBackend(tiny("gpt_oss"))
    given = inputs("gpt_oss", 1, 6)

    def only_first(scores):
        new = torch.full_like(scores, torch.finfo(scores.dtype).min)
        new[..., 0] = scores[..., 0]
        return new

    with torch.no_grad():
        run = backend.run(given, {Site("scores", 1): only_first}, [Site("pattern", 1), Site("scores", 1)])
        assert not run.captured[Site("pattern", 1)][..., 1:].any()
        scores, sinks = run.captured[Site("scores", 1)][..., 0], backend.network.model.layers[1].self_attn.sinks
        torch.testing.assert_close(run.captured[Site("pattern", 1)][..., 0], torch.sigmoid(scores - sinks[:, None]))
        flat = {Site("scores", 1): only_first, Site("pattern", 1): lambda x: torch.full_like(x, 1 / 6)}
        uniform = backend.run(given, flat, [Site("z", 1), Site("v", 1)])
    expected = uniform.captured[Site("v", 1)].mean(1, keepdim=True).repeat_interleave(2, 2).expand(-1, 6, -1, -1)
    torch.testing.assert_close(uniform.captured[Site("z", 1)], expected)
