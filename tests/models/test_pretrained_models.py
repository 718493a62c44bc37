"""Small pretrained models: they load, pass every check, and do through the backend what they are known to do."""

import gzip
import time

import numpy as np
import pytest
import torch

from interp.models.builtin import shipped
from interp.models.load import load
from interp.models.sites import Site

PROMPT = "Once upon a time, there was a little girl named Lily. She loved to play with her"


@pytest.mark.weights
@pytest.mark.parametrize(("name", "layers", "heads", "kv_heads"), [("stories260K", 5, 8, 4), ("babyllama361", 5, 8, 4)])
def test_story_models(weights, name, layers, heads, kv_heads):
    model = load(weights / name)
    assert (model.n_layers, model.n_heads, model.n_kv_heads) == (layers, heads, kv_heads)
    assert not model.verification.refused
    assert not model.verification.silent
    ids = torch.tensor([model.tokenizer(PROMPT).input_ids])
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.no_grad():
        run = model.run(given, capture=[Site("pattern", layer) for layer in range(layers)])
        plain = model.weights(**given, use_cache=False).logits
        without = model.run(given, {Site("z", layer): torch.zeros_like for layer in range(layers)})
    torch.testing.assert_close(run.logits, plain)
    assert (loss(run.logits, ids), loss(without.logits, ids)) == (pytest.approx(loss(plain, ids)), pytest.approx(8, abs=6))
    assert loss(without.logits, ids) > 2 * loss(run.logits, ids)
    assert any(previous_token(run.captured[Site("pattern", layer)]).max() > 0.5 for layer in range(layers))


def loss(logits, ids):
    return float(torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:]))


def previous_token(pattern):
    """Attention to the token before, per head, mean over positions."""
    return pattern.diagonal(offset=-1, dim1=-2, dim2=-1).mean(-1)[0]


@pytest.mark.weights
def test_vision_heads_of_a_digit_classifier(weights):
    model = load(weights / "mnist-vit")
    assert model.stacks[0].attention == "vision"
    with gzip.open(weights / "mnist-test" / "t10k-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)[:200]
    with gzip.open(weights / "mnist-test" / "t10k-labels-idx1-ubyte.gz") as file:
        labels = torch.from_numpy(np.frombuffer(file.read(), np.uint8, offset=8)[:200].astype(np.int64))
    given = {"pixel_values": (torch.from_numpy(images.astype(np.float32)) / 255 - 0.1307) / 0.3081}
    with torch.no_grad():
        right = (model.run(given).output.argmax(-1) == labels).float().mean()
        blind = {Site("z", layer, "vision"): torch.zeros_like for layer in range(model.n_layers)}
        without = (model.run(given, blind).output.argmax(-1) == labels).float().mean()
    assert right > 0.95
    assert without < 0.5


@pytest.mark.weights
def test_cross_attention_of_a_spelling_model_goes_left_to_right(weights):
    """Its only layer of cross-attention aligns sounds with letters: the attended letter moves on with the sounds."""
    model = load(weights / "bart-g2p-us")
    assert {stack.attention for stack in model.stacks} == {"self", "encoder", "cross"}
    ids = torch.tensor([model.tokenizer("elephant").input_ids])
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.no_grad():
        sounds = model.weights.generate(**given, max_new_tokens=12, do_sample=False, num_beams=1)
        given["decoder_input_ids"] = sounds
        run = model.run(given, capture=[Site("pattern", 0, "cross")])
        cut = model.run(given, {Site("z", 0, "cross"): torch.zeros_like})
    pattern = run.captured[Site("pattern", 0, "cross")][0]
    centre = (pattern * torch.arange(pattern.shape[-1])).sum(-1)
    steps = torch.arange(centre.shape[1]).float()
    correlation = max(float(np.corrcoef(steps, head)[0, 1]) for head in centre)
    assert correlation > 0.8
    assert loss(run.logits, sounds) < 0.5 * loss(cut.logits, sounds)


@pytest.mark.skipif("organism" not in shipped(), reason="data/models/organism is not there")
def test_the_organism_loads_quickly():
    load("organism")
    start = time.perf_counter()
    model = load("organism")
    taken = time.perf_counter() - start
    assert not model.verification.refused
    assert model.verification.inexact_padding == ()
    assert model.tokenizer is not None
    assert taken < 5
