"""The model organism that ships: it loads offline, its tokenizer loses nothing, and it does what its card says."""

import json
import random
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from interp.tasks import (
    agreement,
    capital,
    colored_objects,
    greater_than,
    induction,
    ioi,
    key_value,
    multiple_choice,
    override,
)

FOLDER = Path(__file__).resolve().parents[2] / "data" / "models" / "organism"
N = 24
VOCABULARY = json.loads((FOLDER / "config.json").read_text())["vocab_size"]
MAKERS = {
    "ioi": ioi.generate,
    "colored_objects": colored_objects.generate,
    "induction": lambda n, seed, split: induction.generate(n, seed, split=split, tokens=range(3, VOCABULARY)),
    "key_value": lambda n, seed, split: key_value.generate(n, seed, split=split, size=(32, 128)),
    "greater_than": greater_than.generate,
    "agreement": agreement.generate,
    "multiple_choice": multiple_choice.generate,
    "capital": capital.generate,
    "override": override.generate,
}
FRESH = {
    "fresh/ioi frames": lambda n, seed, split: ioi.generate(n, seed, split=split, frames=ioi.FRESH_FRAMES),
    "fresh/ioi names": lambda n, seed, split: ioi.generate(n, seed, split=split, names=ioi.FRESH_NAMES),
    "fresh/override frames/stands": lambda n, seed, split: override.generate(
        n, seed, split=split, kind="stands", frames=override.FRESH_FRAMES),
}
MUST_REACH = (*MAKERS, "key_value/128 pairs", "fresh/ioi names")


@pytest.fixture(scope="module")
def organism():
    return AutoModelForCausalLM.from_pretrained(FOLDER).eval(), AutoTokenizer.from_pretrained(FOLDER)


def test_it_is_small():
    shipped = [file for file in FOLDER.iterdir() if file.is_file()]
    assert sum(file.stat().st_size for file in shipped) < 15e6


@pytest.mark.parametrize("text", ["When Mary went, 1732 3", " leading", "Zürich\t日本 \n\n  don't", "", "The  end ", "\n"])
def test_any_text_survives_the_tokenizer(organism, text):
    tokenizer = organism[1]
    ids = tokenizer(text).input_ids
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids[1:]) == text


def test_listed_words_are_single_tokens(organism):
    tokenizer = organism[1]
    for make in MAKERS.values():
        for pair in make(100, 0, split="all"):
            answers = [answer for answer in (pair.answer, *pair.wrong) if isinstance(answer, str)]
            assert all(len(tokenizer(answer).input_ids) == 2 for answer in answers)


@pytest.fixture(scope="module")
def stated():
    return json.loads((FOLDER / "evaluation.json").read_text())


def share_right(organism, pairs):
    model, tokenizer = organism
    right = 0
    for pair in pairs:
        ids = [tokenizer.bos_token_id, *pair.clean.ids] if pair.clean.ids else tokenizer(pair.clean.text).input_ids
        with torch.no_grad():
            guess = model(torch.tensor([ids])).logits[0, -1].argmax().item()
        answers = [a if isinstance(a, int) else tokenizer(a).input_ids[1] for a in (pair.answers or (pair.answer,))]
        right += guess in answers
    return right / len(pairs)


@pytest.mark.parametrize("name", [*MAKERS, *FRESH])
def test_it_does_what_its_card_says(organism, stated, name):
    """A new sample, of held-out words, is not below what the card states by more than three deviations."""
    low, _ = stated[name]["held_out"]["interval"]
    found = share_right(organism, (MAKERS | FRESH)[name](N, random.Random(name).getrandbits(30), split="held_out"))
    assert found >= low - 3 * (low * (1 - low) / N) ** 0.5 - 1 / N


@pytest.mark.parametrize("name", MUST_REACH)
def test_what_it_must_do_it_does(stated, name):
    for split in ("held_out", "train"):
        result = stated[name][split]
        assert result["n"] >= 300
        assert result["right"] / result["n"] == result["accuracy"] >= 0.95


def test_the_card_names_what_is_not_reached_and_nothing_else(stated):
    card = (FOLDER / "README.md").read_text()
    missed = {name for name, splits in stated.items() if min(split["accuracy"] for split in splits.values()) < 0.95}
    said = re.search(r"\*\*Not reached[^*]*\*\* (.*?)\.\n", card + "\n")
    assert {re.sub(r" \([\d. /]+\)$", "", one) for one in said[1].split(", ")} == missed if missed else said is None
    for name, splits in stated.items():
        row = next(line for line in card.splitlines() if line.startswith(f"| {name} |"))
        assert all(f"{splits[split]['accuracy']:.3f} [" in row for split in ("held_out", "train"))
