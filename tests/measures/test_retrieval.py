"""Retrieval score and frequency: toy fixtures by hand, the hand-made copy head, the organism's own retrieval."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from random_batches import model_of, random_batch

import interp
from interp.core import compare
from interp.core.errors import InterpError
from interp.core.grid import grid
from interp.core.head import Head
from interp.engine.masking import accuracy, layer_matched, masking_curve
from interp.measures.copying import RELEASED_CODE, copied, count_score, gated, set_score
from interp.models.handmade import HANDMADE
from interp.tasks import from_tokens

NEEDLE = [[7, 8, 9]]
TOKENS = np.array([[5, 7, 8, 9, 6, 8]])
INSIDE = np.array([[False, True, True, True, False, False]])


def scores_of(attended, said):
    """Set and count score of one head that looks at these positions while these tokens are said."""
    found = copied(np.array(attended)[None, None, None], np.array([said]), TOKENS, INSIDE)
    return set_score(found, np.array([said]), NEEDLE).item(), count_score(found, NEEDLE).item()


@pytest.mark.parametrize(("attended", "said", "by_set", "by_count"), [
    ([1, 2, 3], [7, 8, 9], 1, 1),                       # each needle token once
    ([1, 2, 3, 2], [7, 8, 9, 8], 1, 4 / 3),             # one of them twice: the code counts it again
    ([1, 2, 3], [8, 9, 7], 0, 0),                       # looks into the needle, says something else
    ([5, 5, 5], [8, 8, 8], 0, 0),                       # the right token, outside the needle
    ([2, 0, 4], [8, 5, 6], 1 / 3, 1 / 3),
    ([2, -1, 9], [8, 0, 8], 1 / 3, 1 / 3),              # no step; a generated token
])
def test_toy_fixtures(attended, said, by_set, by_count):
    assert scores_of(attended, said) == pytest.approx((by_set, by_count))


def test_a_token_that_stands_twice_in_the_needle_is_one_of_the_set():
    inside, tokens, said = np.array([[True] * 3]), np.array([[7, 7, 8]]), np.array([[7, 8]])
    found = copied(np.array([[[[0, 2]]]]), said, tokens, inside)
    assert set_score(found, said, [[7, 7, 8]]).item() == 1
    assert count_score(found, [[7, 7, 8]]).item() == pytest.approx(2 / 3)


def test_the_gate_leaves_out_what_was_not_answered():
    values, recall = np.ones((1, 1, 3)), np.array([1.0, 0.5, 0.51])
    assert np.isnan(gated(values, recall, True)).ravel().tolist() == [False, True, False]
    assert gated(values, recall, False) is values
    with pytest.raises(InterpError, match="it answers none of them"):
        gated(values, np.zeros(3), True)


@pytest.fixture(scope="module")
def made():
    return HANDMADE["handmade-retrieval"]()


@pytest.fixture(scope="module")
def handmade(made):
    """The hand-made model and prompts whose needle is the asked key's string of two values."""
    model = interp.load(made.model, tokenizer=made.tokenizer)
    pairs = made.pairs(8)
    places = [(pair.positions["needle"], pair.positions["needle"] + 2) for pair in pairs]
    batch = from_tokens([pair.clean for pair in pairs], [pair.corrupt for pair in pairs], [pair.answer for pair in pairs],
                        [pair.wrong for pair in pairs], positions={"needle": places, "answer": places}, model=model)
    return model, batch


@pytest.mark.parametrize("options", [{}, {"counting": "count"}, {"span": "answer"}, {"gate": True}, RELEASED_CODE,
                                     {"mode": "teacher_forced"}], ids=str)
def test_the_copy_head_scores_one_and_others_zero(made, handmade, options):
    """So does the decoy with the same attention that writes where nobody reads: the score sees attention only."""
    model, batch = handmade
    scores = interp.measures.retrieval_score(model, batch, new_tokens=2, **options)
    copying = {made.heads["copy"], made.heads["unread copy"]}
    for head in scores.heads:
        assert (scores.values[head.layer, head.head] == float(head in copying)).all(), head
    assert (scores.baselines["answered"] == 1).all()
    frequency = interp.measures.retrieval_frequency(model, batch, new_tokens=2)
    np.testing.assert_array_equal(frequency.values, scores.values)


def test_masking_tells_the_copy_head_from_its_decoy(made, handmade):
    model, batch = handmade
    for mask in ("zero", "uniform", "first"):
        assert accuracy(model, batch, [made.heads["unread copy"]], mask).mean() == 1
        assert accuracy(model, batch, [made.heads["copy"]], mask).mean() < 0.3
        assert accuracy(model, batch, [made.heads["copy"]], mask, "end", answer="answer", new_tokens=2).mean() < 0.3
    assert accuracy(model, batch, [], "zero", answer="answer", new_tokens=2).mean() == 1


def test_teacher_forcing_scores_a_model_that_does_not_answer(made, handmade):
    """The unembedding is spoilt: the model says nothing right, the copy head goes on copying what it is made to say."""
    network = HANDMADE["handmade-retrieval"]().model
    with torch.no_grad():
        network.lm_head.weight.copy_(network.lm_head.weight.roll(1, 0))
    model, batch = interp.load(network, tokenizer=made.tokenizer), handmade[1]
    free = interp.measures.retrieval_score(model, batch, new_tokens=2)
    forced = interp.measures.retrieval_score(model, batch, mode="teacher_forced")
    copy = made.heads["copy"]
    assert (free.values[copy.layer, copy.head] < 1).all()
    assert (forced.values[copy.layer, copy.head] == 1).all()
    assert (forced.baselines["answered"] == 0).all()
    with pytest.raises(InterpError, match="gate=True"):
        interp.measures.retrieval_score(model, batch, gate=True, new_tokens=2)


def test_spans_are_asked_for_by_name():
    with pytest.raises(InterpError, match="position of random 'needle'"):
        interp.measures.retrieval_score(model_of("gpt2"), random_batch())


def test_texts_do_as_well(handmade):
    model, batch = handmade
    texts = interp.tasks.from_texts(model, batch.clean.rows(), spans={
        name: [tuple(span) for span in batch.spans[name].tolist()] for name in ("needle", "answer")})
    one, other = (interp.measures.retrieval_score(model, prompts, new_tokens=2) for prompts in (batch, texts))
    np.testing.assert_array_equal(one.values, other.values)


def test_layer_matched_heads():
    import random

    top = [Head(1, 0), Head(1, 1), Head(2, 3)]
    others = [Head(layer, head) for layer in range(4) for head in range(4) if Head(layer, head) not in top]
    for seed in range(20):
        drawn, missing = layer_matched(random.Random(seed), top, others)
        assert missing == 0
        assert sorted(head.layer for head in drawn) == [1, 1, 2]
        assert len(set(drawn)) == 3
        assert not set(drawn) & set(top)
    drawn, missing = layer_matched(random.Random(0), [Head(1, h) for h in range(4)], [Head(0, 0), Head(2, 0), *others[-4:]])
    assert missing == 4
    assert {Head(0, 0), Head(2, 0)} < set(drawn)
    assert sorted(head.layer for head in drawn) == [0, 2, 3, 3]


def test_curves_refuse_what_cannot_be(handmade):
    model, batch = handmade
    scores = interp.measures.retrieval_score(model, batch, new_tokens=2)
    with pytest.raises(InterpError, match=r"mask \[4\] of 6 heads"):
        masking_curve(model, batch, scores, ks=(4,))
    with pytest.raises(InterpError, match="scores of this model's heads"):
        masking_curve(model_of("gpt2"), batch, scores)
    with pytest.raises(InterpError, match="did you mean 'uniform'"):
        masking_curve(model, batch, scores, ks=(1,), mask="unifrm")


def test_a_mask_that_changes_nothing_is_refused(made, handmade):
    """Without an earlier copy of its token the match head looks at the first token anyway."""
    model = handmade[0]
    batch = from_tokens([[0, 1, 12, 13]], [[0, 2, 12, 13]], 3, 4, model=model)
    with pytest.raises(InterpError, match="it changes nothing on any prompt"):
        accuracy(model, batch, [made.heads["match"]], "first")
    assert accuracy(model, batch, [made.heads["match"]], "zero").shape == (1,)


def test_a_model_and_itself_correlate_fully(handmade):
    model, batch = handmade
    one = interp.measures.retrieval_score(model, batch, new_tokens=2)
    again = replace(one, provenance=replace(one.provenance, model=one.provenance.model | {"weights_sha256": "another"}))
    found = compare.rank_agreement(one, again, method="pearson", across=("model", "task"))
    assert found.value == pytest.approx(1)
    rng = np.random.default_rng(0)
    noisy = replace(one, values=rng.random(one.values.shape))
    value = compare.rank_agreement(one, noisy, method="pearson").value
    assert value == pytest.approx(np.corrcoef(one.mean().ravel(), noisy.mean().ravel())[0, 1])


@pytest.fixture(scope="module")
def organism():
    return interp.load("organism")


def lists(organism, seed, n):
    return interp.tasks.needle.batch(organism, n, seed, haystack="list", lengths=(60, 120), depths=(0, 50, 100))


def test_the_organism_retrieves_by_the_heads_that_copy(organism):
    """Found on some lists, masked on others: without the heads that copy nothing is retrieved; as many heads of the same (or
    the nearest) layers are not missed as much, with intervals over prompts and draws. No head or number is written here."""
    scores = interp.measures.retrieval_score(organism, lists(organism, 1, 12), span="answer", gate=True, new_tokens=1)
    assert scores.baselines["answered"].mean() > 0.9
    copying = int((scores.mean() >= 0.5).sum())
    assert 1 <= copying <= len(scores.heads) // 2
    curve = masking_curve(organism, lists(organism, 2, 18), scores, ks=(copying,), mask="uniform", where="end", draws=8)
    assert curve.share("top", 0)[1] > 0.7
    assert curve.share("top", copying)[2] < 0.5
    for line in ("random", "layer-matched"):
        assert curve.lead(line, copying)[1] > 0, curve.to_frame()


def test_a_grid_on_the_organism_is_labelled(organism, tmp_path):
    batch = lists(organism, 3, 12)
    scores = interp.measures.retrieval_score(organism, batch, span="answer", new_tokens=1)
    found = grid(scores.labels("prompt"), scores.baselines["answered"])
    assert found.n.tolist() == [[2, 2]] * 3
    assert (found.lengths, found.depths) == ((60, 120), (0, 50, 100))
    assert found.share.mean() > 0.9
    again = type(scores).load(scores.save(tmp_path / "scores.parquet"))
    assert again.labels("prompt") == scores.labels("prompt")
    np.testing.assert_array_equal(again.baselines["answered"], scores.baselines["answered"])


def test_the_tasks_own_lists_are_needles_too(organism):
    batch = interp.tasks.key_value.batch(organism, n=6, size=12)
    names = {"needle": ("key", "value"), "answer": "value"}
    scores = interp.measures.retrieval_score(organism, batch, span="answer", new_tokens=1, **names)
    whole = interp.measures.retrieval_score(organism, batch, new_tokens=1, **names)
    assert scores.mean().max() > 0.5
    np.testing.assert_allclose(whole.values, scores.values / 2)    # the key is half of the needle, and is not said
