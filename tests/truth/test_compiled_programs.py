"""Compiled programs compute what their Python says, at the last token of random prompts."""

import random
from itertools import pairwise

import pytest
import torch

import interp
from interp.models.compiled import COMPILED


def rarer(words):
    many = [words.count(word) for word in words]
    return sum(other < many[-1] for other in many)


def after_same(words):
    """Where the last token occurs twice, nothing is asked of the program."""
    followers = [b for a, b in pairwise(words) if a == words[-1]]
    return followers[0] if len(set(followers)) == 1 else None


BY_HAND = {
    "reverse": lambda words: words[0],
    "share": lambda words: words.count("a") / len(words),
    "balance": lambda words: (words.count("(") - words.count(")")) / len(words),
    "same": lambda words: words.count(words[-1]),
    "sort": lambda words: max(words, key=int),
    "sort-repeats": lambda words: max(words, key=int),
    "rarer": rarer,
    "after-same": after_same,
    "follows": lambda words: words[-2:] == ["a", "b"],
    "mirror": lambda words: words[0] == words[-1],
    "seen": lambda words: words[-1] in words[:-1],
    "parity": lambda words: words.count("a") % 2 == 1,
    "hops": lambda words: words[2],
    "largest": lambda words: max(words, key=int),
}


def test_every_program_has_its_python():
    assert {f"compiled-{name}" for name in BY_HAND} == set(COMPILED)
    assert len(COMPILED) >= 12


@pytest.mark.parametrize("name", list(BY_HAND))
def test_the_weights_compute_what_the_python_says(name):
    made = COMPILED[f"compiled-{name}"]()
    rng = random.Random(5)
    prompts = [rng.sample(made.tokens, made.length) if made.distinct else rng.choices(made.tokens, k=made.length)
               for _ in range(64)]
    expected = [BY_HAND[name](words) for words in prompts]
    ids = torch.tensor([[made.vocabulary.index(word) for word in ("<bos>", *words)] for words in prompts])
    found = made.outputs(ids).tolist()
    assert len({e for e in expected if e is not None}) > 1
    for one, other in zip(expected, found, strict=True):
        if one is not None and made.numerical:
            assert other == pytest.approx(one, abs=1e-4)
        elif one is not None:
            assert made.vocabulary[other] == f"={one}"


@pytest.mark.parametrize("name", ["reverse", "balance"])
def test_pairs_differ_in_their_answer_and_come_from_their_seed(name):
    made = COMPILED[f"compiled-{name}"]()
    pairs = made.pairs(20, seed=3)
    assert pairs == made.pairs(20, seed=3) != made.pairs(20, seed=4)
    logits = [made.model(input_ids=torch.tensor([p.clean, p.corrupt])).logits[:, -1] for p in pairs]
    for pair, (clean, corrupt) in zip(pairs, logits, strict=True):
        assert clean[pair.answer] - clean[pair.wrong] > corrupt[pair.answer] - corrupt[pair.wrong]


def test_they_load_by_name_and_tokenize_words():
    model = interp.load("compiled-reverse")
    assert (model.n_layers, model.n_heads) == (3, 1)
    words = COMPILED["compiled-reverse"]().vocabulary
    assert model.tokenizer("a b d").input_ids == [words.index(word) for word in ("<bos>", *"abd")]
    with pytest.raises(interp.InterpError, match="compiled-reverse"):
        interp.load("compiled-reverze")
