"""``interp.load`` with TransformerLens: bridges in memory, native folders, the backend by name, ``Model.bridge``."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import interp
from interp.core.errors import InterpError
from interp.models.bridge_backend import BridgeBackend
from interp.models.bridge_of import bridge_of
from interp.models.bridge_sites import at_hook
from interp.models.inputs import sample_inputs
from interp.models.model import Model
from interp.models.sites import Site
from interp.models.tiny import VOCAB, inputs, tiny
from interp.models.verify import logits_of, verify


@cache
def pair(name: str) -> tuple[Model, Model]:
    """The same weights by either backend."""
    network = tiny(name)
    return interp.load(network), interp.load(network, backend="transformer_lens")


def batch(model: Model) -> Any:
    g = torch.Generator().manual_seed(0)
    clean, corrupt = torch.randint(3, VOCAB, (2, 5, 6), generator=g)
    answers = torch.stack([torch.randperm(VOCAB, generator=g)[:2] for _ in range(5)])
    return interp.tasks.from_tokens(clean, corrupt, answers[:, 0], answers[:, 1], model=model)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "deepseek_v3", "bloom", "bert", "vit", "t5", "bart"])
def test_a_bridge_in_memory_is_verified(name: str):
    bridge = bridge_of(tiny(name))
    model = interp.load(bridge)
    assert model.bridge is bridge
    assert model.backend.name == "transformer_lens"
    assert model.verification.refused == {}
    assert {"logits", "self-patching", "patterns sum to one"} <= model.verification.errors.keys()
    plain = interp.load(tiny(name))
    assert (model.vocab_size, model.context_length) == (plain.vocab_size, plain.context_length)
    assert model.stacks == plain.stacks
    assert model.sites() == plain.sites()
    with torch.no_grad():
        a, b = (logits_of(m.run(inputs(name))) for m in (model, plain))
    assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("backend", ["transformers", "transformer_lens"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["gpt2", "olmo2", "bert", "bart"])
def test_no_site_is_refused_for_its_rounding(name: str, dtype: str, backend: str):
    """Patterns of GPT-2 are rounded to the weights' precision; logits of BART come in a higher one."""
    model = interp.load(tiny(name), dtype=dtype, backend=backend)
    assert model.verification.refused == {}
    assert model.dtype == getattr(torch, dtype)


def test_the_backend_is_chosen_by_name():
    plain, lens = pair("gpt2")
    assert (plain.backend.name, lens.backend.name) == ("transformers", "transformer_lens")
    assert lens.provenance_dict()["backend"] == "transformer_lens"
    assert lens.provenance_dict()["weights_sha256"] == plain.provenance_dict()["weights_sha256"]
    with pytest.raises(InterpError, match="is a model of TransformerLens"):
        interp.load(lens.bridge, backend="transformers")
    with pytest.raises(InterpError, match="FalconForCausalLM"):
        interp.load(tiny("falcon_new", num_ln_in_parallel_attn=1), backend="transformer_lens")


def test_the_bridge_of_a_model_has_its_weights():
    plain, _ = pair("llama")
    ids = inputs("llama")["input_ids"]
    with torch.no_grad():
        assert torch.allclose(plain.bridge(ids), plain.run({"input_ids": ids}).logits, atol=1e-5)


def test_folded_weights_are_told_in_the_provenance():
    bridge = bridge_of(tiny("gpt2"))
    assert interp.load(bridge).provenance_dict()["weight_processing"] is None
    bridge.enable_compatibility_mode(disable_warnings=True)
    assert interp.load(bridge).provenance_dict()["weight_processing"] == "compatibility_mode"


@pytest.mark.parametrize("name", ["gptj", "bloom", "opt"])
def test_generation_with_an_intervention_is_the_same_by_either_backend(name: str):
    from interp.engine.generate import generate
    from interp.engine.intervention import Intervention, Scale

    edit = Intervention("z", 1, (0, 2), None, Scale(-2.0))
    plain, lens = (generate(model, batch(model), 4, edit, logits=True) for model in pair(name))
    slowly = generate(pair(name)[1], batch(pair(name)[1]), 4, edit, logits=True, cache=False)
    assert torch.equal(plain.ids, lens.ids)
    assert torch.allclose(plain.logits, lens.logits, atol=1e-4)
    assert torch.allclose(slowly.logits, lens.logits, atol=1e-4)


def native(path: Path) -> Path:
    """A native folder on disk: two attention-only layers."""
    options = {"n_layers": 2, "d_model": 8, "d_head": 4, "n_heads": 2, "n_ctx": 12, "d_vocab": 11, "attn_only": True,
               "act_fn": "relu", "normalization_type": None, "attention_dir": "causal"}
    g = torch.Generator().manual_seed(0)
    shapes = {"embed.W_E": (11, 8), "pos_embed.W_pos": (12, 8), "unembed.W_U": (8, 11)}
    for layer in range(2):
        shapes |= {f"blocks.{layer}.attn.W_{x}": (2, 4, 8) if x == "O" else (2, 8, 4) for x in "QKVO"}
    (path / "config.json").write_text(json.dumps({"tl_config": options}))
    save_file({key: torch.randn(shape, generator=g) for key, shape in shapes.items()}, path / "model.safetensors")
    return path


def test_a_native_folder_is_recognised_and_verified(tmp_path: Path):
    model = interp.load(native(tmp_path))
    assert model.backend.name == "transformer_lens"
    assert (model.context_length, model.vocab_size, model.tokenizer) == (12, 11, None)
    assert model.verification.refused == {}
    assert model.verification.inexact_padding == ()
    clean, corrupt = torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([[7, 2, 3], [8, 5, 6]])
    own = interp.tasks.from_tokens(clean, corrupt, 9, 10, model=model)
    scores = interp.measures.activation_patching(model, own)
    assert scores.values.shape == (2, 2, 2)
    assert np.abs(scores.values).max() > 0.01


def check(used: BridgeBackend) -> dict[Site, str]:
    return dict(verify(used, sample_inputs(used.network), lambda given: used.network(**given).logits).refused)


def test_the_checks_refuse_a_pattern_whose_edits_are_discarded():
    """As TransformerLens' own hooks of a delegated attention do."""
    used = BridgeBackend(bridge_of(tiny("opt")))
    assert check(used) == {}
    for layer, (_, attention) in used._attention["self"].items():
        used._seams[Site("pattern", layer)] = at_hook(attention.hook_pattern)
    with pytest.warns(UserWarning, match="discarded"):
        refused = check(used)
    assert {site.what for site in refused} == {"pattern"}


def test_the_checks_refuse_scores_that_are_patterns():
    used = BridgeBackend(bridge_of(tiny("opt")))
    for layer, (_, attention) in used._attention["self"].items():
        used._seams[Site("scores", layer)] = at_hook(attention.hook_attn_scores)
    with pytest.warns(UserWarning, match="discarded"):
        refused = check(used)
    assert "scores" in {site.what for site in refused}


def test_the_checks_refuse_heads_that_are_split_wrongly():
    used = BridgeBackend(bridge_of(tiny("deepseek_v3")))
    for layer, (_, attention) in used._attention["self"].items():
        def read(z: Tensor) -> Tensor:
            return z.unflatten(-1, (-1, 4)).transpose(-1, -2)

        used._seams[Site("z", layer)] = at_hook(attention.o.hook_in, read, lambda z: z.transpose(-1, -2).flatten(-2))
    assert "z" in {site.what for site in check(used)}


def test_the_checks_refuse_a_stream_whose_edit_reaches_one_branch_only():
    """The input of the second norm is not the residual stream: the skip connection has gone by."""
    used = BridgeBackend(bridge_of(tiny("llama")))
    assert check(used) == {}
    for layer, (block, _) in used._attention["self"].items():
        used._seams[Site("resid_mid", layer)] = at_hook(block.ln2.hook_in)
    assert {site.what for site in check(used)} == {"resid_mid"}
