"""Texts: prompts without a counterfactual, from strings, token ids and a network's own inputs."""

import numpy as np
import pytest
import torch
from vocabularies import letters

from interp.core.errors import InterpError
from interp.engine.activations import activations
from interp.measures.activation_patching import activation_patching
from interp.measures.measure import Measured, _scores
from interp.models.load import load
from interp.models.sites import Site
from interp.models.tiny import inputs, tiny
from interp.tasks import from_inputs, from_texts, names, plain_texts, random_texts
from interp.tasks.passages import PASSAGES


def model(architecture="gpt2", tokenizer=None):
    return load(tiny(architecture, vocab_size=300), tokenizer=tokenizer, verify=False)


@pytest.fixture(scope="module")
def gpt2():
    return model(tokenizer=letters())


def test_token_ids_are_taken_as_they_stand(gpt2):
    texts = from_texts(gpt2, [[5, 6, 7], [8, 9]], spans={"one": 1, "last": -1, "each": [0, (0, 2)]}, padding_side="left")
    assert texts.clean.rows() == [[5, 6, 7], [8, 9]]
    assert texts.n == 2
    assert texts.spans["one"].tolist() == [[1, 2], [2, 3]]
    assert texts.spans["last"].tolist() == texts.spans["end"].tolist() == [[2, 3], [2, 3]]
    assert texts.spans["each"].tolist() == [[0, 1], [1, 3]]
    assert from_texts(gpt2, torch.tensor([[5, 6, 7]]), length=2).clean.rows() == [[5, 6]]


def test_strings_with_named_pieces(gpt2):
    texts = from_texts(gpt2, ["ab cd", "ef ab"], spans={"ab": "ab", "other": ["cd", "ef"]})
    whole = [gpt2.tokenizer("ab cd")["input_ids"], gpt2.tokenizer("ef ab")["input_ids"]]
    assert texts.clean.rows() == whole
    for name, piece in (("ab", ["ab", "ab"]), ("other", ["cd", "ef"])):
        for i in range(2):
            start, stop = texts.span(name)[i].tolist()
            assert gpt2.tokenizer.decode(whole[i][start:stop]).strip() == piece[i]
    assert texts.texts == ("ab cd", "ef ab")


def test_a_subset_keeps_its_rows_and_spans(gpt2):
    for side in ("left", "right"):
        texts = from_texts(gpt2, [[5, 6, 7, 8], [8, 9], [3, 4]], spans={"one": 1}, padding_side=side)
        part = texts.subset([2, 1])
        assert part.clean.ids.tolist() == [[3, 4], [8, 9]]
        assert part.spans["one"].tolist() == [[1, 2], [1, 2]]
        assert part.tokens_sha256() == from_texts(gpt2, [[3, 4], [8, 9]]).tokens_sha256() != texts.tokens_sha256()
        assert part.positions_sha256() == from_texts(gpt2, [[3, 4], [8, 9]], spans={"one": 1}).positions_sha256()


@pytest.mark.parametrize("name", ["corrupt", "answers", "wrong", "metric", "with_metric", "corrupt_spans"])
def test_what_needs_a_counterfactual_is_told_so(gpt2, name):
    with pytest.raises(InterpError, match="these texts have no counterfactual"):
        getattr(from_texts(gpt2, [[5, 6]]), name)
    assert not hasattr(from_texts(gpt2, [[5, 6]]), "nonsense")
    with pytest.raises(InterpError, match="have no counterfactual"):
        activations(gpt2, from_texts(gpt2, [[5, 6]]), [Site("z", 0)], on="corrupt")


def test_a_measure_of_effects_refuses_texts_in_one_sentence(gpt2):
    with pytest.raises(InterpError, match="no counterfactual"):
        activation_patching(gpt2, from_texts(gpt2, [[5, 6, 7]]))


def test_the_engine_runs_texts_as_the_clean_side(gpt2):
    texts = from_texts(gpt2, [[5, 6, 7], [8, 9, 10]])
    found = activations(gpt2, texts, [Site("pattern", 0)])[Site("pattern", 0)]
    same = gpt2.run({"input_ids": texts.clean.ids}, None, [Site("pattern", 0)]).captured[Site("pattern", 0)]
    torch.testing.assert_close(found, same)


def test_scores_need_no_metric(gpt2):
    texts = from_texts(gpt2, [[5, 6, 7]], name="mine")
    scores = _scores("some_measure", "attention", {}, Measured(np.zeros((3, 4, 1)), "self"), gpt2, texts)
    assert scores.provenance.metric == "some_measure"
    assert scores.provenance.task["name"] == "mine"
    assert scores.provenance.task["tokens_sha256"] == texts.tokens_sha256()
    named = _scores("some_measure", "output", {}, Measured(np.zeros((3, 4, 1)), "self", metric="weight"), gpt2, texts)
    assert named.provenance.metric == "weight"


@pytest.mark.parametrize(("given", "options", "said"), [
    ([], {}, "there are no texts"),
    ([[5, 6], []], {}, "text 1 of own texts: it has 0 tokens"),
    ([[5, 6]], {"length": 3}, "it has 2 tokens and 3 were asked for"),
    ([[5, 300]], {}, "the token 300 is none of the 300"),
    ([[5] * 65], {}, "65 tokens and the context of the model is 64"),
    (["ab"], {"spans": {"x": "q"}}, "'q', the position 'x', is not in text 0"),
    (["ab cd ef"], {"spans": {"x": "ef"}, "length": 2}, "up to where it is cut"),
    ([[5, 6]], {"spans": {"x": "q"}}, "give the place of 'x' in tokens"),
    ([[5, 6]], {"spans": {"x": 4}}, "not inside prompt 0"),
])
def test_mistakes_are_told_with_their_place(gpt2, given, options, said):
    with pytest.raises(InterpError) as error:
        from_texts(gpt2, given, **options)
    assert said in str(error.value)


def test_a_model_without_a_tokenizer_says_what_to_do():
    with pytest.raises(InterpError, match="no tokenizer"):
        from_texts(model(), ["some text"])
    assert random_texts(model(), 3, 10).clean.ids.shape == (3, 10)


def test_plain_texts_are_of_any_length_and_repeatable(gpt2):
    short, again, other = plain_texts(gpt2, 14, 64), plain_texts(gpt2, 14, 64), plain_texts(gpt2, 14, 64, seed=1)
    assert short.clean.lengths.tolist() == [64] * 14
    assert short.tokens_sha256() == again.tokens_sha256()
    assert short.provenance_dict()["seed"] == 0
    assert len({tuple(row) for row in plain_texts(gpt2, 12, 40).clean.rows()}) == 12
    assert other.provenance_dict()["options"] == {"length": 64}
    long = load(tiny("gpt2", vocab_size=300, n_positions=8000), tokenizer=letters(), verify=False)
    assert plain_texts(long, 2, 6000).clean.lengths.tolist() == [6000, 6000]
    assert len({*PASSAGES}) == 12


def test_random_texts():
    network = model()
    drawn, same = random_texts(network, 4, 20), random_texts(network, 4, 20, kind="repeated")
    assert len({tuple(row) for row in drawn.clean.rows()}) == 4
    assert all(len(set(row)) == 1 for row in same.clean.rows())
    assert len({row[0] for row in same.clean.rows()}) > 1
    assert same.provenance_dict()["options"]["kind"] == "repeated"
    with pytest.raises(InterpError, match="repeated"):
        random_texts(network, kind="repeat")


@pytest.mark.parametrize("architecture", ["vit", "t5"])
def test_other_inputs(architecture):
    network = load(tiny(architecture), verify=False)
    made = from_inputs(inputs(architecture, 3), name="images")
    stack = network.stack("vision" if architecture == "vit" else "encoder")
    found = activations(network, made, [Site("pattern", 0, stack.attention)])
    assert len(found[Site("pattern", 0, stack.attention)]) == 3
    assert made.subset([1]).n == 1
    assert made.subset([1]).tokens_sha256() != made.subset([2]).tokens_sha256()
    with pytest.raises(InterpError, match="not plain tokens"):
        made.tokens()
    with pytest.raises(InterpError, match="from_inputs"):
        from_texts(network, [[5, 6]])


def test_the_file_is_no_task():
    assert not {"texts", "passages"} & set(names())
