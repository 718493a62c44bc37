"""Batches: what is refused and how it is said, padding, alignment, parts of a batch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from vocabularies import letters, lower_words

from interp.core.errors import InterpError
from interp.tasks.batch import Tokens
from interp.tasks.build import build
from interp.tasks.prompt import Prompt, PromptPair


def pair(clean="x abc", corrupt="y abc", answer="a", wrong=("b",), **parts):
    prompts = [text if isinstance(text, Prompt) else Prompt(text) for text in (clean, corrupt)]
    return PromptPair(*prompts, answer, wrong, **parts)


def made(*pairs, **options):
    return build(pairs, letters(), name="letters", **options)


@pytest.mark.parametrize(("pairs", "options", "said"), [
    ([], {}, "Cannot make a batch of letters: there are no prompts; give at least one pair."),
    ([pair(), pair(corrupt="x abc")], {}, "Cannot use prompt 1 of letters ('x abc'): the corrupted prompt is equal to the"),
    ([pair(answer=" a")], {}, "the answer ' a' is 2 tokens ('Ġ' 'a'); use answers of one token, or first_token=True"),
    ([pair(wrong=("b", "no"))], {}, "the answer 'no' is 2 tokens ('n' 'o')"),
    ([pair(answer="")], {}, "the answer '' is 0 tokens (nothing)"),
    ([pair(answers=("a", "c"), wrong=("c",))], {}, "right and wrong answers share the token 'c'"),
    ([pair(clean="x abcdefgh")], {"context_length": 7}, "it has 10 tokens and the context of the model is 7;"),
    ([pair(corrupt="y abcdefgh")], {"context_length": 7}, "it has 10 tokens"),
    ([pair(clean="x ", answer=" the")], {}, "the prompt ends in a space and the answer begins with one"),
    ([pair()], {"vocab_size": 50}, "is none of the 50 of the model"),
    ([pair()], {"positions": ("S2", "end")}, "Cannot use prompt 0 of letters: it has no position 'S2'"),
    ([pair()], {"metric": "logit_dif"}, "did you mean 'logit_diff'"),
    ([pair()], {"padding_side": "middle"}, "no padding side of that name"),
    ([pair(wrong=())], {}, "Cannot measure logit_diff on letters: prompt 0 has no wrong answer"),
    ([pair(answer="lm", wrong=("lmn",))], {"first_token": True}, "one answer is the beginning of all others"),
    ([pair(clean=Prompt("x abc", {"S": (0, 1)}), corrupt="yy abc")], {}, "mark the positions of the corrupted prompt too"),
    ([pair(clean=Prompt.of("x abc", ("S", "d")), corrupt=Prompt.of("y abc", ("S", "d")))], {"positions": ("S+1",)},
     "its position 'S+1' lies behind its end"),
])
def test_bad_prompts_are_refused_by_name(pairs, options, said):
    with pytest.raises(InterpError) as caught:
        made(*pairs, **options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_answer_that_the_tokenizer_does_not_know():
    with pytest.raises(InterpError, match="does not know the answer ' zoe'"):
        build([pair(clean="when mary", corrupt="when john", answer=" zoe", wrong=(" mary",))], lower_words(), name="words")


def test_text_without_a_tokenizer():
    with pytest.raises(InterpError, match="the answer 'a' is text and there is no tokenizer"):
        build([pair(clean=Prompt("", {}, (1,)), corrupt=Prompt("", {}, (2,)))], None, name="ids")


def test_the_first_token_in_which_answers_differ():
    batch = made(pair(answer=" mia", wrong=(" max", " mob")), first_token=True)
    text = letters().convert_ids_to_tokens(batch.clean.rows()[0])
    assert text == ["<s>", "x", "Ġ", "ab", "c", "Ġ", "m"]
    assert letters().convert_ids_to_tokens(batch.answers[0].tolist()) == ["i"]
    assert letters().convert_ids_to_tokens(batch.wrong[0].tolist()) == ["a", "o"]
    assert batch.corrupt.rows()[0][-2:] == batch.clean.rows()[0][-2:]
    assert batch.spans["end"].tolist() == [[6, 7]]
    single = made(pair(), first_token=True)
    assert single.tokens_sha256() == made(pair()).tokens_sha256()


def test_positions():
    clean = Prompt.of("the ", ("S", "cat"), (" gap", " sat"), ("V", "on"))
    corrupt = Prompt.of("the ", ("S", "dog"), (" gap", " sat"), ("V", "on"))
    batch = made(pair(clean, corrupt), positions=("S", "S+1", "V", "end"))
    rows = batch.clean.rows()[0]
    told = {name: letters().decode(rows[slice(*batch.spans[name][0].tolist())]) for name in batch.positions}
    assert told == {"S": "cat", "S+1": " ", "V": "on", "end": "n"}
    assert batch.aligned
    assert batch.span("S", "corrupt").tolist() == batch.span("S").tolist()
    with pytest.raises(InterpError, match=r"Cannot find the position of the task letters 'S1'.*did you mean"):
        batch.span("S1")
    with pytest.raises(InterpError, match="did you mean 'corrupt'"):
        batch.tokens("corrupted")


def test_pairs_that_do_not_correspond_are_told_so():
    same = pair(Prompt.of(("S", "cat"), " sat"), Prompt.of(("S", "dog"), " sat"))
    longer = pair(Prompt.of(("S", "cat"), " sat"), Prompt.of(("S", "mouse"), " sat"))
    shifted = pair(Prompt.of(("S", "cat"), " sat"), Prompt.of("a", ("S", "dog"), " at"))
    batch = made(same, longer)
    assert not batch.aligned
    with pytest.raises(InterpError, match=r"prompt 1 of letters do not correspond token by token \(8 and 10 tokens\)"):
        batch.check_aligned("patch S")
    assert batch.subset([0]).aligned
    batch.subset([0]).check_aligned("patch S")
    assert batch.answer_position.tolist() == [7, 7]
    assert batch.corrupt.last.tolist() == [7, 9]
    assert not made(shifted).aligned
    assert made(shifted, moving=("S",)).aligned
    assert made(shifted, moving=("S",)).corrupt_spans["S"].tolist() == [[2, 5]]


ROWS = st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=7), min_size=1, max_size=5)


@given(ROWS, st.sampled_from(["left", "right"]), st.integers(0, 3))
def test_padding(rows, side, more):
    width = max(map(len, rows)) + more
    tokens = Tokens.pad(rows, side, width)
    assert tokens.rows() == rows
    assert tokens.ids.shape == tokens.mask.shape == (len(rows), width)
    assert tokens.mask.sum(1).tolist() == tokens.lengths.tolist() == [len(row) for row in rows]
    at = torch.arange(len(rows))
    assert tokens.ids[at, tokens.last].tolist() == [row[-1] for row in rows]
    assert tokens.ids[at, tokens.start].tolist() == [row[0] for row in rows]
    assert set(tokens.inputs) == {"input_ids", "attention_mask"}


@settings(deadline=None)
@given(st.lists(st.tuples(st.lists(st.integers(1, 9), min_size=2, max_size=6), st.integers(1, 9)), min_size=1, max_size=5),
       st.data())
def test_a_subset_is_the_batch_of_its_pairs(drawn, data):
    pairs = [PromptPair(Prompt("", {"S": (0, 1)}, tuple(row)), Prompt("", {"S": (0, 1)}, (*row[:-1], row[-1] + 10)), 20 + a,
                        (30, 31)[:a % 3]) for row, a in drawn]
    side = data.draw(st.sampled_from(["left", "right"]))
    at = data.draw(st.lists(st.integers(0, len(pairs) - 1), min_size=1, max_size=4))
    options = {"name": "ids", "metric": "answer_logprob", "padding_side": side}
    chosen, fresh = build(pairs, **options).subset(at), build([pairs[i] for i in at], **options)
    assert chosen.tokens_sha256() == fresh.tokens_sha256()
    assert chosen.clean.ids.equal(fresh.clean.ids)
    assert chosen.corrupt.mask.equal(fresh.corrupt.mask)
    assert chosen.prompts == fresh.prompts
    for name in chosen.positions:
        assert chosen.spans[name].equal(fresh.spans[name])
        assert chosen.corrupt_spans[name].equal(fresh.corrupt_spans[name])
    assert chosen.provenance_dict()["n"] == len(at)


def test_a_subset_of_nothing_is_refused():
    with pytest.raises(InterpError, match="no prompt is chosen"):
        made(pair()).subset([])


def test_the_hash_is_of_the_tokens():
    others = (pair(), pair(clean="z abc"), pair(corrupt="z abc"), pair(answer="c"), pair(wrong=("c",)))
    hashes = {made(other).tokens_sha256() for other in others}
    assert len(hashes) == 5
    assert made(pair()).provenance_dict() == {"name": "letters", "version": None, "seed": None, "options": {}, "n": 1,
                                              "tokens_sha256": made(pair()).tokens_sha256(),
                                              "positions_sha256": made(pair()).positions_sha256()}


def test_the_same_tokens_marked_elsewhere_are_another_question():
    """Scores at a position named alike must not be found under one key where the name stands elsewhere."""
    def marked(at, side="right"):
        pairs = [PromptPair(Prompt("", {"S": at}, row), Prompt("", {"S": at}, (9, *row[1:])), 20, (30,))
                 for row in ((1, 2, 3), (4, 5, 6, 7))]
        return build(pairs, name="ids", padding_side=side).provenance_dict()

    assert marked((0, 1)) == marked((0, 1), "left")
    assert marked((0, 1)) != marked((1, 2))
    assert marked((0, 1))["tokens_sha256"] == marked((1, 2))["tokens_sha256"]


def test_another_metric():
    batch = made(pair()).with_metric("accuracy")
    assert batch.metric.name == "accuracy"
    with pytest.raises(InterpError, match="prob_diff"):
        batch.with_metric("probdiff")
