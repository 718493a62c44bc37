"""Planted models: they compute what their program does, by the nodes that they were aligned with and by no others."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import interp
from interp.core.circuit import Circuit
from interp.engine.edge_circuits import run_masks
from interp.engine.edge_runs import graph_of
from interp.models.compiled import COMPILED
from interp.models.planted import PLANTED
from interp.tasks import from_tokens

ROOT = Path(__file__).resolve().parents[2]
CIRCUITS = ROOT / "circuits" / "planted"
PROGRAM = {"planted-reverse": lambda words: words[0], "planted-share": lambda words: words.count("a") / len(words),
           "planted-same": lambda words: words.count(words[-1])}


@pytest.fixture(scope="module")
def check():
    """The script that measures how well a circuit is planted, with those that it imports."""
    folder = ROOT / "data" / "planted"
    spec = importlib.util.spec_from_file_location("check_of_planted", folder / "check.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(folder), *sys.path])
        for name in (spec.name, "train", "truth", "exchange"):
            patch.delitem(sys.modules, name, raising=False)
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        yield module
        for name in ("train", "truth", "exchange"):
            sys.modules.pop(name, None)


def test_two_programs_at_least_are_planted():
    assert len(PLANTED) >= 2
    assert {PLANTED[name]().program for name in PLANTED} <= set(COMPILED)
    assert set(PROGRAM) <= set(PLANTED)


@pytest.mark.parametrize("name", list(PLANTED))
def test_they_load_by_name_and_are_small_and_dense(name):
    made, model = PLANTED[name](), interp.load(name)
    assert model.name == name
    assert not model.verification.refused
    assert (ROOT / "data" / "planted" / f"{name.removeprefix('planted-')}.safetensors").stat().st_size < 1e6
    ids = torch.tensor([made.pairs(1)[0].clean])
    torch.testing.assert_close(model.run({"input_ids": ids}).logits, made.model(ids).logits, atol=1e-5, rtol=0)
    for weight in (x for part, x in made.model.state_dict().items() if x.dim() == 2):
        assert (weight.abs() > 1e-3).float().mean() > 0.8        # a compiled program has zeros nearly everywhere


@pytest.mark.parametrize("name", list(PROGRAM))
def test_the_behaviour_is_the_programs_in_python(name):
    made = PLANTED[name]()
    words = [tuple(np.random.default_rng(seed).choice(made.tokens, made.length)) for seed in range(200)]
    ids = torch.tensor([[made.vocabulary.index(word) for word in ("<bos>", *some)] for some in words])
    found = made.outputs(ids).tolist()
    wanted = [PROGRAM[name](list(some)) for some in words]
    right = [abs(a - b) < 0.5 / made.length if made.numerical else made.vocabulary[a] == f"={b}"
             for a, b in zip(found, wanted, strict=True)]
    assert np.mean(right) >= 0.98


@pytest.mark.parametrize("name", list(PLANTED))
def test_the_stored_figures_are_measured_again_on_prompts_that_were_not_trained_on(check, name):
    made = PLANTED[name]()
    again = check.figures(made, n=64, seed=77)
    assert set(again) == set(made.figures)
    for figure in ("accuracy", "iia", "iia_edges", "iia_shuffled"):
        assert again[figure] == pytest.approx(made.figures[figure], abs=0.05), figure
    assert min(again["accuracy"], again["iia"], again["iia_edges"]) >= 0.95
    assert again["iia_shuffled"] <= 0.3                   # exchanging other nodes does not do what the program's would
    assert again["outside"] <= 0.05


def test_the_figures_fall_when_the_alignment_is_wrong(check):
    made = PLANTED["planted-reverse"]()
    (old, new), = made.alignment.items()
    wrong = {old: f"{new[:3]}{(int(new[3:]) + 1) % 4}"}
    moved = type(made)(**{name: getattr(made, name) for name in made.__dataclass_fields__} | {"alignment": wrong})
    assert check.figures(moved, n=32)["iia"] < 0.3


def test_the_fast_run_of_the_training_is_the_slow_path(check):
    """Logits of every prompt under its own set of exchanged edges, against the float64 run of one set at a time."""
    run, made = sys.modules["exchange"].run, PLANTED["planted-share"]()
    slow, pairs = check.Slow.of(made), made.pairs(4)
    clean, corrupt = (torch.tensor([getattr(pair, side) for pair in pairs]) for side in ("clean", "corrupt"))
    weights, edges = made.model.state_dict(), slow.edges()
    masks = torch.rand(len(pairs), len(edges), generator=torch.Generator().manual_seed(0)) < 0.3
    there = run(weights, made.model.config, corrupt)[1]
    found = run(weights, made.model.config, clean, masks, there)[0][:, -1]
    for row, mask in enumerate(masks):
        chosen = [edge for edge, kept in zip(edges, mask.tolist(), strict=True) if kept]
        wanted = slow.run(clean, chosen, slow.run(corrupt)[1])[0][row]
        torch.testing.assert_close(found[row].double(), wanted, atol=1e-4, rtol=0)
    assert sys.modules["train"].names_of_edges(made.model.config) == ["->".join(edge) for edge in edges]


@pytest.mark.parametrize("name", list(PLANTED))
def test_the_circuit_by_itself_is_the_model_and_the_rest_is_nothing(name):
    """Through the engine: with the planted edges alone clean, and with all others clean."""
    made, model = PLANTED[name](), interp.load(name, verify=False)
    short = name.removeprefix("planted-")
    planted = {str(edge) for edge in Circuit.load(CIRCUITS / f"{short}.json").edges}
    pairs = made.pairs(48, seed=5)
    batch = from_tokens([p.clean for p in pairs], [p.corrupt for p in pairs], [p.answer for p in pairs],
                        [p.wrong for p in pairs], model=model)
    inside = np.array([edge in planted for edge in graph_of(model).edges.names()])
    assert inside.sum() == len(planted)
    alone, rest, whole, empty = run_masks(model, batch, np.stack([inside, ~inside, inside | True, inside & False])).mean(1)
    assert (alone - empty) / (whole - empty) == pytest.approx(1, abs=0.05)
    assert (rest - empty) / (whole - empty) == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("name", list(PLANTED))
def test_what_trying_every_edge_found_is_told(name):
    short = name.removeprefix("planted-")
    planted = Circuit.load(CIRCUITS / f"{short}.json")
    edges = {str(edge) for edge in planted.edges}
    tried = planted.provenance["trying every edge"]
    for ablation in ("resample", "zero", "mean"):
        found = {str(edge) for edge in Circuit.load(CIRCUITS / f"{short}.{ablation}.json").edges}
        assert set(tried[ablation]["needed besides"]) == found - edges
        assert set(tried[ablation]["not needed"]) == edges - found
    assert {planted.roles[node].split()[0] for node in planted.roles} == set(PLANTED[name]().alignment)
