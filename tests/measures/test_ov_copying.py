"""OV copying: spectra known by hand, hand-made copy heads, grouped heads, TransformerLens' own matrices."""

import numpy as np
import pytest
import torch
from random_batches import model_of

import interp
from interp.core.errors import InterpError
from interp.core.head import Head
from interp.measures.ov_copying import eigenvalue_score, top_share
from interp.models.handmade import HANDMADE
from interp.models.head_circuits import LayerCircuits, embedding, head_circuits, unembedding
from interp.models.load import load
from interp.models.tiny import tiny


@pytest.mark.parametrize(("matrix", "score"), [
    ([[2.0, 0], [0, 1]], 1.0), ([[-2.0, 0], [0, -1]], -1.0), ([[3.0, 0], [0, -1]], 0.5), ([[0.0, 1], [0, 0]], 0.0),
    ([[0.0, -1], [1, 0]], 0.0), ([[1.0, 1], [0, 1]], 1.0), ([[0.0, 0], [0, 0]], 0.0)])
def test_spectra_known_by_hand(matrix, score):
    assert float(eigenvalue_score(torch.tensor(matrix, dtype=torch.float64))) == pytest.approx(score, abs=1e-6)


def test_the_inner_product_has_the_eigenvalues_of_the_whole():
    rng = torch.Generator().manual_seed(0)
    read, v, o, write = (torch.randn(*size, generator=rng, dtype=torch.float64)
                         for size in ((13, 6), (6, 3), (3, 6), (6, 13)))
    values = np.linalg.eigvals((read @ v @ o @ write).numpy())
    expected = values.sum().real / np.abs(values).sum()
    assert float(eigenvalue_score(o @ write @ read @ v)) == pytest.approx(expected, abs=1e-9)


def test_share_of_tokens_that_raise_themselves_most():
    eye = torch.eye(4, dtype=torch.float64)
    swap = eye[[1, 0, 2, 3]]
    layer = LayerCircuits(*(eye.expand(3, 4, 4) for _ in "qk"), torch.stack([eye, swap, 0 * eye]), eye.expand(3, 4, 4))
    assert top_share(layer, eye, eye).tolist() == [1.0, 0.5, 0.0]       # no head wins by a tie
    assert top_share(layer, eye, eye, tokens=2).tolist() == [1.0, 0.5, 0.0]
    assert top_share(layer, eye, eye + 0.1, top=2).tolist()[0] == 1.0


def test_the_copy_heads_of_hand_made_circuits():
    made = HANDMADE["handmade-induction"]()
    model = interp.load(made.model, tokenizer=made.tokenizer)
    scores = interp.measures.ov_copying(model)
    copies = interp.measures.ov_copying(model, value="top1")
    induction, whisper = made.heads["induction"], made.heads["whisper"]
    for found in (scores, copies):
        assert found.values.shape == (2, 4, 1)
        assert found.values[induction.layer, induction.head, 0] == pytest.approx(1)
        rest = [found.values[head.layer, head.head, 0] for head in found.heads if head not in (induction, whisper)]
        assert rest == [0.0] * 6        # they write where the unembedding does not read, or nothing
    assert abs(scores.values[whisper.layer, whisper.head, 0]) < 0.9


def test_there_are_no_prompts_and_no_interval():
    scores = interp.measures.ov_copying(model_of("llama"))
    assert scores.n_prompts == 1
    assert scores.labels("prompt") == ("none",)
    assert scores.provenance.task["n"] == 0
    assert np.isnan(scores.interval()).all()
    assert np.isnan(scores.test().p).all()
    assert scores.top(3)["low"].isna().all()
    with pytest.raises(InterpError, match="needs prompts"):
        interp.measures.ablation(model_of("llama"))


def test_grouped_heads_are_repeated_ones():
    grouped, network = tiny("llama"), tiny("llama", num_key_value_heads=4)
    state = grouped.state_dict()
    for name, value in state.items():
        if "k_proj" in name or "v_proj" in name:
            state[name] = value.unflatten(0, (2, -1)).repeat_interleave(2, 0).flatten(0, 1)
    network.load_state_dict(state)
    one, two = (load(net, verify=False) for net in (grouped, network))
    for value in ("eigenvalues", "top1"):
        a, b = (interp.measures.ov_copying(model, value=value).values for model in (one, two))
        np.testing.assert_allclose(a, b, atol=1e-9)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "gpt_neox"])
def test_folded_matrices_give_the_logits_of_a_norm_at_scale_one(name):
    """A token through one head, by the network's own modules, up to the scales of the two norms."""
    network = tiny(name)
    model = load(network, verify=False)
    layers, read, write = head_circuits(model), embedding(model), unembedding(model)
    block = model.backend._places["self", 1]
    norm = next(m for n, m in block.block.named_modules() if n in ("ln_1", "input_layernorm"))
    with torch.no_grad():
        x = read[5].float()
        shifted = norm(x) - norm(torch.zeros_like(x))
        v = torch.einsum("d,dk->k", shifted, model.W_V(1)[1 * model.n_kv_heads // model.n_heads])
        out = v @ model.W_O(1)[1]
        if block.attn_norm is not None:
            out = block.attn_norm(out)
        out = out - out.mean() if name in ("gpt2", "gpt_neox") else out
        final = model.backend.logit_parts(out[None], out[None], torch.arange(model.vocab_size)[None])[0].double()
    mine = read[5] @ layers[1].v[1] @ layers[1].o[1] @ write
    assert float(torch.nn.functional.cosine_similarity(mine, final, dim=0)) == pytest.approx(1, abs=1e-5)


def test_norms_left_out_and_their_eigenvalues_in_transformer_lens():
    from transformer_lens import FactoredMatrix

    model = model_of("gpt2")
    layers = head_circuits(model, folded=False)
    found = interp.measures.ov_copying(model, norms="left out").values[..., 0]
    narrow = interp.measures.ov_copying(model, norms="left out", circuit="ov").values[..., 0]
    read, write = embedding(model), unembedding(model, folded=False)
    for layer, one in enumerate(layers):
        torch.testing.assert_close(one.v, model.W_V(layer).double())
        for values, left, right in ((found, read @ one.v, one.o @ write), (narrow, one.v, one.o)):
            own = FactoredMatrix(left, right).eigenvalues
            np.testing.assert_allclose(values[layer], (own.real.sum(-1) / own.abs().sum(-1)).numpy(), atol=1e-6)


def test_the_bridge_gives_the_same_within_the_stream():
    network = tiny("gpt2")
    one = interp.measures.ov_copying(load(network, verify=False), circuit="ov", norms="left out")
    two = interp.measures.ov_copying(load(network, backend="transformer_lens", verify=False), circuit="ov", norms="left out")
    np.testing.assert_allclose(one.values, two.values, atol=1e-6)


@pytest.mark.parametrize(("name", "options", "says"), [
    ("bert", {}, "norms='left out'"), ("t5", {"attention": "cross"}, "norms='left out'"),
    ("deepseek_v3", {}, "norms='left out'"), ("deepseek_v3", {"norms": "left out"}, "latent attention"),
    ("vit", {"norms": "left out"}, "circuit='ov'"), ("llama", {"circuit": "ov", "value": "top1"}, "circuit='full'"),
    ("llama", {"value": "top1", "tokens": 0}, "nothing to count")])
def test_what_is_refused(name, options, says):
    with pytest.raises(InterpError, match=says):
        interp.measures.ov_copying(model_of(name), **options)


@pytest.mark.parametrize(("name", "attention"),
                         [("t5", "cross"), ("bart", "encoder"), ("vit", "vision"), ("bert", "encoder")])
def test_other_attention_within_the_stream(name, attention):
    scores = interp.measures.ov_copying(model_of(name), circuit="ov", norms="left out", attention=attention)
    assert scores.attention == attention
    assert scores.heads[0] == Head(0, 0, attention)
    assert np.isfinite(scores.values).all()
    assert np.abs(scores.values).max() <= 1
