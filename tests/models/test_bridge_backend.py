"""The TransformerLens backend on its own: it leaves things as they were, misses nothing silently, and is exact in detail."""

import copy
import subprocess
import sys
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from interp.core.errors import InterpError
from interp.models.bridge_backend import BridgeBackend
from interp.models.bridge_of import bridge_of
from interp.models.frozen_norm import frozen_norm, norm_bias
from interp.models.sites import Site
from interp.models.tiny import inputs, tiny


@cache
def backend(name: str) -> BridgeBackend:
    return BridgeBackend(bridge_of(tiny(name)))


def logits(run_or_name: BridgeBackend, name: str, **options: object) -> Tensor:
    with torch.no_grad():
        return run_or_name.run(inputs(name), **options).logits


def hooks_left(network: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) + ("forward" in module.__dict__)
               for module in network.modules())


def test_transformer_lens_is_imported_only_when_a_bridge_is_made():
    code = ("import sys, interp.models.bridge_backend, interp.models.bridge_of, interp.models.native; "
            "print('transformer_lens' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_network_that_is_bridged_stays_as_it_was():
    network = tiny("llama").train()
    before, kinds = copy.deepcopy(network.state_dict()), [type(module) for module in network.modules()]
    attention = network.config._attn_implementation
    bridge = bridge_of(network)
    assert [type(module) for module in network.modules()] == kinds
    assert network.training
    assert network.config._attn_implementation == attention
    assert not bridge.training
    with torch.no_grad():
        bridge.original_model.lm_head.original_component.weight.zero_()
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_random_numbers_are_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    bridge_of(tiny("gpt2"))
    assert torch.equal(torch.rand(1), expected)


def test_an_architecture_that_transformer_lens_lacks_is_refused():
    import transformers

    config = transformers.ElectraConfig(vocab_size=50, hidden_size=16, embedding_size=16, num_hidden_layers=1,
                                        num_attention_heads=2, intermediate_size=16)
    with pytest.raises(InterpError, match="does not know this architecture"):
        bridge_of(transformers.ElectraForMaskedLM(config))


def test_a_network_that_transformer_lens_bridges_wrongly_is_refused(monkeypatch: pytest.MonkeyPatch):
    """It adds the position bias of Falcon with ALiBi twice; without the repair the logits tell."""
    monkeypatch.setattr("interp.models.bridge_of.after_bridging", lambda bridge: None)
    with pytest.raises(InterpError, match="logits differ from the network's by 0"):
        bridge_of(tiny("falcon_alibi"))
    bridge_of(tiny("falcon_alibi"), check=False)


def test_a_network_that_transformer_lens_fails_on_is_refused():
    with pytest.raises(InterpError, match="TransformerLens fails on it"):
        bridge_of(tiny("falcon_new", num_ln_in_parallel_attn=1))


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox", "gptj", "opt", "deepseek_v3", "gpt_oss"])
def test_a_pass_leaves_nothing_behind(name: str):
    used = backend(name)
    clean, before = logits(used, name), hooks_left(used.bridge)
    logits(used, name, edits={site: torch.zeros_like for site in used.sites() if site.layer == 1}, capture=used.sites())
    assert hooks_left(used.bridge) == before

    def fails(x: Tensor) -> Tensor:
        raise RuntimeError("an edit that fails")

    for what in ("q", "scores", "pattern", "z", "result"):
        with pytest.raises(RuntimeError, match="an edit that fails"):
            logits(used, name, edits={Site(what, 1): fails})
        assert hooks_left(used.bridge) == before
    assert torch.equal(logits(used, name), clean)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox", "gptj", "opt", "gemma2", "bert", "vit", "t5"])
def test_patching_a_pass_with_itself_changes_nothing(name: str):
    used = backend(name)
    with torch.no_grad():
        clean = used.run(inputs(name), capture=used.sites())
        for site in sorted(used.sites()):
            again = used.run(inputs(name), {site: lambda x, site=site: clean.captured[site].clone()})
            a, b = (run.output if run.logits is None else run.logits for run in (clean, again))
            assert float((a - b).abs().max()) < 5e-6, site


@pytest.mark.parametrize("name", ["gpt2", "opt", "gptj"])
def test_an_edit_may_use_a_softmax_itself(name: str):
    """Scores and pattern are found by the softmax; one inside an edit is not the network's."""
    used = backend(name)

    def pattern_again(x: Tensor) -> Tensor:
        return torch.softmax(torch.log(x.clamp_min(1e-30)), -1)

    def unchanged(x: Tensor) -> Tensor:
        torch.softmax(torch.zeros(1, 1, 2, 2), -1)
        return x.clone()

    edits = {Site("pattern", 0): pattern_again} | {Site(what, 0): unchanged for what in ("q", "scores", "z")}
    with torch.no_grad():
        run = used.run(inputs(name), edits, capture=[Site("scores", 0), Site("pattern", 0)])
    assert run.captured[Site("scores", 0)].shape == (2, 4, 10, 10)
    assert torch.allclose(run.logits, logits(used, name), atol=1e-5)


def test_an_edit_must_keep_the_shape_and_must_not_write_in_place():
    used = backend("gpt2")
    with pytest.raises(InterpError, match="z of layer 0"):
        logits(used, "gpt2", edits={Site("z", 0): lambda x: x[:, :1]})
    with pytest.raises(InterpError, match="wrote into"):
        logits(used, "gpt2", edits={Site("z", 0): lambda x: x.mul_(2)})


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "olmo2", "bloom"])
def test_sites_at_one_place_act_in_the_order_of_the_computation(name: str):
    used = backend(name)
    seen = []

    def note(what: str):
        def edit(x: Tensor) -> Tensor:
            seen.append(what)
            return x + 0.1
        return edit

    whats = ["z", "result", "attn_out", "attn_write", "resid_mid", "mlp_out", "mlp_write", "resid_post"]
    with torch.no_grad():
        run = used.run(inputs(name), {Site(what, 1): note(what) for what in reversed(whats)},
                       capture=[Site(what, 1) for what in ["resid_pre", *whats]])
    assert seen == whats
    kept = {what: run.captured[Site(what, 1)] for what in ["resid_pre", *whats]}
    bias = used.b_O(1)
    total = kept["result"].sum(2) + (0 if bias is None else bias)
    assert torch.allclose(kept["attn_out"], total + 0.1, atol=1e-5)
    assert torch.allclose(kept["resid_mid"], kept["resid_pre"] + kept["attn_write"] + 0.1, atol=1e-5)
    assert torch.allclose(kept["resid_post"], kept["resid_mid"] + kept["mlp_write"] + 0.1, atol=1e-5)


def test_a_users_hooks_stay_in_force():
    bridge = bridge_of(tiny("gpt2"))
    used = BridgeBackend(bridge)
    clean = logits(used, "gpt2")
    bridge.add_hook("blocks.1.attn.hook_z", lambda z, hook: z * 0)
    with torch.no_grad():
        run = used.run(inputs("gpt2"), capture=[Site("z", 1)])
    assert float(run.captured[Site("z", 1)].abs().max()) == 0
    assert not torch.allclose(run.logits, clean)


def test_a_bridge_with_attn_result_on_is_refused():
    bridge = bridge_of(tiny("gpt2"))
    bridge.set_use_attn_result(True)
    with pytest.raises(InterpError, match="use_attn_result"):
        BridgeBackend(bridge)


def test_a_bridge_on_default_attention_is_switched_to_eager():
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    network = tiny("opt")
    network.set_attn_implementation("sdpa")
    used = BridgeBackend(build_bridge_from_module(network, "OPTForCausalLM", hf_config=network.config))
    with torch.no_grad():
        run = used.run(inputs("opt"), capture=[Site("pattern", 1)])
    assert torch.allclose(run.captured[Site("pattern", 1)].sum(-1), torch.ones(2, 4, 10), atol=1e-5)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_folded_weights_of_compatibility_mode(name: str):
    """Sites, weights and direct logits stay consistent; log-probabilities stay those of the network."""
    network = tiny(name, tie_word_embeddings=False)
    bridge = bridge_of(network)
    bridge.enable_compatibility_mode(disable_warnings=True)
    used = BridgeBackend(bridge)
    last = Site("resid_post", 2)
    with torch.no_grad():
        run = used.run(inputs(name), capture=[last, Site("z", 1), Site("attn_out", 1)])
        expected = network(**inputs(name)).logits
        assert torch.allclose(run.logits.log_softmax(-1), expected.log_softmax(-1), atol=1e-4)
        bias = used.b_O(1)
        total = torch.einsum("bphd,hdm->bpm", run.captured[Site("z", 1)], used.W_O(1)) + (0 if bias is None else bias)
        assert torch.allclose(total, run.captured[Site("attn_out", 1)], atol=1e-5)
        resid, columns = run.captured[last][:, -1], torch.tensor([[1, 2], [3, 4]])
        direct = used.logit_parts(resid, resid, columns) + used.logit_bias(columns)
        assert torch.allclose(direct, run.logits[:, -1].gather(1, columns), atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["gpt2", "llama", "opt", "olmo2", "falcon_alibi"])
def test_lower_precision(name: str, dtype: torch.dtype):
    network = tiny(name).to(dtype)
    used = BridgeBackend(bridge_of(network))
    assert used.bridge.cfg.dtype == dtype
    with torch.no_grad():
        run = used.run(inputs(name), {Site("z", 1): lambda x: x * 0.5}, capture=used.sites())
    assert run.logits.dtype == dtype
    assert all(torch.isfinite(x[x > -1e4].float()).all() for x in run.captured.values())


def test_the_tokenizer_is_attached_without_being_loaded_again():
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2, "a": 3, "b": 4}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    words.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    bridge = bridge_of(tiny("llama"), tokenizer)
    assert tokenizer.pad_token is None
    assert bridge.cfg.tokenizer_prepends_bos
    assert bridge.to_tokens("a b a").tolist() == [[1, 3, 4, 3]]


def test_bert_has_no_direct_logits():
    used = backend("bert")
    with pytest.raises(InterpError, match="direct logits"):
        used.logit_bias(torch.zeros(1, 1, dtype=torch.long))


@pytest.mark.parametrize("norm", [nn.LayerNorm(8), nn.LayerNorm(8, bias=False), nn.RMSNorm(8, eps=1e-6), nn.Identity()])
def test_a_frozen_norm_splits_its_output_into_parts(norm: nn.Module):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.add_(torch.randn_like(parameter))
        parts = torch.randn(5, 2, 3, 8)
        total = parts.sum(0)
        split = frozen_norm(norm, total, parts)
        assert torch.allclose(split.sum(0) + norm_bias(norm, total), norm(total), atol=1e-5)
        assert torch.allclose(frozen_norm(norm, total, 2 * parts), 2 * split)
        if isinstance(norm, nn.RMSNorm):
            by_hand = parts / (total.square().mean(-1, keepdim=True) + 1e-6).sqrt() * norm.weight
            assert torch.allclose(split, by_hand, atol=1e-5)


def test_what_is_no_such_norm_is_refused():
    with pytest.raises(InterpError, match="not a layer norm"):
        frozen_norm(torch.tanh, torch.randn(2, 8), torch.randn(2, 8))
