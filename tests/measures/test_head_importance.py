"""Head importance by gradient: the derivative by a gate on the head, found by finite differences with plain hooks."""

import numpy as np
import pytest
import slow_path
import torch
from random_batches import FEW, model_of, random_batch

import interp
from interp.core.errors import InterpError
from interp.models.load import load
from interp.models.tiny import tiny


@pytest.mark.parametrize("architecture", FEW)
def test_is_the_derivative_by_a_gate(architecture):
    step, batch = 3e-3, random_batch(n=2)
    slow = slow_path.untouched(architecture)
    scores = interp.measures.head_importance(load(tiny(architecture), verify=False), batch)

    def loss(gate, layer, head):
        logits = slow_path.patched_logits(architecture, slow, batch.clean.inputs, layer, head, "z", lambda old: gate * old)
        return -logits[:, -1].log_softmax(-1).gather(1, batch.answers)[:, 0].numpy()

    for layer in range(3):
        for head in range(4):
            slope = (loss(1 + step, layer, head) - loss(1 - step, layer, head)) / (2 * step)
            np.testing.assert_allclose(scores.values[layer, head], np.abs(slope), rtol=5e-3, atol=1e-3)
    assert scores.values.max() > 0.1
    np.testing.assert_allclose(-scores.baselines["clean"], loss(1.0, 0, 0), rtol=1e-4)
    assert scores.provenance.metric == "answer_logprob"


def test_published_normalisation_by_layer():
    model, batch = model_of("gpt2"), random_batch(n=5)
    raw, normal = (interp.measures.head_importance(model, batch, normalize_layers=on) for on in (False, True))
    expected = raw.mean() / np.sqrt((raw.mean() ** 2).sum(1, keepdims=True))
    np.testing.assert_allclose(normal.mean(), expected)
    np.testing.assert_allclose((normal.mean() ** 2).sum(1), 1)
    assert normal.normalizer is None


def test_a_silent_layer_cannot_be_normalised():
    network = tiny("gpt2")
    torch.nn.init.zeros_(network.transformer.h[1].attn.c_proj.weight)
    with pytest.raises(InterpError, match="layer 1"):
        interp.measures.head_importance(load(network, verify=False), random_batch(), normalize_layers=True)


def test_absolute_values_by_token_are_never_smaller():
    model, batch = model_of("llama"), random_batch(n=4, lengths=(6, 9))
    by_prompt, by_token = (interp.measures.head_importance(model, batch, absolute=a).values for a in ("prompt", "token"))
    assert (by_token >= by_prompt - 1e-9).all()
    assert (by_token > by_prompt + 1e-6).any()


def test_the_metric_in_place_of_the_loss():
    model, batch = model_of("llama"), random_batch(n=4)
    scores = interp.measures.head_importance(model, batch, loss="metric")
    assert scores.provenance.metric == "logit_diff"
    assert not np.allclose(scores.values, interp.measures.head_importance(model, batch).values)
    with pytest.raises(InterpError):
        interp.measures.head_importance(model, batch, loss="metric", metric="accuracy")


def test_a_metric_is_refused_where_the_loss_does_not_use_it():
    model = interp.load(tiny("llama"))
    batch = interp.tasks.from_tokens([[3, 4, 5]], [[3, 6, 5]], answer=[7], wrong=[8])
    with pytest.raises(InterpError, match="loss='metric'"):
        interp.measures.head_importance(model, batch, metric="answer_logprob")


@pytest.mark.parametrize(("positions", "says"), [(("end", "end"), "named twice"), (("each", "end"), "stands alone")])
def test_positions_that_make_no_axis_are_refused(positions, says):
    model = interp.load(tiny("llama"))
    batch = interp.tasks.from_tokens([[3, 4, 5]], [[3, 6, 5]], answer=[7], wrong=[8])
    with pytest.raises(InterpError, match=says):
        interp.measures.activation_patching(model, batch, positions=positions)


def test_one_prompt_gives_no_fraction():
    model = interp.load(tiny("llama"))
    batch = interp.tasks.from_tokens([[3, 4, 5]], [[3, 6, 5]], answer=[7], wrong=[8])
    scores = interp.measures.activation_patching(model, batch)
    with pytest.raises(InterpError, match="no interval"):
        scores.normalized()
    assert scores.top(1)["normalized"].isna().all()
