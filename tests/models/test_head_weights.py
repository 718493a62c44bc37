"""Weights per head, and direct logits: what they say equals what the network computes."""

import pytest
import torch
from oracle_attention import NAMES, module

from interp.core.errors import InterpError
from interp.models.sites import Site
from interp.models.tiny import ARCHITECTURES, DECODERS, inputs, tiny
from interp.models.transformers_backend import TransformersBackend

ATTENTIONS = [(name, kind) for name in ARCHITECTURES for kind in NAMES[name] if kind != "cross" and name != "deepseek_v3"]


def read_by(model, name, kind, layer, given):
    """What the attention module is given."""
    seen = []
    handle = module(model, name, kind, layer, "core").register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True)
    with torch.no_grad():
        model(**given)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize(("name", "kind"), ATTENTIONS)
def test_projections_per_head_give_q_k_and_v(name, kind):
    model = tiny(name)
    backend, given = TransformersBackend(model), inputs(name)
    sites = {"Q": Site("q_pre", 1, kind), "K": Site("k_pre", 1, kind), "V": Site("v", 1, kind)}
    with torch.no_grad():
        run = backend.run(given, capture=sites.values())
    read = read_by(model, name, kind, 1, given)
    for letter, site in sites.items():
        weight, bias = getattr(backend, "W_" + letter)(1, kind), getattr(backend, "b_" + letter)(1, kind)
        expected = torch.einsum("btd,hde->bthe", read, weight) + (0 if bias is None else bias)
        torch.testing.assert_close(run.captured[site], expected, atol=2e-5, rtol=1e-4)


def test_latent_attention_has_no_such_weights():
    backend = TransformersBackend(tiny("deepseek_v3"))
    for take in (backend.W_Q, backend.W_K, backend.W_V, backend.b_Q):
        with pytest.raises(InterpError, match="latent attention"):
            take(0)
    assert backend.W_O(0).shape == (4, 10, 32)


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2", "opt", "falcon_new", "gpt_neox"])
def test_q_pre_is_q_before_the_rotary_embedding(name):
    """Position 0 is not turned; where there is no rotary embedding, nothing is (OPT scales)."""
    backend, given = TransformersBackend(tiny(name)), inputs(name)
    with torch.no_grad():
        run = backend.run(given, capture=[Site(what, 1) for what in ("q_pre", "q", "k_pre", "k")])
    scale = 8 ** -0.5 if name == "opt" else 1.0
    for which, factor in (("q", scale), ("k", 1.0)):
        before, after = run.captured[Site(which + "_pre", 1)] * factor, run.captured[Site(which, 1)]
        torch.testing.assert_close(before[:, 0], after[:, 0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(before.norm(dim=-1), after.norm(dim=-1), atol=1e-5, rtol=1e-4)
        assert torch.allclose(before, after, atol=1e-5) == (not backend.stacks[0].rotary)


@pytest.mark.parametrize("name", [*DECODERS, "t5"])
def test_direct_logits_of_all_parts_sum_to_the_logits(name):
    network = tiny(name)
    backend, given = TransformersBackend(network), inputs(name, 3, 7)
    layers = backend.stacks[0].n_layers
    parts_of = [Site("resid_pre", 0), *(Site(w, layer) for w in ("attn_write", "mlp_write") for layer in range(layers))]
    if name == "t5":
        parts_of += [Site("attn_write", layer, "cross") for layer in range(layers)]
    with torch.no_grad():
        run = backend.run(given, capture=[*parts_of, Site("resid_post", layers - 1)])
    columns = torch.tensor([[3, 5, 8], [1, 0, 96], [7, 7, 2]])
    resid = run.captured[Site("resid_post", layers - 1)][:, -1]
    parts = torch.stack([run.captured[site][:, -1] for site in parts_of])
    total = backend.logit_parts(parts, resid, columns).sum(0) + backend.logit_bias(columns)
    cap = getattr(network.config.get_text_config(), "final_logit_softcapping", None)
    total = cap * torch.tanh(total / cap) if cap else total
    torch.testing.assert_close(total, run.logits[:, -1].gather(1, columns), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", DECODERS)
def test_heads_written_through_a_post_norm_sum_to_the_write(name):
    backend, given = TransformersBackend(tiny(name)), inputs(name)
    with torch.no_grad():
        whats = ("result", "attn_out", "attn_write", "mlp_out", "mlp_write")
        run = backend.run(given, capture=[Site(what, 1) for what in whats])
    out, bias = run.captured[Site("attn_out", 1)], backend.b_O(1)
    parts = [*run.captured[Site("result", 1)].unbind(2), torch.zeros_like(out) if bias is None else bias.expand_as(out)]
    written = backend.write_parts("attn_out", 1, torch.stack(parts), out).sum(0)
    norm = backend._places["self", 1].attn_norm
    shift = getattr(norm, "bias", None)
    written = written if shift is None else written + shift
    torch.testing.assert_close(written, run.captured[Site("attn_write", 1)], atol=2e-5, rtol=1e-4)
    mlp = run.captured[Site("mlp_out", 1)]
    torch.testing.assert_close(backend.write_parts("mlp_out", 1, mlp[None], mlp)[0], run.captured[Site("mlp_write", 1)],
                               atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["bert", "vit"])
def test_direct_logits_are_refused_where_more_lies_between(name):
    with pytest.raises(InterpError, match="split the logits"):
        TransformersBackend(tiny(name)).logit_bias(torch.zeros(1, 1, dtype=torch.long))


def test_scaled_logits():
    """Cohere multiplies its logits and has parallel blocks; Granite divides them and scales what each layer adds."""
    import transformers

    from interp.models.tiny import VOCAB, randomise

    config = transformers.CohereConfig(vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                                       num_attention_heads=4, num_key_value_heads=2, logit_scale=0.25, pad_token_id=0,
                                       bos_token_id=1, eos_token_id=2)
    network = transformers.CohereForCausalLM(config).eval()
    randomise(network)
    backend, given = TransformersBackend(network), inputs("llama")
    with torch.no_grad():
        run = backend.run(given, capture=[Site("resid_post", 1)])
    resid, columns = run.captured[Site("resid_post", 1)][:, -1], torch.tensor([[4, 9], [1, 2]])
    direct = backend.logit_parts(resid, resid, columns) + backend.logit_bias(columns)
    torch.testing.assert_close(direct, run.logits[:, -1].gather(1, columns), atol=1e-4, rtol=1e-4)
    assert backend.stacks[0].parallel

    granite = transformers.GraniteConfig(vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                                         num_attention_heads=4, num_key_value_heads=2, residual_multiplier=0.3,
                                         logits_scaling=2.0, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    network = transformers.GraniteForCausalLM(granite).eval()
    randomise(network)
    backend = TransformersBackend(network)
    assert Site("z", 0) in backend.sites()
    for what in ("attn_write", "mlp_out", "resid_mid"):
        with pytest.raises(InterpError, match=f"the {what} of layer 0"):
            backend.run(given, capture=[Site(what, 0)])
