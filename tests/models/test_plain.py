"""The plain transformer against an independent numpy forward pass, and as a transformers model."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from interp.models.plain import PlainConfig, PlainForCausalLM


def random_model(**options) -> PlainForCausalLM:
    """A plain transformer whose weights are large enough for attention and ReLU to be anything but linear."""
    shape = {"vocab_size": 11, "hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 5, "head_dim": 4,
             "intermediate_size": 7, "max_position_embeddings": 20}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = PlainForCausalLM(PlainConfig(**{**shape, **options})).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def by_numpy(model: PlainForCausalLM, ids: list[int]) -> np.ndarray:
    """Logits [position, vocab] of one prompt in float64, head by head, position by position."""
    config = model.config
    w = {name: value.detach().double().numpy() for name, value in model.state_dict().items()}
    x = w["model.embed_tokens.weight"][ids] + w["model.embed_positions.weight"][: len(ids)]
    scale = config.attention_scale if config.attention_scale is not None else config.head_dim**-0.5
    for layer in range(config.num_hidden_layers):
        at = f"model.layers.{layer}."
        bias = {p: w.get(f"{at}self_attn.{p}_proj.bias", 0) for p in "qkvo"}
        q, k, v = (x @ w[f"{at}self_attn.{p}_proj.weight"].T + bias[p] for p in "qkv")
        z = np.zeros_like(v)
        for head in range(config.num_attention_heads):
            of = slice(head * config.head_dim, (head + 1) * config.head_dim)
            for query in range(len(ids)):
                visible = query + 1 if config.causal else len(ids)
                scores = scale * k[:visible, of] @ q[query, of]
                pattern = np.exp(scores - scores.max())
                z[query, of] = pattern / pattern.sum() @ v[:visible, of]
        x = x + z @ w[f"{at}self_attn.o_proj.weight"].T + bias["o"]
        if config.intermediate_size:
            up, down = (w.get(f"{at}mlp.{p}_proj.bias", 0) for p in ("up", "down"))
            hidden = np.maximum(x @ w[f"{at}mlp.up_proj.weight"].T + up, 0)
            x = x + hidden @ w[f"{at}mlp.down_proj.weight"].T + down
    return x @ w["lm_head.weight"].T


OPTIONS = [
    {},
    {"causal": False},
    {"intermediate_size": 0},
    {"attention_scale": 1.0, "mlp_bias": False},
    {"attention_bias": True, "causal": False, "num_attention_heads": 1, "head_dim": 9},
]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_logits_equal_a_loop_over_heads_and_positions(options, attention):
    model = random_model(**options)
    model.set_attn_implementation(attention)
    ids = [3, 1, 4, 1, 5, 9, 2, 6]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].numpy()
    np.testing.assert_allclose(logits, by_numpy(model, ids), atol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(side, causal):
    model = random_model(causal=causal)
    ids, pads = [3, 1, 4, 1, 5], [7, 7, 7]
    row = pads + ids if side == "left" else ids + pads
    mask = [0] * 3 + [1] * 5 if side == "left" else [1] * 5 + [0] * 3
    real = slice(3, None) if side == "left" else slice(None, 5)
    with torch.no_grad():
        alone = model(torch.tensor([ids])).logits[0]
        padded = model(torch.tensor([row]), attention_mask=torch.tensor([mask])).logits[0, real]
    torch.testing.assert_close(padded, alone, atol=1e-5, rtol=0)


def test_the_cache_gives_the_same_logits():
    model, ids = random_model(), torch.tensor([[3, 1, 4, 1, 5, 9]])
    with torch.no_grad():
        whole = model(ids).logits
        first = model(ids[:, :4], use_cache=True)
        rest = model(ids[:, 4:], past_key_values=first.past_key_values, use_cache=True).logits
        last = model(ids, logits_to_keep=1).logits
    torch.testing.assert_close(torch.cat([first.logits, rest], dim=1), whole, atol=1e-5, rtol=0)
    torch.testing.assert_close(last, whole[:, -1:], atol=1e-5, rtol=0)


def test_generate_is_greedy_recomputation():
    model, ids = random_model(), [3, 1, 4]
    written = model.generate(torch.tensor([ids]), attention_mask=torch.ones(1, 3, dtype=torch.long), max_new_tokens=5,
                             do_sample=False, pad_token_id=0)[0].tolist()
    for _ in range(5):
        ids = [*ids, int(by_numpy(model, ids)[-1].argmax())]
    assert written == ids


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_saved_and_loaded_unchanged(options, tmp_path):
    model = random_model(**options)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(loaded) is PlainForCausalLM
    assert loaded.config.to_dict()["attention_scale"] == model.config.attention_scale
    for name, value in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, atol=0, rtol=0)
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, model(ids).logits, atol=0, rtol=0)


def test_exactly_one_kind_of_input():
    with pytest.raises(ValueError, match="exactly one"):
        random_model()()
