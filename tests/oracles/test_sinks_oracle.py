"""Sink measures against a second implementation on transformers' own attentions: two story models, an image network and an
encoder."""

import functools
import gzip
import struct

import numpy as np
import pytest
import sinks_by_transformers as oracle
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForImageClassification

import interp
from interp.models.sites import Site
from interp.tasks import from_inputs, from_texts

STORIES = [
    "Once upon a time, there was a little girl named Lily. She had a big red ball and a small dog named Max. One day, Lily",
    "There was an old man named Ben who lived in a green house near the lake. Every morning, the old man",
]
NAMES = ["stories260K", "babyllama361", "mnist-vit", "bart-g2p-us"]
CLASSES = {"mnist-vit": AutoModelForImageClassification, "bart-g2p-us": AutoModel}


def images(folder, n):
    raw = gzip.decompress(next(folder.glob("*images*.gz")).read_bytes())
    _, _, height, width = struct.unpack(">4I", raw[:16])
    pixels = np.frombuffer(raw[16 : 16 + n * height * width], dtype=np.uint8).reshape(n, 1, height, width)
    return torch.tensor((pixels / 255 - 0.1307) / 0.3081, dtype=torch.float32)


@functools.cache
def case(name, weights):
    """The model, its prompts, whether its attention is causal, and per prompt what transformers gives."""
    model = interp.load(weights / name, verify=False)
    network = CLASSES.get(name, AutoModelForCausalLM).from_pretrained(weights / name, attn_implementation="eager").eval()
    if name == "mnist-vit":
        batch = from_inputs({"pixel_values": images(weights / "mnist-test", 2)})
        given = [{"pixel_values": batch.clean.inputs["pixel_values"][i : i + 1]} for i in range(2)]
    elif name == "bart-g2p-us":
        ids = torch.randint(4, network.config.vocab_size, (2, 12), generator=torch.Generator().manual_seed(0))
        batch = from_inputs({"input_ids": ids, "attention_mask": torch.ones_like(ids), "decoder_input_ids": ids[:, :4]})
        given = [{"input_ids": ids[i : i + 1], "decoder_input_ids": ids[i : i + 1, :4]} for i in range(2)]
    else:
        batch = from_texts(model, STORIES)
        given = [{"input_ids": torch.tensor([row])} for row in batch.clean.rows()]
    which, attention = ("encoder_attentions", "encoder") if name == "bart-g2p-us" else ("attentions", None)
    return model, batch, attention, model.stack(attention).causal, [oracle.attentions(network, which, **x) for x in given]


@pytest.fixture(params=NAMES)
def real(request, weights):
    return case(request.param, weights)


def agree(scores, want, atol=1e-5):
    for i, one in enumerate(want):
        np.testing.assert_allclose(scores.values[:, :, i], one, atol=atol)


@pytest.mark.weights
@pytest.mark.parametrize("value", ["weight", "rows", "indicator"])
def test_first_token(value, real):
    model, batch, attention, causal, found = real
    scores = interp.measures.first_token_sink(model, batch, value=value, horizon=None, attention=attention)
    want = [oracle.first_token(pattern, causal, value) for pattern, _ in found]
    agree(scores, want)
    assert value != "weight" or np.ptp(want) > 0.005


@pytest.mark.weights
@pytest.mark.parametrize("spare", ["none", "first token", "first detected"])
@pytest.mark.parametrize("rule", ["of the length", "fixed"])
def test_anywhere(rule, spare, real):
    model, batch, attention, causal, found = real
    scores = interp.measures.sinks_anywhere(model, batch, rule=rule, spare=spare, attention=attention)
    agree(scores, [oracle.anywhere(pattern, causal, rule, spare) for pattern, _ in found])


@pytest.mark.weights
def test_massive_tokens(real):
    """With a low threshold, so that real hidden states of small networks pass it; dimensions as found by the measure."""
    model, batch, attention, causal, found = real
    scores = interp.measures.massive_activation_sinks(model, batch, tau=3.0, first_layer=0, attention=attention)
    dimensions = scores.provenance.options["massive_dimensions"]
    assert dimensions
    agree(scores, [oracle.massive(*one, causal, tau=3.0, dimensions=dimensions, first_layer=0) for one in found])
    options = {"rule": "norm", "ratio": 1.1, "first_layer": 0, "attention": attention}
    norms = interp.measures.massive_activation_sinks(model, batch, **options)
    agree(norms, [oracle.by_norm(*one, causal, 1.1, 0) for one in found])
    assert norms.values.any()


@pytest.mark.weights
@pytest.mark.parametrize("name", NAMES[:2])
def test_secondary_sinks(name, weights):
    """Tokens, start and lifetime at a low cosine. transformers' last hidden state stands after the final norm, so that the
    window may only end there in one of the two: it is given ours."""
    model, batch, _, _, found = case(name, weights)
    levels = interp.measures.sink_tokens(model, batch, cosine=0.3)
    levels = levels[levels.lifetime > 0]
    for i, (_, hidden) in enumerate(found):
        hidden = hidden.copy()
        site = Site("resid_post", model.n_layers - 1)
        run = model.run({"input_ids": torch.tensor([batch.clean.rows()[i]])}, None, [site])
        hidden[-1] = run.captured[site][0].numpy()
        want, window = oracle.secondary(hidden, model.n_layers, 0.3)
        mine = levels[levels.prompt == i].set_index("position")
        primary = mine[mine.label == "primary"].iloc[:1]
        assert (primary.start.item(), primary.start.item() + primary.lifetime.item()) == window
        others = mine.drop(index=primary.index)
        assert {at: (row.start, row.lifetime) for at, row in others.iterrows()} == want
        assert want


@pytest.mark.weights
def test_table(real):
    model, batch, attention, causal, found = real
    table = interp.measures.sink_table(model, batch, attention=attention)
    weight = np.mean([oracle.first_token(pattern, causal, "weight") for pattern, _ in found], axis=0)
    np.testing.assert_allclose(table.first_weight, weight.ravel(), atol=1e-5)
    rows = [pattern[..., 1:, :] if causal else pattern for pattern, _ in found]
    free = np.mean([row[..., 1:].sum(-1).mean(-1) for row in rows], axis=0)
    np.testing.assert_allclose(table.sink_free, free.ravel(), atol=1e-5)
