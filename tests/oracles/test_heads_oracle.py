"""Weights of heads, rollout and value-weighted attention against numpy on pretrained models; a trained induction circuit."""

import heads_by_numpy
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import interp
from interp.models.sites import Site

STORIES = ["Once upon a time, there was a little girl named Lily.", "Tom and Sue went to the park and saw a bird."]


@pytest.mark.weights
@pytest.mark.parametrize("name", ["stories260K", "babyllama361"])
def test_weights_of_a_story_model(name, weights):
    model, plain = interp.load(weights / name), heads_by_numpy.Llama(weights / name)
    scores, shares = (interp.measures.ov_copying(model, value=value).values for value in ("eigenvalues", "top1"))
    pairs = {kind: interp.measures.composition(model, kind=kind) for kind in "QKV"}
    for layer, head in ((0, 0), (1, 5), (plain.layers - 1, 7)):
        score, share = plain.copying(layer, head)
        assert scores[layer, head, 0] == pytest.approx(score, abs=1e-4)
        assert shares[layer, head, 0] == pytest.approx(share, abs=2 / len(plain.embed))
    for kind, found in pairs.items():
        for later, earlier in (((1, 0), (0, 3)), ((4, 7), (2, 1)), ((3, 2), (0, 0))):
            value = found.at(sender="L{}H{}".format(*earlier)).values[(*later, 0)]
            assert value == pytest.approx(plain.composition(kind, later, earlier), abs=1e-5)


@pytest.mark.weights
def test_rollout_and_value_weighted_attention_of_a_story_model(weights):
    folder = weights / "stories260K"
    model, plain = interp.load(folder), heads_by_numpy.Llama(folder)
    network = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    texts = interp.tasks.from_texts(model, STORIES)
    rolled = interp.measures.attention_rollout(model, texts, keys=2)
    moved = interp.measures.value_weighted_attention(model, texts, value="share", keys=0)
    for i, ids in enumerate(texts.clean.rows()):
        with torch.no_grad():
            out = network(torch.tensor([ids]), output_attentions=True, output_hidden_states=True)
        attentions = np.stack([layer[0].double().numpy() for layer in out.attentions])
        assert rolled.baselines["averaged"][i] == pytest.approx(heads_by_numpy.rollout(attentions)[-1, 2], rel=1e-4)
        for layer, head in ((0, 1), (3, 6)):
            x = out.hidden_states[layer][0].double().numpy()
            x = x / np.sqrt((x**2).mean(-1, keepdims=True) + network.config.rms_norm_eps)
            norms = attentions[layer, head, -1] * np.linalg.norm(x @ plain.ov(layer, head), axis=-1)
            assert moved.values[layer, head, i] == pytest.approx(norms[0] / norms.sum(), rel=1e-3)


@pytest.mark.weights
def test_a_trained_induction_circuit_shows_in_its_weights(weights):
    """Attention only, two layers: the heads of layer 1 read the keys that the previous-token head wrote, and copy."""
    model = interp.load(weights / "induction-2L")
    draw = torch.Generator().manual_seed(0)
    once = torch.randint(1, 127, (8, 16), generator=draw)
    with torch.no_grad():
        run = model.run({"input_ids": once.repeat(1, 2)}, capture=[Site("pattern", 0)])
    previous = int(run.captured[Site("pattern", 0)].mean(0).diagonal(-1, 1, 2).mean(-1).argmax())
    copies = interp.measures.ov_copying(model, norms="left out").values[1, :, 0]
    assert copies.min() > 0.99
    keys = interp.measures.composition(model, kind="K", norms="left out").values[1, :, 0, :4]
    assert (keys.argmax(1) == previous).all()
    assert keys[:, previous].min() > 0.15
    assert np.delete(keys, previous, axis=1).max() < 0
