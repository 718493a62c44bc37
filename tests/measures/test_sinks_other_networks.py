"""Sinks of encoders and image networks: [CLS] and [SEP], and a patch that carries a register's norm, planted by hand."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

import interp
from interp.core.errors import InterpError
from interp.models.sites import Site
from interp.models.tiny import inputs, tiny
from interp.tasks import from_inputs, from_texts

WORDS = ["[PAD]", "[CLS]", "[SEP]", "the", "dog", "saw", "a", "cat", ".", "12", "ran"]
TEXTS = ["the dog saw a cat .", "a cat ran . the dog ran", "12 the dog saw 12"]
PATCH = 17 + 1      # behind [CLS]


def tokenizer():
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[PAD]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]")


def attract(query, keys, at, size=60.0):
    """Make head 0 ask for the key at ``at`` whatever the query; keys [prompt, position, head, d] of the same layer."""
    wanted = keys[:, at, 0].mean(0)
    others = torch.cat([keys[:, :at, 0], keys[:, at + 1 :, 0]], 1).flatten(0, 1).mean(0)
    direction = wanted - others
    with torch.no_grad():
        query.weight[: len(direction)] = 0
        query.bias[: len(direction)] = size * direction / direction.norm()


@pytest.fixture(scope="module")
def bert():
    network = tiny("bert", num_hidden_layers=2)
    with torch.no_grad():       # what tells [SEP] apart is its word alone
        network.bert.embeddings.position_embeddings.weight.mul_(0.1)
    texts = from_texts(interp.load(network, tokenizer=tokenizer(), verify=False), TEXTS)
    keys = [interp.load(network, verify=False).run({"input_ids": torch.tensor([row])}, None, [Site("k", 0, "encoder")])
            .captured[Site("k", 0, "encoder")] for row in texts.clean.rows()]
    last = torch.cat([key[:, [-1]] for key in keys], 1)
    others = torch.cat([key[:, :-1] for key in keys], 1)
    attract(network.bert.encoder.layer[0].attention.self.query, torch.cat([last.mean(1, keepdim=True), others], 1), 0)
    model = interp.load(network, tokenizer=tokenizer(), verify=False)
    patterns = []
    network.set_attn_implementation("eager")
    for row in texts.clean.rows():
        with torch.no_grad():
            found = network(torch.tensor([row]), output_attentions=True).attentions
        patterns.append(np.stack([layer[0].numpy() for layer in found]))
    return model, from_texts(model, TEXTS, padding_side="right"), patterns


def test_sep_takes_the_attention_of_the_head_made_for_it(bert):
    model, texts, _ = bert
    weight = interp.measures.first_token_sink(model, texts, value="weight", token=-1)
    assert (weight.values[0, 0] > 0.9).all()
    assert interp.measures.first_token_sink(model, texts, token=-1).values[0, 0].all()
    rows = interp.measures.first_token_sink(model, texts, value="rows", token=-1)
    assert (rows.values[0, 0] == 1).all()
    assert weight.provenance.options["weight_if_even"] == pytest.approx(np.mean([1 / len(row) for row in
                                                                                texts.clean.rows()]), abs=1e-4)


def test_what_cls_sep_and_other_kinds_receive(bert):
    model, texts, patterns = bert
    found = interp.measures.sink_by_token_kind(model, texts)
    assert found.coords["kind"] == ("[CLS]", "[SEP]", "punctuation", "number", "word")
    total = interp.measures.sink_by_token_kind(model, texts, value="total")
    for i, row in enumerate(texts.clean.rows()):
        kinds = {"[CLS]": [1], "[SEP]": [2], "punctuation": [8], "number": [9], "word": [3, 4, 5, 6, 7, 10]}
        for k, ids in enumerate(kinds.values()):
            at = np.isin(row, ids)
            if not at.any():
                assert np.isnan(found.values[:, :, i, k]).all()
                continue
            received = patterns[i].mean(2)[..., at]
            np.testing.assert_allclose(found.values[:, :, i, k], received.mean(-1), atol=1e-5)
            np.testing.assert_allclose(total.values[:, :, i, k], received.sum(-1), atol=1e-5)


def test_all_rows_count_where_attention_sees_both_ways(bert):
    model, texts, patterns = bert
    for value, of in (("weight", lambda a: a[..., 0].mean(-1)), ("rows", lambda a: (a[..., 1:, 0] > 0.3).mean(-1))):
        found = interp.measures.first_token_sink(model, texts, value=value)
        for i, pattern in enumerate(patterns):
            np.testing.assert_allclose(found.values[:, :, i], of(pattern), atol=1e-5)
    free = interp.measures.sink_free_mass(model, texts).values
    np.testing.assert_allclose(free[:, :, 0], 1 - patterns[0][..., 0].mean(-1), atol=1e-5)
    anywhere = interp.measures.sinks_anywhere(model, texts, rule="fixed").values
    sinks = patterns[0].mean(2) > 0.1
    np.testing.assert_allclose(anywhere[:, :, 0], (patterns[0].mean(2) * sinks).sum(-1), atol=1e-5)


def test_a_horizon_does_not_cut_an_encoders_text(bert):
    model, texts, _ = bert
    cut = interp.measures.first_token_sink(model, texts, value="weight", horizon=3)
    np.testing.assert_array_equal(cut.values, interp.measures.first_token_sink(model, texts, value="weight").values)
    assert cut.provenance.options["horizon_used"] is None


@pytest.fixture(scope="module")
def vit():
    network = tiny("vit", num_hidden_layers=2, image_size=32)
    images = {"pixel_values": torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))}
    with torch.no_grad():
        place = network.vit.embeddings.position_embeddings
        place[0, PATCH] = 0
        place[0, PATCH, 5] = 400.0
    model = interp.load(network, verify=False)
    site = Site("k", 0, model.stack().attention)
    keys = model.run(images, None, [site]).captured[site]
    query = next(m for name, m in network.named_modules() if name.endswith(("query", "q_proj")))      # of the first layer
    attract(query, keys, PATCH)
    network.set_attn_implementation("eager")
    with torch.no_grad():
        patterns = torch.stack(network(**images, output_attentions=True).attentions).numpy()
    return interp.load(network, verify=False), from_inputs(images), patterns


@pytest.mark.parametrize("options", [{"rule": "phi"}, {"rule": "norm"}, {"rule": "phi", "dimensions": (5,)}], ids=str)
def test_a_register_like_patch_and_what_it_receives(options, vit):
    model, batch, patterns = vit
    found = interp.measures.massive_activation_sinks(model, batch, first_layer=0, **options)
    assert found.provenance.options["massive_tokens_per_prompt"] == 1
    assert found.provenance.options["massive_dimensions"] == ([] if options["rule"] == "norm" else [5])
    np.testing.assert_allclose(found.values, patterns[..., PATCH].mean(-1).transpose(0, 2, 1), atol=1e-5)
    assert (found.values[0, 0] > 0.9).all()


def test_the_list_of_tokens_names_the_patch(vit):
    model, batch, _ = vit
    found = interp.measures.sink_tokens(model, batch)
    assert set(found.loc[found.massive_layers > 0, "position"]) == {PATCH}
    assert found.token.isna().all()


def test_the_patch_is_a_sink_by_what_it_receives_too(vit):
    model, batch, patterns = vit
    count = interp.measures.sinks_anywhere(model, batch, value="count")
    np.testing.assert_array_equal(count.values, (patterns.mean(-2) > 5 / 65).sum(-1).transpose(0, 2, 1))
    assert (count.values[0, 0] == 1).all()
    assert (interp.measures.sinks_anywhere(model, batch).values[0, 0] > 0.9).all()
    per = interp.measures.sink_by_token_kind(model, batch)
    assert per.coords["kind"] == ("first", "other")


def test_tables_of_other_networks(bert, vit):
    for model, batch, _ in (bert, vit):
        table = interp.measures.sink_table(model, batch)
        assert len(table) == model.n_layers * model.n_heads
        assert np.isfinite(table.first_weight).all()
        assert np.isfinite(table.massive).any()


def test_a_cross_attention_has_no_hidden_states_of_its_own_to_be_massive():
    model = interp.load(tiny("t5"), verify=False)
    batch = from_inputs(inputs("t5", 2))
    assert "massive" not in interp.measures.sink_table(model, batch, attention="cross")
    with pytest.raises(InterpError, match="resid_pre"):
        interp.measures.massive_activation_sinks(model, batch, attention="cross")
