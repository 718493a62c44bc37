"""Value-weighted attention: norms by hand, a sink of large weight that moves nothing, the definition on real passes."""

import numpy as np
import pytest
import torch
from random_batches import model_of, random_batch
from test_other_attention import pairs

import interp
from interp.core.errors import InterpError
from interp.engine.activations import activations
from interp.measures.value_weighted_attention import moved_norms
from interp.models.handmade import HANDMADE
from interp.models.sites import Site


def test_norms_by_hand():
    pattern = torch.tensor([[0.25, 0.75], [1.0, 0.0]])[None, None].expand(1, 2, 2, 2)
    v = torch.tensor([[3.0, 4.0], [0.0, 1.0]])[None, :, None]                                 # one key-value head for two
    w_o = torch.stack([torch.eye(2), torch.tensor([[0.0, 0], [0, 2]])])
    expected = torch.tensor([[[1.25, 0.75], [5, 0]], [[2, 1.5], [8, 0]]], dtype=torch.float64)[None]
    torch.testing.assert_close(moved_norms(pattern, v, w_o), expected)


def test_a_sink_has_the_weight_and_moves_nothing():
    """The match head of the retrieval circuit rests on the first token, whose value it does not take."""
    made = HANDMADE["handmade-retrieval"]()
    model = interp.load(made.model, tokenizer=made.tokenizer)
    batch = interp.tasks.from_tokens([[0, 3, 9, 12]], [[0, 4, 9, 12]], [5], [6], model=model)
    match = made.heads["match"]
    rest = activations(model, batch, [Site("pattern", 0)])[Site("pattern", 0)][0, match.head, -1, 0]
    assert rest > 0.99
    total = interp.measures.value_weighted_attention(model, batch)
    share = interp.measures.value_weighted_attention(model, batch, value="share", keys=0)
    assert total.values[match.layer, match.head, 0] < 0.01
    assert share.values[match.layer, match.head, 0] < 1e-3 or np.isnan(share.values[match.layer, match.head, 0])


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_oss"])
def test_the_definition_on_real_passes(name):
    """Σ_j ‖A_ij v_j W_O‖ written out for each prompt alone; keys and queries by position, NaN for none."""
    model, batch = model_of(name), random_batch(n=2, lengths=(6, 9))
    everywhere = interp.measures.value_weighted_attention(model, batch, positions=("A", "end"))
    some = interp.measures.value_weighted_attention(model, batch, value="share", keys="B")
    late = interp.measures.value_weighted_attention(model, batch, value="share", keys=7)
    for i in range(2):
        one = batch.subset([i])
        length = one.clean.rows()[0].__len__()
        for layer in range(model.n_layers):
            sites = [Site("pattern", layer), Site("v", layer)]
            found = activations(model, one, sites)
            for head in range(model.n_heads):
                moved = found[sites[1]][0, :length, head * model.n_kv_heads // model.n_heads] @ model.W_O(layer)[head]
                norms = (found[sites[0]][0, head, :length, :length, None] * moved).norm(dim=-1).detach().numpy()
                np.testing.assert_allclose(everywhere.values[layer, head, i], [norms[1].sum(), norms[-1].sum()], rtol=1e-4)
                np.testing.assert_allclose(some.values[layer, head, i], norms[-1, 3:5].sum() / norms[-1].sum(), rtol=1e-4)
                expected = norms[-1, 7] / norms[-1].sum() if length > 7 else 0
                np.testing.assert_allclose(late.values[layer, head, i], expected, rtol=1e-4)


@pytest.mark.parametrize(("name", "attention"),
                         [("t5", "cross"), ("bart", "encoder"), ("vit", "vision"), ("bert", "encoder")])
def test_other_attention(name, attention):
    scores = interp.measures.value_weighted_attention(model_of(name), pairs(name), attention=attention)
    assert (scores.values > 0).all()
    first = interp.measures.value_weighted_attention(model_of(name), pairs(name), value="share", keys=0, attention=attention)
    assert ((first.values > 0) & (first.values < 1)).all()


def test_an_unknown_key_is_refused_by_name():
    with pytest.raises(InterpError, match="'C'"):
        interp.measures.value_weighted_attention(model_of("llama"), random_batch(), keys="C")
    with pytest.raises(InterpError, match="1 everywhere"):
        interp.measures.value_weighted_attention(model_of("llama"), random_batch(), value="share")
