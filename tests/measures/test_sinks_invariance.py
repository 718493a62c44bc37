"""What must not change the sink measures: order of prompts, padding, batch and block size, reading in blocks at all."""

import numpy as np
import pytest
from random_batches import shallow

import interp
from interp.engine import streaming
from interp.engine.memory import measured
from interp.measures.measure import find
from interp.measures.sink_statistics import of_pattern, received
from interp.models.load import load
from interp.models.sites import Site
from interp.models.tiny import tiny
from interp.tasks import from_texts, random_texts

MEASURES = {
    "first_token_sink": {"value": "weight"}, "sinks_anywhere": {}, "massive_activation_sinks": {}, "secondary_sinks": {},
    "sink_by_token_kind": {}, "sink_free_mass": {"sinks": "fixed"}, "sink_norm": {}, "sink_key_bias": {},
}
LENGTHS = (24, 9, 24, 17)


def rows(model):
    given = random_texts(model, len(LENGTHS), max(LENGTHS)).clean.rows()
    return [row[:length] for row, length in zip(given, LENGTHS, strict=True)]


@pytest.fixture(scope="module", params=["gpt2", "gemma2", "gpt_oss"])
def model(request):
    return load(shallow(request.param), verify=False)


@pytest.mark.parametrize("name", list(MEASURES))
def test_order_padding_and_batch_size(name, model):
    of, given = find(name), rows(model)
    base = of(model, from_texts(model, given), **MEASURES[name]).values
    backwards = of(model, from_texts(model, given[::-1]), **MEASURES[name]).values[:, :, ::-1]
    np.testing.assert_allclose(backwards, base, atol=1e-6, rtol=1e-5)
    left = of(model, from_texts(model, given, padding_side="left"), batch_size=1, **MEASURES[name]).values
    np.testing.assert_allclose(left, base, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("block", [3, 16])
def test_blocks_of_any_size_give_the_table_of_whole_prompts(block, model):
    batch = from_texts(model, rows(model))
    whole, blocks = (interp.measures.sink_table(model, batch, block=size) for size in (1000, block))
    np.testing.assert_allclose(blocks.iloc[:, 1:].to_numpy(float), whole.iloc[:, 1:].to_numpy(float), atol=1e-6, rtol=1e-5)
    tokens = [interp.measures.sink_tokens(model, batch, block=size) for size in (1000, block)]
    assert tokens[0].drop(columns="cosine").equals(tokens[1].drop(columns="cosine"))


def test_streamed_statistics_equal_those_of_the_whole_pattern(model):
    batch = from_texts(model, rows(model))
    stack = model.stack()
    sites = [Site("pattern", layer, "self") for layer in range(stack.n_layers)]
    for row, streamed in zip(batch.clean.rows(), received(model, batch, block=4), strict=True):
        run = model.run({"input_ids": from_texts(model, [row]).clean.ids}, None, sites)
        whole = of_pattern(np.stack([run.captured[site][0].numpy() for site in sites]), stack)
        np.testing.assert_allclose(streamed.alpha(), whole.alpha(), atol=1e-6)
        np.testing.assert_allclose(streamed.column, whole.column, atol=1e-6)
        np.testing.assert_allclose(streamed.own, whole.own, atol=1e-6)
        np.testing.assert_array_equal(streamed.later, whole.later)
        np.testing.assert_array_equal(streamed.visible, whole.visible)
        assert (streamed.token, streamed.rows, streamed.keys) == (whole.token, len(row), len(row))


def test_8192_tokens_without_a_map_of_all_heads(monkeypatch):
    """Peak memory stays near the budget of a block, a small part of one layer's maps of both heads (2 · 8192² numbers)."""
    monkeypatch.setattr(streaming, "BLOCK_MEMORY", 2**25)
    length = 8192
    model = load(tiny("llama", num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, hidden_size=16,
                      head_dim=8, max_position_embeddings=length), verify=False)
    batch = random_texts(model, 1, length)
    with measured(model.device) as peak:
        table = interp.measures.sink_table(model, batch)
    every_map = 2 * length**2 * 4
    assert peak.most < 2 * streaming.BLOCK_MEMORY
    assert peak.most < every_map / 8
    assert table.first_weight.between(0, 1).all()
    assert table.sink_free.between(0.9, 1).all()
