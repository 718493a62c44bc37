"""Copying score: shares by hand, hand-made copy heads, and the definition written out on transformers' own modules."""

import numpy as np
import pytest
import torch
from random_batches import model_of, random_batch

import interp
from interp.core.errors import InterpError
from interp.measures.copying_score import copied_by_query
from interp.models.handmade import HANDMADE
from interp.models.load import load
from interp.models.tiny import tiny


def test_shares_by_hand():
    logits = torch.tensor([[3.0, 0, 0], [0, 3, 0], [1, 1, 1], [2, 1, -3]])      # centred: 2 −1 −1; ...; 0; 2 1 −3
    weights = torch.tensor([[1.0, 0, 0], [0.25, 0.75, 0], [1, 0, 0], [0.5, 0.25, 0.25]])
    torch.testing.assert_close(copied_by_query(logits, weights), torch.tensor([1, 0.75, 0, 0.5 * 2 / 3 + 0.25 / 3]))
    torch.testing.assert_close(copied_by_query(logits, weights, attended="largest"), torch.tensor([1, 1, 0, 2 / 3]))
    torch.testing.assert_close(copied_by_query(logits, weights, "logit"), torch.tensor([2, 1.25, 0, 0.5]))
    torch.testing.assert_close(copied_by_query(-logits, weights, "logit"), -torch.tensor([2, 1.25, 0, 0.5]))


def test_the_induction_head_copies_and_the_silent_one_does_not():
    made = HANDMADE["handmade-induction"]()
    model = interp.load(made.model, tokenizer=made.tokenizer)
    drawn = made.pairs(4, 0)
    batch = interp.tasks.from_tokens([p.clean for p in drawn], [p.corrupt for p in drawn], [p.answer for p in drawn],
                                     [p.wrong for p in drawn], model=model)
    scores = interp.measures.copying_score(model, batch, positions="end")
    induction, silent = made.heads["induction"], made.heads["silent induction"]
    np.testing.assert_allclose(scores.values[induction.layer, induction.head], 1, atol=1e-6)
    np.testing.assert_allclose(scores.values[silent.layer, silent.head], 0)
    # on earlier queries there is no match: attention, and what is written, are even over the i + 1 visible tokens
    everywhere = interp.measures.copying_score(model, batch).values[induction.layer, induction.head]
    length = len(drawn[0].clean)
    np.testing.assert_allclose(everywhere, np.mean([1 / (i + 1) for i in range(1, length - 1)] + [1]), atol=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_the_definition_on_the_networks_own_modules(name):
    network = tiny(name, attn_implementation="eager")
    model, batch = load(tiny(name), verify=False), random_batch(n=2, lengths=(6, 8))
    scores = interp.measures.copying_score(model, batch)
    for i in range(2):
        ids = torch.tensor([batch.subset([i]).clean.rows()[0]])
        block = network.transformer.h[1].attn.c_proj if name == "gpt2" else network.model.layers[1].self_attn.o_proj
        norm = network.transformer.ln_f if name == "gpt2" else network.model.norm
        seen = {}
        handles = [block.register_forward_pre_hook(lambda _, args, seen=seen: seen.update(z=args[0][0])),
                   norm.register_forward_pre_hook(lambda _, args, seen=seen: seen.update(resid=args[0][0]))]
        with torch.no_grad():
            attention = network(input_ids=ids, output_attentions=True).attentions[1][0].double()
            for handle in handles:
                handle.remove()
            weight = block.weight if name == "gpt2" else block.weight.T
            for head in range(4):
                write = seen["z"][:, 8 * head : 8 * head + 8] @ weight[8 * head : 8 * head + 8]
                x = seen["resid"]
                if name == "gpt2":
                    scale = (x.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
                    write = (write - write.mean(-1, keepdim=True)) / scale * norm.weight
                else:
                    write = write / (x.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon).sqrt() * norm.weight
                logits = (write @ network.lm_head.weight.T).double()
                shares = []
                for query in range(1, ids.shape[1]):
                    distinct = sorted(set(ids[0].tolist()))
                    c = np.array([logits[query, t] for t in distinct])
                    raised = np.maximum(c - c.mean(), 0)
                    w = np.array([float(attention[head, query][ids[0] == t].sum()) for t in distinct])
                    shares.append((w * raised).sum() / raised.sum())
                np.testing.assert_allclose(scores.values[1, head, i], np.mean(shares), rtol=1e-3)


def test_the_horizon_and_texts():
    model = model_of("llama")
    batch = random_batch(n=2, lengths=(9,))
    short = interp.measures.copying_score(model, batch, horizon=4, positions="each")
    assert np.isfinite(short.values[..., 1:4]).all()
    assert np.isnan(short.values[..., 4:]).all()
    assert np.isnan(short.values[..., 0]).all()
    texts = interp.tasks.random_texts(model, n=3, length=12)
    assert np.isfinite(interp.measures.copying_score(model, texts).values).all()


def test_encoders_are_refused():
    with pytest.raises(InterpError, match="decoder-only"):
        interp.measures.copying_score(model_of("bert"), random_batch())
