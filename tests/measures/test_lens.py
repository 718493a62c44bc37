"""The logit lens of heads and layers, early excitation and anti-overconfidence, against plain modules."""

import numpy as np
import pytest
import torch
from random_batches import FEW, random_batch, shallow

import interp
from interp.core.errors import InterpError
from interp.engine.forward import run
from interp.measures.lens import LayerLens, layer_lens
from interp.models.load import load
from interp.models.tiny import tiny

early_excitation, logit_lens = interp.measures.early_excitation, interp.measures.logit_lens
anti_overconfidence = interp.measures.anti_overconfidence


@pytest.fixture(scope="module")
def batch():
    return random_batch(n=4, lengths=(7, 9))


@pytest.fixture(scope="module")
def models():
    return {name: load(shallow(name), verify=False) for name in FEW}


@pytest.mark.parametrize("architecture", [name for name in FEW if name != "gemma2"])     # whose logits have a soft cap
def test_the_lens_of_the_last_layer_is_the_model(architecture, models, batch):
    found, logits = layer_lens(models[architecture], batch), run(models[architecture], batch).logits.double()
    own = logits.gather(1, batch.answers)
    np.testing.assert_allclose(found.logits[-1], own[:, 0], atol=1e-5)
    np.testing.assert_allclose(found.logprobs[-1], (own - logits.logsumexp(1, keepdim=True))[:, 0], atol=1e-5)
    np.testing.assert_array_equal(found.ranks[-1], (logits > own).sum(1))
    said = layer_lens(models[architecture], batch, token="predicted")
    assert (said.ranks[-1] == 0).all()
    assert not said.early().any()


@pytest.mark.parametrize("architecture", FEW)
def test_lens_by_plain_modules(architecture, models, batch):
    """The last norm and unembedding of the network as transformers made it, on its own hidden states."""
    network = shallow(architecture)
    ends = {"gpt2": ("transformer", "ln_f"), "gpt_neox": ("gpt_neox", "final_layer_norm")}
    base, norm = ends.get(architecture, ("model", "norm"))
    head, norm = network.get_output_embeddings(), getattr(getattr(network, base), norm)
    found = layer_lens(models[architecture], batch)
    for i in range(batch.n):
        one = batch.subset([i])
        with torch.no_grad():
            states = network(**one.clean.inputs, output_hidden_states=True).hidden_states
            logits = torch.stack([head(norm(state[0, -1])) for state in states[:-1]])        # the last comes with its norm
        np.testing.assert_allclose(found.logits[: len(logits), i], logits[:, one.answers[0, 0]], atol=1e-5)
        np.testing.assert_array_equal(found.ranks[: len(logits), i], (logits > logits[:, one.answers[0]]).sum(1))


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_lens_logits_of_heads_are_their_direct_logit_attribution(architecture, models, batch):
    model = models[architecture]
    answer = logit_lens(model, batch, value="logit").values
    direct = interp.measures.direct_logit_attribution(model, batch).values
    both = np.mean([_of_column(model, batch, i) for i in range(batch.wrong.shape[1])], axis=0)
    np.testing.assert_allclose(answer - both, direct, atol=1e-5)


def _of_column(model, batch, i):
    """Lens logits of the i-th wrong answer of each prompt."""
    found = [logit_lens(model, batch.subset([row]), value="logit", token=int(batch.wrong[row, i])).values
             for row in range(batch.n)]
    return np.concatenate(found, axis=2)


def test_peak_early_and_hidden_by_hand():
    ranks = np.array([[50, 9, 40], [0, 3, 40], [2, 3, 10], [0, 5, 10]], dtype=float)
    found = LayerLens(ranks, ranks, ranks, 32)
    assert found.peak().tolist() == [1, 1, 2]
    assert found.early().tolist() == [False, True, False]
    assert found.hidden().tolist() == [False, True, False]         # said; among the first 5 of 32; too far down
    assert found.hidden(0.5).tolist() == [False, True, True]


def test_order_of_prompts_and_the_other_backend_change_nothing(batch):
    network = shallow("gpt2")
    model, order = load(network, verify=False), [2, 0, 3, 1]
    bridge = load(network, backend="transformer_lens", verify=False)
    for measure in (logit_lens, early_excitation, anti_overconfidence):
        scores = measure(model, batch)
        np.testing.assert_allclose(measure(model, batch.subset(order)).values, scores.values[:, :, order], atol=1e-5)
        np.testing.assert_allclose(measure(bridge, batch).values, scores.values, atol=1e-4)


def test_what_cannot_be_looked_up_is_refused(models, batch):
    with pytest.raises(InterpError, match="has tokens 0 to 96"):
        logit_lens(models["gpt2"], batch, token=97)
    texts = interp.tasks.random_texts(models["gpt2"], n=2, length=6)
    with pytest.raises(InterpError, match="no counterfactual"):
        logit_lens(models["gpt2"], texts)
    assert (logit_lens(models["gpt2"], texts, token="predicted").values > 0).all()
    with pytest.raises(InterpError, match="no decoder-only"):
        layer_lens(load(tiny("bert"), verify=False), texts)
