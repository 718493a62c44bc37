"""Direct logit attribution: the parts sum to the logit difference on every decoder, and to what was written by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from random_batches import DECODERS, model_of, random_batch

import interp
from interp.core.errors import InterpError
from interp.engine.forward import run
from interp.measures.logit_decomposition import logit_decomposition
from interp.models.load import load
from interp.models.tiny import inputs, tiny
from interp.tasks.metrics import METRICS


@pytest.mark.parametrize("architecture", DECODERS)
@pytest.mark.parametrize("best", [False, True])
def test_parts_sum_to_the_logit_difference(architecture, best):
    """Of the untouched network's own logits: read at its unembedding, before any soft cap."""
    batch = random_batch(n=4, lengths=(6, 8))
    split = logit_decomposition(model_of(architecture), batch, best=best)
    network = tiny(architecture)
    before_cap = []
    handle = network.get_output_embeddings().register_forward_hook(lambda _, args, out: before_cap.append(out))
    expected = []
    for i in range(batch.n):
        one = batch.subset([i])
        with torch.no_grad():
            network(**one.clean.inputs)
        logits = before_cap[-1][0, -1].double()
        wrong = logits[one.wrong[0]].max() if best else logits[one.wrong[0]].mean()
        expected.append(float(logits[one.answers[0, 0]] - wrong))
    handle.remove()
    np.testing.assert_allclose(split.total, expected, atol=1e-4)
    np.testing.assert_allclose(np.sum(list(split.parts().values()), axis=0), expected, atol=1e-4)
    assert np.abs(split.rest()).max() < 1e-4
    assert min(np.abs(part).max() for part in (split.heads, split.mlps, split.embedding)) > 1e-2


@pytest.mark.parametrize("architecture", ["gpt2", "gemma2", "gpt_neox"])
def test_scores_are_the_heads_of_the_split(architecture):
    model, batch = model_of(architecture), random_batch(n=4, lengths=(6, 8))
    scores, split = interp.measures.direct_logit_attribution(model, batch), logit_decomposition(model, batch)
    np.testing.assert_array_equal(scores.values, split.heads)
    np.testing.assert_array_equal(scores.normalizer, split.total)
    contrast = interp.measures.direct_logit_attribution(model, batch, contrast="corrupt")
    np.testing.assert_allclose(
        contrast.values, split.heads - logit_decomposition(model, batch, on="corrupt").heads, atol=1e-12
    )
    assert scores.provenance.options["logits"] == "before a final soft cap, if the model has one"


def test_the_best_wrong_answer_is_that_of_the_clean_run():
    model, batch = model_of("gpt2"), random_batch(n=6)
    mean, best = (
        interp.measures.direct_logit_attribution(model, batch, wrong=w, contrast="corrupt") for w in ("mean", "best")
    )
    by_metric = interp.measures.direct_logit_attribution(model, batch.with_metric("logit_diff_max"), contrast="corrupt")
    np.testing.assert_array_equal(by_metric.values, best.values)
    assert (mean.provenance.metric, best.provenance.metric) == ("logit_diff", "logit_diff_max")
    leader = logit_decomposition(model, batch, best=True)
    np.testing.assert_array_equal(best.baselines["clean"], leader.total)
    single = replace(batch, wrong=leaders(model, batch)[:, None], wrong_mask=batch.wrong_mask[:, :1])
    expected = interp.measures.direct_logit_attribution(model, single, contrast="corrupt")
    np.testing.assert_allclose(best.values, expected.values, atol=1e-5)


def leaders(model, batch):
    """The wrong answer of the largest logit in the clean run [prompt]."""
    logits = run(model, batch).logits
    return batch.wrong.gather(1, logits.gather(1, batch.wrong).argmax(1, keepdim=True))[:, 0]


def test_refused_without_wrong_answers():
    batch = random_batch()
    none = replace(batch, wrong_mask=torch.zeros_like(batch.wrong_mask), metric=METRICS["answer_logprob"])
    with pytest.raises(InterpError, match="no wrong answer"):
        interp.measures.direct_logit_attribution(model_of("gpt2"), none)


def test_a_head_by_hand():
    """One head of GPT-2: z at the last token, W_O, the final norm's scale, the unembedding of answer minus wrong answers."""
    model, batch, network = model_of("gpt2"), random_batch(), tiny("gpt2")
    seen = {}
    hooks = [
        network.transformer.h[1].attn.c_proj.register_forward_pre_hook(lambda _, args: seen.update(z=args[0])),
        network.transformer.ln_f.register_forward_pre_hook(lambda _, args: seen.update(resid=args[0])),
    ]
    with torch.no_grad():
        network(**batch.clean.inputs)
    for hook in hooks:
        hook.remove()
    W_O = network.transformer.h[1].attn.c_proj.weight.detach()
    resid, final = seen["resid"][:, -1], network.transformer.ln_f
    scale = ((resid - resid.mean(1, keepdim=True)) ** 2).mean(1, keepdim=True).add(final.eps).sqrt()
    W_U = network.lm_head.weight.detach()
    scores = interp.measures.direct_logit_attribution(model, batch)
    for head in range(4):
        part = seen["z"][:, -1, 8 * head : 8 * head + 8] @ W_O[8 * head : 8 * head + 8]
        normed = (part - part.mean(1, keepdim=True)) / scale * final.weight.detach()
        direction = W_U[batch.answers[:, 0]] - W_U[batch.wrong].mean(1)
        np.testing.assert_allclose(scores.values[1, head], (normed * direction).sum(1), atol=1e-4)


@pytest.mark.parametrize("architecture", ["bert", "t5", "bart", "vit"])
def test_refused_where_the_stream_is_no_sum_up_to_the_logits(architecture):
    model = load(tiny(architecture), verify=False)
    assert inputs(architecture)
    with pytest.raises(InterpError, match="decoder-only"):
        interp.measures.direct_logit_attribution(model, random_batch())
