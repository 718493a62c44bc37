"""TransformerLens-native models: the options they can have against plain arithmetic, and a real one with induction heads."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from interp.core.errors import InterpError
from interp.models.bridge_backend import BridgeBackend
from interp.models.native import is_native_folder, load_native, native_bridge
from interp.models.sites import Site

OPTIONS = {"n_layers": 2, "d_model": 8, "d_head": 4, "n_heads": 2, "n_ctx": 12, "d_vocab": 11, "attn_only": True,
           "act_fn": "relu", "normalization_type": None, "attention_dir": "causal"}


def weights(options: dict, seed: int = 0) -> dict[str, Tensor]:
    """Random weights under TransformerLens' property names; no biases."""
    g = torch.Generator().manual_seed(seed)
    d, h, n = (options[name] for name in ("d_model", "d_head", "n_heads"))
    kv = options.get("n_key_value_heads", n)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g) * 0.5

    out = {"embed.W_E": draw(options["d_vocab"], d), "unembed.W_U": draw(d, options["d_vocab"])}
    if options.get("positional_embedding_type", "standard") == "standard":
        out["pos_embed.W_pos"] = draw(options["n_ctx"], d)
    for layer in range(options["n_layers"]):
        key = f"blocks.{layer}.attn."
        under = "_" if kv != n else ""
        out |= {key + "W_Q": draw(n, d, h), key + under + "W_K": draw(kv, d, h), key + under + "W_V": draw(kv, d, h),
                key + "W_O": draw(n, h, d)}
        if not options["attn_only"]:
            out |= {f"blocks.{layer}.mlp.W_in": draw(d, 4 * d), f"blocks.{layer}.mlp.W_out": draw(4 * d, d)}
    return out


def test_attention_only_against_plain_arithmetic():
    w = weights(OPTIONS)
    used = BridgeBackend(native_bridge(OPTIONS, w))
    ids = torch.tensor([[1, 5, 3, 10, 0, 5]])
    with torch.no_grad():
        run = used.run({"input_ids": ids}, capture=used.sites())
        x = w["embed.W_E"][ids] + w["pos_embed.W_pos"][:6]
        mask = torch.ones(6, 6).triu(1).bool()
        for layer in range(2):
            W = {name: w[f"blocks.{layer}.attn.W_{name}"] for name in "QKVO"}
            assert torch.allclose(run.captured[Site("resid_pre", layer)], x, atol=1e-5)
            q, k, v = (torch.einsum("bpm,hmd->bphd", x, W[name]) for name in "QKV")
            scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / 2
            pattern = scores.masked_fill(mask, -torch.inf).softmax(-1)
            z = torch.einsum("bhqk,bkhd->bqhd", pattern, v)
            result = torch.einsum("bphd,hdm->bphm", z, W["O"])
            for what, expected in (("q", q), ("k", k), ("v", v), ("pattern", pattern), ("z", z), ("result", result)):
                assert torch.allclose(run.captured[Site(what, layer)], expected, atol=1e-5), (what, layer)
            lower = ~mask
            assert torch.allclose(run.captured[Site("scores", layer)][..., lower], scores[..., lower], atol=1e-5)
            x = x + result.sum(2)
        assert torch.allclose(run.logits, x @ w["unembed.W_U"], atol=1e-4)


VARIANTS = {
    "rotary": {"positional_embedding_type": "rotary"},
    "grouped heads, rotary, RMS norm": {"positional_embedding_type": "rotary", "n_key_value_heads": 1,
                                        "normalization_type": "RMSPre"},
    "layer norm and MLP": {"normalization_type": "LNPre", "attn_only": False, "act_fn": "gelu"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_site_of_a_native_model_acts_and_patches_onto_itself(variant: str):
    options = OPTIONS | VARIANTS[variant]
    used = BridgeBackend(native_bridge(options, weights(options)))
    ids = torch.tensor([[1, 5, 3, 10, 0, 5], [2, 2, 7, 1, 4, 9]])
    rotary = "rotary" in variant
    assert used.stacks[0].rotary == rotary
    with torch.no_grad():
        clean = used.run({"input_ids": ids}, capture=used.sites())
        assert torch.equal(clean.captured[Site("q", 1)], clean.captured[Site("q_pre", 1)]) != rotary
        for site in used.sites():
            again = used.run({"input_ids": ids}, {site: lambda x, site=site: clean.captured[site].clone()}).logits
            assert float((again - clean.logits).abs().max()) < 1e-5, site
            moved = used.run({"input_ids": ids}, {site: lambda x: torch.where(x < -1e4, x, x.flip(0) * 0.5)}).logits
            assert float((moved - clean.logits).abs().max()) > 1e-4, site
        last = Site("resid_post", 1)
        resid, columns = clean.captured[last][:, -1], torch.arange(11).expand(2, -1)
        direct = used.logit_parts(resid, resid, columns) + used.logit_bias(columns)
        assert torch.allclose(direct, clean.logits[:, -1], atol=1e-5)


def test_padding_is_exact_in_a_native_model():
    used = BridgeBackend(native_bridge(OPTIONS, weights(OPTIONS)))
    with torch.no_grad():
        alone = used.run({"input_ids": torch.tensor([[1, 5, 3]])}).logits
        left, right = ([0, 0, 1, 5, 3], [0, 0, 1, 1, 1], slice(2, 5)), ([1, 5, 3, 0, 0], [1, 1, 1, 0, 0], slice(0, 3))
        for ids, mask, real in (left, right):
            padded = used.run({"input_ids": torch.tensor([ids]), "attention_mask": torch.tensor([mask])}).logits
            assert torch.allclose(padded[:, real], alone, atol=1e-5)


def folder(path: Path, options: dict, tensors: dict[str, Tensor]) -> Path:
    (path / "config.json").write_text(json.dumps({"tl_config": options}))
    save_file({key: value.clone() for key, value in tensors.items()}, path / "model.safetensors")
    return path


def test_a_folder_is_loaded_with_missing_biases_zero(tmp_path: Path):
    made = folder(tmp_path, OPTIONS, weights(OPTIONS))
    assert is_native_folder(made)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    bridge = load_native(made)
    assert torch.equal(torch.rand(1), expected)
    assert not bridge.training
    assert not bridge.blocks[0].attn.o.bias.any()
    ids = torch.tensor([[1, 5, 3]])
    with torch.no_grad():
        assert torch.equal(bridge(ids), native_bridge(OPTIONS, weights(OPTIONS))(ids))


def test_other_folders_are_not_native(tmp_path: Path):
    assert not is_native_folder(tmp_path)
    assert not is_native_folder(tmp_path / "nothing")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    assert not is_native_folder(tmp_path)
    (tmp_path / "config.json").write_text("no json")
    assert not is_native_folder(tmp_path)
    with pytest.raises(InterpError, match="tl_config"):
        load_native(tmp_path)


def test_what_does_not_fit_is_told_by_name(tmp_path: Path):
    good = weights(OPTIONS)
    cases = [
        (OPTIONS, {key: value for key, value in good.items() if key != "embed.W_E"}, "embed.weight"),
        (OPTIONS, good | {"blocks.5.attn.W_Q": good["blocks.0.attn.W_Q"]}, r"blocks\.5"),
        (OPTIONS | {"d_vocab": 12}, good, "embed.weight is"),
        (OPTIONS | {"n_heads": 4}, good, "W_K|W_Q"),
        (OPTIONS | {"act_fn": "none", "attn_only": False}, good, "act_fn"),
    ]
    for options, tensors, said in cases:
        with pytest.raises(InterpError, match=said):
            load_native(folder(tmp_path, options, tensors))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InterpError, match=r"model\.safetensors"):
        load_native(tmp_path)


def three_copies(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random tokens [n, 85] in which one string of 16 occurs three times; and of each token the place where it stood in the
    copy before, plus one (what an induction head looks at), or -1."""
    g = torch.Generator().manual_seed(seed)
    ids, target = torch.randint(0, 128, (n, 85), generator=g), torch.full((n, 85), -1)
    for i in range(n):
        starts = (torch.randint(0, 38, (3,), generator=g).sort().values + torch.tensor([0, 16, 32])).tolist()
        string = torch.randint(0, 128, (16,), generator=g)
        for copy, start in enumerate(starts):
            ids[i, start:start + 16] = string
            if copy:
                target[i, start:start + 15] = torch.arange(starts[copy - 1], starts[copy - 1] + 15) + 1
    return ids, target


@pytest.mark.weights
def test_the_published_induction_model(weights: Path):
    used = BridgeBackend(load_native(weights / "induction-2L"))
    ids, target = three_copies(200)
    with torch.no_grad():
        run = used.run({"input_ids": ids}, capture=[Site("pattern", layer) for layer in (0, 1)])
    loss = torch.nn.functional.cross_entropy(run.logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    loss, repeated = loss.view(200, 84), target[:, :-1] >= 0
    assert loss[repeated].mean() < 2.8
    assert loss[~repeated].mean() > 5.2
    prompt, query = torch.nonzero(target >= 0, as_tuple=True)
    looks = torch.stack([run.captured[Site("pattern", layer)][prompt, :, query, target[prompt, query]].mean(0)
                         for layer in (0, 1)])
    induction = looks > 0.15
    assert not induction[0].any()
    assert induction[1].tolist() == [False, True, True, True]
    previous = run.captured[Site("pattern", 0)].diagonal(-1, 2, 3).mean((0, 2))
    assert int(previous.argmax()) == 2
    assert previous.max() > 0.2
