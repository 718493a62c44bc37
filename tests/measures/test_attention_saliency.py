"""Attention against saliency: correlations by hand, saliency by the network itself and plain hooks, completeness."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from random_batches import model_of, random_batch
from scipy import stats
from test_other_attention import logit_diff, pairs

import interp
from interp.core.errors import InterpError
from interp.engine.activations import activations
from interp.measures.attention_saliency import correlate
from interp.measures.saliency import saliency
from interp.models.handmade import HANDMADE
from interp.models.load import load
from interp.models.sites import Site
from interp.models.tiny import tiny


def test_correlations_by_hand():
    up, down = np.array([1.0, 2, 3, 4]), np.array([4.0, 3, 2, 1])
    for how in ("kendall", "spearman", "pearson"):
        assert correlate(up, up, how) == pytest.approx(1)
        assert correlate(up, down, how) == pytest.approx(-1)
    assert correlate(up, np.array([1.0, 2, 4, 3]), "kendall") == pytest.approx(2 / 3)      # five pairs agree, one does not
    assert correlate(up, np.array([1.0, 4, 9, 16]), "spearman") == pytest.approx(1)
    assert np.isnan(correlate(up, np.ones(4), "kendall"))
    assert np.isnan(correlate(up[:2], up[:2], "pearson"))


@pytest.fixture(scope="module")
def llama():
    return load(tiny("llama"), verify=False)


@pytest.fixture(scope="module")
def batch():
    return random_batch(n=3, lengths=(6, 8))


def by_embedding(network, batch, i, change):
    """The metric of prompt ``i`` alone, after ``change`` of what the embedding returns [token, d]; plain hooks."""
    ids = torch.tensor([batch.subset([i]).clean.rows()[0]])
    handle = network.get_input_embeddings().register_forward_hook(lambda _, args, out: change(out[0])[None])
    with torch.no_grad():
        logits = network(input_ids=ids).logits[0, -1].double()
    handle.remove()
    wrong = batch.wrong[i][batch.wrong_mask[i].bool()]
    return float(logits[batch.answers[i, 0]] - logits[wrong].mean())


def test_gradients_by_the_networks_own(llama, batch):
    network = tiny("llama")
    found = {by: saliency(llama, batch, Site("resid_pre", 0), by, batch.metric).tokens
             for by in ("gradient x input", "gradient")}
    for i in range(2):
        ids = torch.tensor([batch.subset([i]).clean.rows()[0]])
        x = network.get_input_embeddings()(ids).detach().requires_grad_()
        logits = network(inputs_embeds=x).logits[0, -1]
        wrong = batch.wrong[i][batch.wrong_mask[i].bool()]
        (logits[batch.answers[i, 0]] - logits[wrong].mean()).backward()
        length = ids.shape[1]
        np.testing.assert_allclose(found["gradient"][i, :length], x.grad[0].norm(dim=-1), rtol=1e-4)
        by_input = (x * x.grad)[0].sum(-1).detach().abs()
        np.testing.assert_allclose(found["gradient x input"][i, :length], by_input, rtol=1e-3, atol=1e-5)
        assert all((rows[i, length:] == 0).all() for rows in found.values())


@pytest.mark.parametrize("baseline", ["mean", "zero"])
def test_occlusion_by_plain_hooks(llama, batch, baseline):
    network = tiny("llama")
    found = saliency(llama, batch, Site("resid_pre", 0), "occlusion", batch.metric, baseline=baseline).tokens
    for i in range(2):
        clean = by_embedding(network, batch, i, lambda x: x)
        for token in (0, 2, len(batch.subset([i]).clean.rows()[0]) - 1):
            def without(x, token=token):
                start = x.mean(0) if baseline == "mean" else torch.zeros_like(x[0])
                return torch.where((torch.arange(len(x)) == token)[:, None], start, x)

            assert found[i, token] == pytest.approx(abs(clean - by_embedding(network, batch, i, without)), abs=1e-5)


def test_integrated_gradients_add_up(llama, batch):
    """Completeness: the residual shrinks with the steps; the difference is that of plain runs."""
    network = tiny("llama")
    few, many = (saliency(llama, batch, Site("resid_pre", 0), "integrated gradients", batch.metric, steps=steps).facts
                 for steps in (4, 32))
    expected = [by_embedding(network, batch, i, lambda x: x)
                - by_embedding(network, batch, i, lambda x: x.mean(0).expand_as(x)) for i in range(3)]
    np.testing.assert_allclose(many["difference"], expected, atol=1e-5)
    assert np.abs(many["residual"]).max() < 0.02 * np.abs(many["difference"]).max()
    assert np.abs(many["residual"]).sum() < np.abs(few["residual"]).sum()


def test_the_correlation_is_of_the_answers_row(llama, batch):
    scores = interp.measures.attention_saliency(llama, batch, correlation="spearman")
    salient = saliency(llama, batch, Site("resid_pre", 0), "gradient x input", batch.metric).tokens
    for i in range(3):
        length = len(batch.subset([i]).clean.rows()[0])
        rows = activations(llama, batch.subset([i]), [Site("pattern", 1)])[Site("pattern", 1)][0, :, length - 1, :length]
        expected = [stats.spearmanr(row.numpy(), salient[i, :length]).statistic for row in rows]
        np.testing.assert_allclose(scores.values[1, :, i], expected, atol=1e-9)
    assert scores.signed


def test_the_copy_head_attends_to_what_matters():
    """By occlusion only value and query tokens matter for retrieval; the copy head attends to the value alone."""
    made = HANDMADE["handmade-retrieval"](beta=6.0)
    model = interp.load(made.model, tokenizer=made.tokenizer)
    drawn = made.pairs(6, 0)
    batch = interp.tasks.from_tokens([p.clean for p in drawn], [p.corrupt for p in drawn], [p.answer for p in drawn],
                                     [p.wrong for p in drawn], model=model)
    scores = interp.measures.attention_saliency(model, batch, of="states", saliency_by="gradient", correlation="pearson")
    copy, silent = made.heads["copy"], (1, 1)
    assert scores.mean()[copy.layer, copy.head] > 0.3 > scores.mean()[silent]


@pytest.mark.parametrize(("name", "attention"), [("t5", "cross"), ("bart", "cross"), ("t5", "encoder"), ("bert", "encoder")])
def test_cross_attention_and_encoders(name, attention):
    model, batch = load(tiny(name), verify=False), pairs(name)
    for options in ({}, {"of": "states"}, {"saliency_by": "occlusion", "correlation": "pearson"}):
        scores = interp.measures.attention_saliency(model, batch, attention=attention, **options)
        assert scores.attention == attention
        assert np.isfinite(scores.values).all()
        assert np.abs(scores.values).max() <= 1 + 1e-9


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_cross_attention_by_plain_hooks(name):
    """Occlusion of the encoder's first stream, and transformers' own cross-attention."""
    batch, network = pairs(name), tiny(name, attn_implementation="eager")
    model = load(tiny(name), verify=False)
    scores = interp.measures.attention_saliency(model, batch, attention="cross", saliency_by="occlusion", baseline="zero",
                                                correlation="pearson")
    first = network.encoder.block[0] if name == "t5" else network.model.encoder.layers[0]
    change = []

    def occlude(_, args, given):
        x = (args[0] if args else given["hidden_states"]).clone()
        x[:, change[0]] = 0
        return ((x, *args[1:]), given) if args else (args, {**given, "hidden_states": x})

    clean = logit_diff(network, batch.clean, batch)
    length = batch.clean["input_ids"].shape[1]
    salient = []
    for token in range(length):
        change[:] = [token]
        handle = first.register_forward_pre_hook(occlude, with_kwargs=True)
        salient.append(np.abs(clean - logit_diff(network, batch.clean, batch)))
        handle.remove()
    with torch.no_grad():
        cross = network(**batch.clean, output_attentions=True).cross_attentions
    for i in range(batch.n):
        seen = batch.clean["attention_mask"][i].bool().numpy() if "attention_mask" in batch.clean else np.ones(length, bool)
        for layer, weights in enumerate(cross):
            rows = weights[i, :, int(batch.answer_position[i])].double().numpy()[:, seen]
            expected = [stats.pearsonr(row, np.array(salient)[seen, i]).statistic for row in rows]
            np.testing.assert_allclose(scores.values[layer, :, i], expected, atol=2e-3)


@pytest.mark.weights
def test_a_pretrained_aligner_attends_to_what_matters(weights):
    """Spelling to phonemes: the one cross-attention head follows the letters; more closely in states than in the input."""
    model = interp.load(weights / "bart-g2p-us")
    words = ["banana", "kitchen", "window", "thunder", "picture", "garden"]
    given = model.tokenizer(words, return_tensors="pt", padding=True)
    given = {name: given[name] for name in ("input_ids", "attention_mask")}
    out = model.weights.generate(**given, max_new_tokens=8, num_beams=1, do_sample=False)
    inputs, answers = {**given, "decoder_input_ids": out[:, :5]}, out[:, 5:6]
    batch = replace(pairs("bart"), clean=inputs, corrupt=inputs, answers=answers, wrong=answers + 1,
                    answer_position=torch.full((len(words),), 4))
    by = {of: interp.measures.attention_saliency(model, batch, attention="cross", saliency_by="occlusion", of=of,
                                                 correlation="pearson").mean()[0, 0] for of in ("states", "input")}
    assert by["states"] > 0.9
    assert by["states"] > by["input"] > 0.4


def test_gradient_times_state_vanishes_behind_a_norm(llama, batch):
    """Euler: what does not change with the length of x has x · ∂m/∂x = 0. True of all tokens but the answer's."""
    last, first = (saliency(llama, batch, Site("resid_pre", layer), "gradient x input", batch.metric).tokens
                   for layer in (2, 0))
    for i in range(3):
        length = len(batch.subset([i]).clean.rows()[0])
        assert last[i, : length - 1].max() < 1e-4 * first[i, : length - 1].max()
    with pytest.raises(InterpError, match="length of a vector"):
        interp.measures.attention_saliency(llama, batch, of="states", saliency_by="gradient x input")


def test_what_is_refused(llama, batch):
    with pytest.raises(InterpError, match="patches are no tokens"):
        interp.measures.attention_saliency(model_of("vit"), pairs("vit"))
    with pytest.raises(InterpError, match="does not change smoothly"):
        interp.measures.attention_saliency(llama, batch, metric="accuracy")
    with pytest.raises(InterpError, match="nothing to sum"):
        interp.measures.attention_saliency(llama, batch, steps=0)
