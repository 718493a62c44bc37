"""Measures of attention patterns against a second implementation on transformers' own attentions, on pretrained models."""

import numpy as np
import patterns_by_transformers as slow
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, ViTModel

import interp

pytestmark = pytest.mark.weights
TEXTS = ["Once upon a time, there was a little girl named Lily. Lily had a big red ball and a small dog.",
         "Tom and Sue went to the park. They saw a blue bird. Tom said to Sue"]


@pytest.fixture(scope="module", params=["stories260K", "babyllama361"])
def story(request, weights):
    """A story model, its texts, and transformers' patterns of each."""
    model = interp.load(weights / request.param)
    network = AutoModelForCausalLM.from_pretrained(weights / request.param, attn_implementation="eager").eval()
    texts = interp.tasks.from_texts(model, TEXTS, spans={"name": (2, 5)}, padding_side="left")
    rows = texts.clean.rows()
    return model, texts, rows, [slow.patterns(network, input_ids=torch.tensor([row])) for row in rows]


def test_targets(story):
    model, texts, rows, patterns = story
    for name, target in slow.TARGETS.items():
        found = interp.measures.attends_to(model, texts, target=name).values
        for i, (row, pattern) in enumerate(zip(rows, patterns, strict=True)):
            np.testing.assert_allclose(found[:, :, i], slow.share_on(pattern, row, target), atol=2e-6, err_msg=name)
        assert np.ptp(found) > 0.05, name


@pytest.mark.parametrize(("name", "options", "of_row"), [
    ("attention_entropy", {}, slow.entropy), ("attention_distance", {}, slow.mean_distance),
    ("attention_distance", {"value": "spread"}, slow.spread), ("effective_span", {}, slow.span),
    ("top_k_mass", {}, slow.top),
])
def test_shape_of_rows(story, name, options, of_row):
    model, texts, _, patterns = story
    found = getattr(interp.measures, name)(model, texts, **options).values
    for i, pattern in enumerate(patterns):
        exact = 1e-3 if name != "effective_span" else 0.05             # a row may stand at the threshold up to rounding
        np.testing.assert_allclose(found[:, :, i], slow.over_rows(pattern, of_row), atol=exact)
    assert np.ptp(found) > 0.1


def test_shares_layers_and_blocks(story):
    model, texts, _, patterns = story
    share = interp.measures.attention_share(model, texts, parts=("name",)).values
    layers = interp.measures.cross_layer_similarity(model, texts).values
    recall = interp.measures.block_sparsity(model, texts, block=8, keep=0.3).values
    for i, pattern in enumerate(patterns):
        np.testing.assert_allclose(share[:, :, i, 0], pattern[:, :, -1, 2:5].sum(-1), atol=2e-6)
        np.testing.assert_allclose(layers[:, :, i], slow.layer_cosines(pattern), atol=1e-5)
        np.testing.assert_allclose(recall[:, :, i], slow.block_recall(pattern, 8, 0.3), atol=1e-5)


def test_image_grids(weights):
    model = interp.load(weights / "mnist-vit")
    network = ViTModel.from_pretrained(weights / "mnist-vit", attn_implementation="eager", add_pooling_layer=False).eval()
    images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    batch = interp.tasks.from_inputs({"pixel_values": images})
    hops = interp.measures.hop_profile(model, batch, hops=3).values
    far = interp.measures.attention_distance(model, batch).values
    nats = interp.measures.attention_entropy(model, batch).values
    for i in range(2):
        pattern = slow.patterns(network, pixel_values=images[i : i + 1])
        np.testing.assert_allclose(hops[:, :, i], slow.grid_hops(pattern, 7, 3), atol=1e-5)
        np.testing.assert_allclose(far[:, :, i], slow.grid_distance(pattern, 7), atol=1e-4)
        entropy = np.apply_along_axis(slow.entropy, -1, pattern).mean(-1)
        np.testing.assert_allclose(nats[:, :, i], entropy, atol=1e-4)
    assert np.ptp(far) > 0.2


def test_an_encoder(weights):
    model = interp.load(weights / "bart-g2p-us")
    network = AutoModelForSeq2SeqLM.from_pretrained(weights / "bart-g2p-us", attn_implementation="eager").eval()
    given = {"input_ids": torch.tensor([[0, 5, 9, 5, 7, 9, 2]]), "decoder_input_ids": torch.tensor([[2, 4]])}
    batch = interp.tasks.from_inputs(given)
    with torch.no_grad():
        pattern = np.stack([x[0].double().numpy() for x in network(**given, output_attentions=True).encoder_attentions])
    row = given["input_ids"][0].tolist()
    found = interp.measures.attends_to(model, batch, target="duplicate token", attention="encoder").values[:, :, 0]
    both = [(i, [j for j in range(7) if j != i and row[j] == row[i]]) for i in range(7)]
    wanted = np.mean([pattern[:, :, i, keys].sum(-1) for i, keys in both if keys], axis=0)
    np.testing.assert_allclose(found, wanted, atol=2e-6)
    previous = interp.measures.attends_to(model, batch, attention="encoder").values[:, :, 0]
    np.testing.assert_allclose(previous, np.mean([pattern[:, :, i, i - 1] for i in range(1, 7)], axis=0), atol=2e-6)
