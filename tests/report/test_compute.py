"""Results from a model whose circuit is known: the page shows its heads, their true patterns, the true answers."""

import numpy as np
import pytest
import torch

import interp
from interp.models.handmade import HANDMADE
from interp.report import build
from interp.report.page import page
from interp.tasks import from_tokens
from interp.tasks.tokenise import token_text, token_texts


@pytest.fixture(scope="module")
def induction():
    """The hand-made induction circuit, its batch, and results of it."""
    made, model = HANDMADE["handmade-induction"](), interp.load("handmade-induction", device="cpu")
    pairs = made.pairs(12, seed=0)
    columns = ([getattr(pair, part) for pair in pairs] for part in ("clean", "corrupt", "answer", "wrong"))
    batch = from_tokens(*columns)
    found = build(model, [batch], top=2, prompts=2)
    return made, model, batch, found


def test_the_page_names_the_heads_of_the_circuit_first(induction):
    made, _, _, found = induction
    assert {example.head for example in found.tasks[0].examples} <= made.true_heads
    text = page(found)
    first = text[text.index('<tr data-h="') + 12:][:4]
    assert first in {str(head) for head in made.true_heads}


def test_answers_are_those_of_a_plain_forward_pass(induction):
    made, _, batch, found = induction
    result = found.tasks[0]
    with torch.no_grad():
        logits = made.model(input_ids=batch.clean.ids, attention_mask=batch.clean.mask).logits
    said = logits[torch.arange(batch.n), batch.clean.last].argmax(-1)
    assert result.correct.tolist() == (said == batch.answers[:, 0]).tolist()
    assert result.correct.all()


def test_patterns_are_causal_rows_that_sum_to_one(induction):
    *_, batch, found = induction
    result = found.tasks[0]
    assert len(result.examples) == 4
    for example in result.examples:
        size = int(batch.clean.lengths[example.prompt])
        assert example.pattern.shape == (size, size)
        assert (example.visible == np.tril(np.ones((size, size), bool))).all()
        assert example.pattern.sum(1) == pytest.approx(1, abs=1e-5)
    assert len(result.every_head) == 2
    for every in result.every_head:
        assert every.pattern.sum(3) == pytest.approx(1, abs=1e-5)
        for example in result.examples:
            if example.prompt == every.prompt:
                assert (every.pattern[example.head.layer, example.head.head] == example.pattern).all()


def test_heads_are_typed_as_they_were_made(induction):
    """A previous-token head in layer 0 and an induction head in layer 1, by construction."""
    made, *_, found = induction
    types = found.types.by_head
    assert {types[str(head)] for head in made.true_heads} == {"previous token", "induction"}
    assert found.types.seconds > 0


def test_tokens_without_a_tokenizer_are_numbers():
    assert token_texts(None, [3, 17]) == ("<3>", "<17>")


@pytest.mark.weights
def test_tokens_keep_their_spaces_and_name_their_bytes(weights):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(weights / "gpt2-tokenizer")
    ids = tokenizer("Mary gave 🙃\n to")["input_ids"]
    texts = token_texts(tokenizer, ids)
    assert texts[:2] == ("Mary", " gave")
    assert texts[-2:] == ("\n", " to")
    assert all(text and "\ufffd" not in text for text in texts)
    assert token_text(tokenizer, ids[1]) == " gave"
    stories = AutoTokenizer.from_pretrained(weights / "stories260K")
    ids = stories("Lily saw a dog")["input_ids"]
    assert "".join(token_texts(stories, ids)).endswith("Lily saw a dog")
