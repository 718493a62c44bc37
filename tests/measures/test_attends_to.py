"""Attention to targets: patterns by hand, TransformerLens' head detector, the hand-made induction circuit, invariances."""

import numpy as np
import pytest
import torch
from hand_patterns import folded, random_patterns, rows_of, stack_of, uniform
from random_batches import model_of, random_batch
from transformer_lens import head_detector

import interp
from interp.core.errors import InterpError
from interp.core.head import Head
from interp.engine.streaming import Block, per_row
from interp.measures.attends_to import attention_on, score, sums
from interp.measures.prefix_matching import last_occurrence, repeated_tokens
from interp.measures.targets import duplicate_token, first_token, induction, itself, previous_token, target_of
from interp.measures.token_words import token_words
from interp.models.handmade import HANDMADE
from interp.models.load import load
from interp.models.sites import Site
from interp.models.tiny import inputs, tiny
from interp.tasks import from_inputs, from_tokens

IDS = [5, 6, 7, 5, 6, 5]


def marked(target, ids=IDS, rows=None, causal=True):
    """Where a target is, as a list of keys per row."""
    length = len(ids)
    fold = per_row("pattern", lambda block: torch.nn.functional.pad(
        target(block).expand(1, -1, -1)[:, None].float(), (0, length - block.tensor.shape[-1])))
    found = folded(fold, uniform(length), ids, rows=rows, causal=causal)[0]
    return [np.flatnonzero(row).tolist() for row in found]


@pytest.mark.parametrize("rows", [None, 1, 4])
def test_targets_by_hand(rows):
    assert marked(previous_token, rows=rows) == [[], [0], [1], [2], [3], [4]]
    assert marked(lambda block: previous_token(block, 2), rows=rows) == [[], [], [0], [1], [2], [3]]
    assert marked(itself, rows=rows) == [[0], [1], [2], [3], [4], [5]]
    assert marked(first_token, rows=rows) == [[0]] * 6
    assert marked(duplicate_token, rows=rows) == [[], [], [], [0], [1], [0, 3]]
    assert marked(induction, rows=rows) == [[], [], [], [1], [2], [1, 4]]
    assert marked(lambda block: induction(block, 2), rows=rows) == [[], [], [], [2], [3], [2, 5]]
    assert marked(last_occurrence, rows=rows) == [[], [], [], [1], [2], [4]]


def test_targets_where_attention_sees_both_ways():
    assert marked(duplicate_token, causal=False) == [[3, 5], [4], [], [0, 5], [1], [0, 3]]
    assert marked(induction, causal=False) == [[4], [5], [], [1], [2], [1, 4]]


def shares(target, pattern, ids=IDS, measure="mul", **options):
    return score(torch.as_tensor(folded(sums(target, **options), pattern, ids, rows=2)), measure)


def test_shares_by_hand():
    perfect = rows_of(0, 1, 2, 1, 2, {1: 0.5, 4: 0.25, 0: 0.25})
    assert shares(induction, perfect) == pytest.approx((1 + 1 + 0.75) / 3)
    assert shares(induction, perfect, rows="all") == pytest.approx(2.75 / 6)
    assert shares(duplicate_token, perfect) == pytest.approx(0.25 / 3)
    assert shares(previous_token, perfect) == pytest.approx(0.25 / 5)
    assert shares(itself, perfect) == pytest.approx(2 / 5)              # the first row can do nothing else
    assert shares(itself, perfect, rows="all") == pytest.approx(3 / 6)
    assert shares(induction, perfect, exclude_bos=True) == pytest.approx(2.75 / 2.75)
    last = [torch.tensor([False] * 5 + [True])]
    assert shares(induction, perfect, queries=last) == pytest.approx(0.75)
    assert np.isnan(shares(induction, perfect, queries=[torch.tensor([True] + [False] * 5)])).all()


def test_previous_token_heads_of_uniform_attention():
    length = 9
    expected = np.mean([1 / i for i in range(2, length + 1)])
    assert shares(previous_token, uniform(length), list(range(length))) == pytest.approx(expected)


def test_what_a_learned_sink_takes_is_attention_elsewhere():
    pattern = 0.1 * rows_of(0, 0, 1, 2, 3, 4)
    assert shares(previous_token, pattern) == pytest.approx(0.1)


@pytest.mark.parametrize("exclude_current_token", [False, True])
@pytest.mark.parametrize("exclude_bos", [False, True])
@pytest.mark.parametrize("measure", ["mul", "abs"])
@pytest.mark.parametrize(("name", "target"), [("previous_token_head", previous_token),
                                              ("duplicate_token_head", duplicate_token), ("induction_head", induction)])
def test_the_head_detector_of_transformer_lens(name, target, measure, exclude_bos, exclude_current_token):
    ids = [3, 4, 4, 5, 3, 4, 5, 5, 3]
    pattern = random_patterns(3, len(ids))
    wanted = getattr(head_detector, f"get_{name}_detection_pattern")(torch.tensor([ids]))
    options = {"exclude_bos": exclude_bos, "exclude_current_token": exclude_current_token}
    expected = [head_detector.compute_head_attention_similarity_score(
        torch.tensor(one).float(), wanted, error_measure=measure, **options) for one in pattern]
    found = shares(target, pattern, ids, measure, rows="all", **options)
    np.testing.assert_allclose(found, expected, atol=6e-4 if measure == "abs" else 1e-6)     # abs is rounded there
    assert np.ptp(found) > 1e-3


@pytest.fixture(scope="module")
def circuit():
    made = HANDMADE["handmade-induction"]()
    model = interp.load(made.model, tokenizer=made.tokenizer)
    pairs = made.pairs(6)
    batch = from_tokens([p.clean for p in pairs], [p.corrupt for p in pairs], [p.answer for p in pairs],
                        [p.wrong for p in pairs], model=model,
                        positions={name: [p.positions[name] for p in pairs] for name in ("key", "value")})
    return made, model, batch


@pytest.mark.parametrize(("target", "heads"), [("induction", ["induction", "silent induction"]),
                                               ("previous token", ["previous token", Head(1, 0)])])
def test_the_handmade_circuit(circuit, target, heads):
    """L1H0 looks for the token before by what it is, and finds it there among different letters."""
    made, model, batch = circuit
    found = interp.measures.attends_to(model, batch, target=target)
    for head in found.heads:
        values = found.values[head.layer, head.head]
        expected = head in {made.heads.get(name, name) for name in heads}
        assert (values > 0.99).all() if expected else values.mean() < 0.6, head     # on some prompts they coincide


def test_spans_and_rows_of_the_answer(circuit):
    made, model, batch = circuit
    head = made.heads["induction"]
    value = interp.measures.attends_to(model, batch, target="span", span="value", queries="end")
    assert (value.values[head.layer, head.head] > 0.99).all()
    key = interp.measures.attends_to(model, batch, target="span", span="key", queries="end")
    assert (key.values[head.layer, head.head] < 0.01).all()


def test_prefix_matching_finds_the_circuit(circuit):
    made, model, batch = circuit
    strong = {made.heads["induction"], made.heads["silent induction"]}
    expected = {"rows": 1, "entries": 1, "last occurrence": 1}
    for counting, value in expected.items():
        found = interp.measures.prefix_matching(model, batch, length=10, repeats=2, counting=counting)
        for head in found.heads:
            mean = found.values[head.layer, head.head].mean()
            assert abs(mean - value) < 0.02 if head in strong else mean < 0.3, (counting, head)
    for shuffled in (False, True):
        three = interp.measures.prefix_matching(model, batch, length=10, repeats=3, counting="entries", shuffled=shuffled)
        for head in strong:
            assert three.values[head.layer, head.head] == pytest.approx(2 / 3, abs=0.02)
    notes = found.provenance.options["prompts"]
    assert notes["options"] == {"length": 10, "repeats": 2, "shuffled": False}


def test_a_head_that_counts_places_back_is_told_by_shuffled_copies():
    """It looks N − 1 = 3 tokens back, whatever stands there."""
    back = rows_of(0, 0, 0, 0, 1, 2, 3, 4)
    assert shares(induction, back, [5, 6, 7, 8, 5, 6, 7, 8]) == pytest.approx(1)
    assert shares(induction, back, [5, 6, 7, 8, 6, 8, 5, 7]) == pytest.approx(0)


def test_repeated_tokens_repeat(circuit):
    _, model, _ = circuit
    for shuffled in (False, True):
        for row in repeated_tokens(model, 3, 6, 3, shuffled=shuffled).clean.rows():
            assert row[0] == 0
            copies = [row[1:7], row[7:13], row[13:]]
            assert len(set(copies[0])) == 6
            assert all(set(copy) == set(copies[0]) for copy in copies)
            assert (copies[0] == copies[1]) != shuffled


def test_words_of_several_tokens():
    class Pieces:
        all_special_ids = (9,)

        def __init__(self, tokens):
            self.tokens = tokens

        def convert_ids_to_tokens(self, ids):
            return [self.tokens[i] for i in ids]

        def get_vocab(self):
            return dict.fromkeys(self.tokens)

        def decode(self, ids):
            return self.tokens[ids[0]].replace("Ġ", " ").replace("▁", " ")

    bytes_ = Pieces(["The", "Ġre", "fuse", ",", "Ġthe", "Ġrefuse", "Re", "fuse", "!", "<s>"])
    assert token_words(bytes_, [9, 0, 1, 2, 3, 4, 5]) == \
        [(0, ""), (1, "the"), (2, "refuse"), (2, "refuse"), (3, ""), (4, "the"), (5, "refuse")]
    pieces = Pieces(["the", "re", "##fuse", ",", "x", "x", "x", "x", "x", "[CLS]"])
    assert token_words(pieces, [9, 0, 1, 2, 3, 1]) == \
        [(0, ""), (1, "the"), (2, "refuse"), (2, "refuse"), (3, ""), (4, "re")]
    whole = Pieces(["cat", "Cat", ".", "x", "x", "x", "x", "x", "x", "x"])
    assert token_words(whole, [0, 1, 2, 0]) == [(0, "cat"), (1, "cat"), (2, ""), (3, "cat")]


def test_the_same_word_and_its_own_other_tokens_on_the_organism():
    model = interp.load("organism")
    texts = interp.tasks.from_texts(model, ["Then Mary saw John. Mary"])
    words = [text for _, text in token_words(model.tokenizer, texts.clean.rows()[0])]
    last, first = len(words) - 1, words.index("mary")
    same = target_of(model, texts, model.stack(), "same word")
    block = block_of(texts.clean.rows()[0])
    assert same(block)[0, last].nonzero().flatten().tolist() == [i for i in range(last) if words[i] == "mary"]
    assert not same(block)[0, first].any()
    dots = target_of(model, texts, model.stack(), "delimiter")(block)[0, 0].nonzero().flatten().tolist()
    assert dots == [i for i in range(1, len(words)) if words[i] == ""]


def block_of(ids):
    row, length = torch.tensor([ids]), len(ids)
    pattern = torch.zeros(1, 1, length, length)
    return Block(pattern, 0, length, length, Site("pattern", 0), stack_of(), torch.tensor([0]), row, row)


@pytest.mark.parametrize("target", ["previous token", "duplicate token", "induction", "first token", "self"])
def test_blocks_order_and_padding_change_nothing(target):
    model = model_of("llama")
    batch = random_batch(n=4, lengths=(9, 12), vocab=8)
    left = random_batch(n=4, lengths=(9, 12), vocab=8, padding_side="left")
    wanted = target_of(model, batch, model.stack(), target)
    whole = attention_on(model, batch, {target: wanted})[target]
    assert np.isfinite(whole).all()
    for other, options in ((batch, {"block": 1}), (batch, {"block": 5, "batch_size": 1}), (left, {})):
        np.testing.assert_allclose(attention_on(model, other, {target: wanted}, **options)[target], whole, atol=1e-6)
    turned = attention_on(model, batch.subset([3, 1, 2, 0]), {target: wanted})[target]
    np.testing.assert_allclose(turned, whole[:, :, [3, 1, 2, 0]], atol=1e-6)


def test_encoders_images_and_cross_attention():
    bert = load(tiny("bert"), verify=False)
    texts = from_inputs(inputs("bert", 2))
    for target in ("previous token", "self", "first token"):
        assert np.isfinite(interp.measures.attends_to(bert, texts, target=target).values).all()
    for target in ("delimiter", "same word"):
        with pytest.raises(InterpError, match="have no text here"):
            interp.measures.attends_to(bert, texts, target=target)
    vit, images = load(tiny("vit"), verify=False), from_inputs(inputs("vit", 2))
    assert np.isfinite(interp.measures.attends_to(vit, images, target="first token").values).all()
    with pytest.raises(InterpError, match="image patches are no tokens in a row"):
        interp.measures.attends_to(vit, images)
    t5, both = load(tiny("t5"), verify=False), from_inputs(inputs("t5", 2))
    assert np.isfinite(interp.measures.attends_to(t5, both, target="first token", attention="cross").values).all()
    with pytest.raises(InterpError, match="queries and keys are different sequences"):
        interp.measures.attends_to(t5, both, attention="cross")
    with pytest.raises(InterpError, match="does not read a text alone"):
        interp.measures.prefix_matching(t5, both)


@pytest.mark.parametrize(("options", "reason"), [
    ({"target": "span"}, "a span is named exactly where"),
    ({"span": "A"}, "a span is named exactly where"),
    ({"target": "span", "span": "C"}, "position"),
    ({"offset": 0}, "at least one token"),
    ({"target": "same word"}, "have no text here"),
    ({"target": "delimiter"}, "have no text here"),
    ({"target": "inductoin"}, "did you mean 'induction'"),
    ({"target": "duplicate token"}, "no prompt has a row with it"),
])
def test_what_cannot_be_is_refused(options, reason):
    batch = from_tokens([[3, 4, 5, 6]], [[3, 5, 4, 6]], 7, 8, positions={"A": (1, 2)})
    with pytest.raises(InterpError, match=reason):
        interp.measures.attends_to(model_of("gpt2"), batch, **options)
