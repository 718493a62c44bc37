"""Compiled programs compute what their Python says, at the last token of random prompts."""

import importlib.util
import random
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch

import interp
from interp.core.circuit import Circuit
from interp.engine.edge_runs import graph_of
from interp.models.compiled import COMPILED

ROOT = Path(__file__).resolve().parents[2]
CIRCUITS = ROOT / "circuits" / "compiled"


@pytest.fixture(scope="module")
def truth():
    """The script that finds the circuits."""
    spec = importlib.util.spec_from_file_location("truth_of_programs", ROOT / "data" / "compiled" / "truth.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        yield module


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


@pytest.mark.parametrize(("name", "edges"), [
    ("reverse", {"embed->L2H0.v", "L2H0->logits.out"}),
    ("share", {"embed->mlp0.mlp", "mlp0->L1H0.v", "L1H0->logits.out"}),
])
def test_the_stored_truth_of_reverse_and_share_under_resampling(name, edges):
    circuit = Circuit.load(CIRCUITS / f"{name}.resample.json")
    assert {str(edge) for edge in circuit.edges} == edges
    assert circuit.provenance["other_order"] == "the same circuit"


@pytest.mark.parametrize("ablation", ["resample", "zero", "mean"])
@pytest.mark.parametrize("name", ["share", "same"])
def test_the_stored_truth_is_found_again(truth, name, ablation):
    found = truth.truth(COMPILED[f"compiled-{name}"](), ablation)
    assert found.edges == Circuit.load(CIRCUITS / f"{name}.{ablation}.json").edges


@pytest.mark.parametrize("name", ["balance", "sort"])
def test_the_slow_path_is_the_model(truth, name):
    made = COMPILED[f"compiled-{name}"]()
    ids = torch.tensor([pair.clean for pair in made.pairs(16)])
    logits = made.model(input_ids=ids).logits[:, -1]
    assert torch.allclose(truth.Slow.of(made).run(ids)[0].float(), logits, atol=1e-5)
    model = interp.load(made.name, verify=False)
    assert {"->".join(edge) for edge in truth.Slow.of(made).edges()} == set(graph_of(model).edges.names())


def test_every_program_has_three_truths():
    names = {f"{name.removeprefix('compiled-')}.{how}.json" for name in COMPILED for how in ("resample", "zero", "mean")}
    assert {file.name for file in CIRCUITS.glob("*.json")} == names
