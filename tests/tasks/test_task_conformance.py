"""What every task must keep, on every tokenizer that it says it fits."""

import pytest
import torch
from vocabularies import REAL, TokenizerOnly, organism, real

import interp.tasks
from interp.core.errors import InterpError

N = 16
TASKS = [interp.tasks.get(name) for name in interp.tasks.names()]


def cases(fits):
    return [pytest.param(task, corruption, id=f"{task.name}-{corruption}")
            for task in TASKS if fits in task.fits for corruption in task.corruptions]


def keeps_the_contract(task, corruption, model: TokenizerOnly):
    batch = task.batch(model, N, 3, corruption=corruption)
    tokenizer = model.tokenizer

    assert batch.n == N
    assert batch.aligned
    assert batch.metric.name == task.metric
    assert batch.positions == task.positions
    assert len({pair.clean for pair in batch.prompts}) == N
    assert (batch.clean.lengths == batch.corrupt.lengths).all()

    again = task.batch(model, N, 3, corruption=corruption)
    assert again.tokens_sha256() == batch.tokens_sha256()
    assert task.batch(model, N, 4, corruption=corruption).tokens_sha256() != batch.tokens_sha256()
    assert task.batch(model, N // 2, 3, corruption=corruption).prompts == batch.prompts[: N // 2]

    for i, pair in enumerate(batch.prompts):
        clean, corrupt = batch.clean.rows()[i], batch.corrupt.rows()[i]
        assert clean != corrupt
        own = tokenizer(pair.clean.text)["input_ids"] if pair.clean.ids is None else list(pair.clean.ids)
        assert clean[: len(own)] == own
        assert task.first_token or clean == own
        answers = pair.answers or (pair.answer,)
        assert pair.answer in answers
        right, wrong = (tokens[i][mask[i]].tolist() for tokens, mask in
                        ((batch.answers, batch.answer_mask), (batch.wrong, batch.wrong_mask)))
        assert len(right) == len(set(answers))
        assert len(wrong) == len(set(pair.wrong))
        assert not set(right) & set(wrong)
        shared = tokenizer.decode(clean[len(own):])
        for token, word in [*zip(right, answers, strict=True), *zip(wrong, dict.fromkeys(pair.wrong), strict=True)]:
            told = (shared + tokenizer.decode([token])).replace(" ", "").replace("▁", "")
            assert word.strip().startswith(told) if task.first_token else told == word.strip()
        for name in batch.positions:
            start, stop = batch.spans[name][i].tolist()
            assert 0 <= start < stop <= batch.clean.lengths[i]
            if name == "end":
                assert (start, stop) == (len(clean) - 1, len(clean))
            elif "+" not in name:
                told = tokenizer.decode(clean[start:stop]).replace(" ", "")
                assert pair.clean.word(name).strip().replace(" ", "") == told.strip()
            if name not in task.moving:
                assert batch.corrupt_spans[name][i].tolist() == [start, stop]


@pytest.mark.parametrize(("task", "corruption"), cases("organism"))
def test_on_the_organism(task, corruption):
    keeps_the_contract(task, corruption, organism())


@pytest.mark.weights
@pytest.mark.parametrize("name", REAL)
def test_on_real_tokenizers(name, weights):
    model = real(name, weights)
    found = [case.values for case in cases(name)]
    assert found
    for task, corruption in found:
        keeps_the_contract(task, corruption, model)


@pytest.mark.parametrize(("task", "corruption"), cases("organism"))
def test_padding_side_changes_nothing_but_the_padding(task, corruption):
    right, left = (task.batch(organism(), N, corruption=corruption, padding_side=side) for side in ("right", "left"))
    assert right.clean.rows() == left.clean.rows()
    assert right.corrupt.rows() == left.corrupt.rows()
    assert right.tokens_sha256() == left.tokens_sha256()
    assert right.provenance_dict() == left.provenance_dict()
    shift = left.clean.ids.shape[1] - left.clean.lengths[:, None]
    for name in right.positions:
        torch.testing.assert_close(left.spans[name], right.spans[name] + shift)
        torch.testing.assert_close(left.corrupt_spans[name], right.corrupt_spans[name] + shift)
    torch.testing.assert_close(left.answers, right.answers)


def test_splits_of_the_organism_share_no_name():
    names = [{pair.answer for pair in interp.tasks.ioi.TASK.generate(200, split=split)} for split in ("train", "held_out")]
    assert not names[0] & names[1]


def test_induction_on_a_model_without_a_tokenizer():
    model = TokenizerOnly(None, 128, 85)
    batch = interp.tasks.induction.batch(model, 10, length=16)
    assert batch.aligned
    assert batch.provenance_dict()["options"]["tokens"] == "vocabulary"
    for row, answer, first in zip(batch.clean.rows(), batch.answers[:, 0], batch.spans["first"][:, 0], strict=True):
        assert row[:16].count(row[-1]) == 1
        assert row[first] == row[-1]
        assert row[first + 1] == answer
    assert max(max(row) for row in batch.clean.rows()) < 128


def test_induction_on_the_whole_vocabulary_leaves_out_special_tokens():
    model = organism()
    batch = interp.tasks.induction.batch(model, 30, tokens="vocabulary")
    special = set(model.tokenizer.all_special_ids)
    assert all(not set(row[1:]) & special and row[0] == model.tokenizer.bos_token_id for row in batch.clean.rows())


@pytest.mark.weights
def test_words_of_several_tokens_scored_by_the_first(weights):
    model = real("stories260K", weights)
    with pytest.raises(InterpError, match=r"6 usable words are needed, [0-5] of"):
        interp.tasks.ioi.batch(model, 8)
    batch = interp.tasks.ioi.batch(model, 8, first_token=True)
    assert batch.aligned
    assert batch.provenance_dict()["options"]["first_token"] is True
