"""The model organism that ships: it loads offline, its tokenizer loses nothing, and it does what its card says."""

import json
import random
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
N = 48
MAKERS = {
    "ioi": ioi.generate,
    "colored_objects": colored_objects.generate,
    "induction": lambda n, seed, split: induction.generate(n, seed, split=split, tokens=range(3, 936)),
    "key_value": lambda n, seed, split: key_value.generate(n, seed, split=split, size=(32, 128)),
    "greater_than": greater_than.generate,
    "agreement": agreement.generate,
    "multiple_choice": multiple_choice.generate,
    "capital": capital.generate,
    "override": override.generate,
}


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


@pytest.mark.parametrize("name", list(MAKERS))
def test_it_does_what_its_card_says_on_held_out_prompts(organism, name):
    model, tokenizer = organism
    stated = json.loads((FOLDER / "evaluation.json").read_text())[name]["held_out"]["interval"]
    right = 0
    for pair in MAKERS[name](N, random.Random(name).getrandbits(30), split="held_out"):
        ids = [tokenizer.bos_token_id, *pair.clean.ids] if pair.clean.ids else tokenizer(pair.clean.text).input_ids
        with torch.no_grad():
            guess = model(torch.tensor([ids])).logits[0, -1].argmax().item()
        answers = [a if isinstance(a, int) else tokenizer(a).input_ids[1] for a in (pair.answers or (pair.answer,))]
        right += guess in answers
    deviation = (stated[0] * (1 - stated[0]) / N) ** 0.5
    assert right / N >= stated[0] - 3 * deviation - 1 / N
