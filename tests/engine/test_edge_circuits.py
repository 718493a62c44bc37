"""Circuits as edge masks: their ends are the clean and the other run, one edge is edge patching, and compiled programs run
by an independent path in float64 give the same for any mask and ablation."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import batch_of, equal_length_batch, model_of

import interp
from interp.core.errors import InterpError
from interp.engine.baselines import baselines
from interp.engine.edge_circuits import ground_of, masked_metric, run_masks
from interp.engine.edge_patching import edge_patching
from interp.engine.edge_runs import graph_of
from interp.models.compiled import COMPILED
from interp.models.tiny import DECODERS
from interp.tasks import from_tokens

SPLIT = [name for name in DECODERS if name != "deepseek_v3"]
TRUTH = Path(__file__).resolve().parents[2] / "data" / "compiled" / "truth.py"


@pytest.mark.parametrize("architecture", SPLIT)
def test_all_edges_are_the_run_and_none_the_other_run_and_one_is_edge_patching(architecture):
    model, batch = model_of(architecture), batch_of("left" if architecture == "llama" else "right", rows=[0, 1])
    n = len(graph_of(model).edges)
    generator = np.random.default_rng(3)
    chosen = generator.choice(n, 6, replace=False)
    masks = np.ones((8, n), dtype=bool)
    masks[1] = False
    masks[np.arange(2, 8), chosen] = False
    found = run_masks(model, batch, masks)
    ends = baselines(model, batch)
    np.testing.assert_allclose(found[0], ends.clean, atol=1e-4)
    np.testing.assert_allclose(found[1], ends.corrupt, atol=1e-4)
    patched = edge_patching(model, batch, chosen).values[chosen]
    np.testing.assert_allclose(found[0] - found[2:], patched, atol=1e-4)
    assert np.abs(patched).max() > 1e-3


def test_masks_together_are_masks_one_by_one():
    model, batch = model_of("llama"), equal_length_batch(n=3)
    masks = np.random.default_rng(0).random((9, len(graph_of(model).edges))) < 0.7
    together = run_masks(model, batch, masks)
    seen = []
    apart = run_masks(model, batch, masks, memory=1, progress=seen.append)
    np.testing.assert_allclose(together, apart, atol=1e-5)
    assert seen == [1] * 9
    assert np.std(together) > 1e-3


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "gpt_neox"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_passes_go_on_from_the_tokens_that_both_runs_share(architecture, side, monkeypatch):
    """The two runs differ from the third token on: a pass computes the others once, and gives the same."""
    model, batch = model_of(architecture), equal_length_batch(n=3, padding_side=side)
    masks = np.random.default_rng(0).random((5, len(graph_of(model).edges))) < 0.6
    ground = ground_of(graph_of(model), batch)
    assert (ground.first, ground.offset) == (2, 0)
    lengths = []
    forward = type(model.backend).run
    monkeypatch.setattr(type(model.backend), "run", lambda self, inputs, *args, **more: (
        lengths.append(inputs["input_ids"].shape[1]), forward(self, inputs, *args, **more))[1])
    shared = run_masks(model, batch, masks)
    assert lengths[-1] == batch.clean.ids.shape[1] - 2
    monkeypatch.setattr("interp.engine.stand_ins._prefix", lambda *_: None)
    whole = run_masks(model, batch, masks)
    assert lengths[-1] == batch.clean.ids.shape[1]
    np.testing.assert_allclose(shared, whole, atol=1e-5)
    assert np.std(shared) > 1e-3


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2"])
def test_prompts_of_unequal_length_of_which_one_begins_behind_the_shared_tokens(architecture, monkeypatch):
    """Padded on the left: up to the first difference of the longest prompt, the shortest is padding alone."""
    model, generator = model_of(architecture), np.random.default_rng(1)
    clean = [generator.integers(3, 97, n).tolist() for n in (12, 5, 11)]
    corrupt = [[*ids[:at], (ids[at] - 3 + 17) % 94 + 3, *ids[at + 1:]] for ids, at in zip(clean, (6, 2, 8), strict=True)]
    batch = from_tokens(clean, corrupt, [21] * 3, [31] * 3, padding_side="left")
    masks = generator.random((4, len(graph_of(model).edges))) < 0.6
    ground = ground_of(graph_of(model), batch)
    assert (ground.first, ground.offset) == (6, 0)
    assert not batch.clean.mask[1, :6].any()
    shared = run_masks(model, batch, masks)
    strict = replace(model, verification=replace(model.verification, inexact_padding=("right",)))
    refused = ground_of(graph_of(strict), batch)      # such a prefix looks like one padded on the right
    assert (refused.prefix, refused.offset) == (None, 6)
    monkeypatch.setattr("interp.engine.stand_ins._prefix", lambda *_: None)
    np.testing.assert_allclose(shared, run_masks(model, batch, masks), atol=1e-5)
    np.testing.assert_allclose(shared, run_masks(strict, batch, masks), atol=1e-5)
    assert np.std(shared) > 1e-3


def test_where_stand_ins_differ_everywhere_passes_are_whole():
    ground = ground_of(graph_of(model_of("llama")), equal_length_batch(n=2), "zero")
    assert ground.prefix is None
    assert ground.first == ground.offset == 0


@pytest.fixture(scope="module")
def slow():
    spec = importlib.util.spec_from_file_location("slow_path_of_programs", TRUTH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.parametrize("ablation", ["resample", "zero", "mean_position"])
@pytest.mark.parametrize("name", ["balance", "sort-repeats"])
def test_any_mask_of_a_compiled_program_against_the_slow_path(slow, name, ablation):
    made = COMPILED[f"compiled-{name}"]()
    model, pairs = interp.load(made.name, verify=False), made.pairs(12)
    clean, corrupt = ([getattr(pair, side) for pair in pairs] for side in ("clean", "corrupt"))
    batch = from_tokens(clean, corrupt, [p.answer for p in pairs], [p.wrong for p in pairs], model=model)
    path, names = slow.Slow.of(made), graph_of(model).edges.names()
    there, here = path.run(torch.tensor(corrupt))[1], path.run(torch.tensor(clean))[1]
    instead = {"resample": there, "zero": {k: torch.zeros_like(x) for k, x in here.items()},
               "mean_position": {k: x.mean(0, keepdim=True).expand_as(x) for k, x in here.items()}}[ablation]
    masks = np.random.default_rng(1).random((5, len(names))) < np.array([0.3, 0.5, 0.7, 0.9, 0.95])[:, None]
    expected = []
    for mask in masks:
        outside = [tuple(name.split("->")) for name, kept in zip(names, mask, strict=True) if not kept]
        logits = path.run(torch.tensor(clean), outside, instead)[0]
        expected.append([float(row[p.answer] - row[p.wrong]) for row, p in zip(logits, pairs, strict=True)])
    found = run_masks(model, batch, masks, ablation=ablation)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.std(expected) > 0.05


def test_the_mean_is_that_of_all_real_tokens():
    """One head's output in place of its mean over the five tokens that are no padding."""
    model = model_of("gpt2", n_layer=1)
    batch = from_tokens([[5, 6, 7], [8, 9]], [[5, 60, 7], [8, 90]], 21, 31)
    graph = graph_of(model)
    ground = ground_of(graph, batch, "mean")
    rows = [torch.tensor([ids]) for ids in ([5, 6, 7], [8, 9])]
    site = graph.site("resid_pre", 0)
    embed = torch.cat([model.run({"input_ids": ids}, {}, [site]).captured[site][0] for ids in rows])
    assert embed.shape[0] == 5
    torch.testing.assert_close(ground.there[0][1, 2], embed.mean(0), atol=1e-5, rtol=1e-5)


def test_the_gradient_by_masks_is_a_finite_difference():
    model, batch = model_of("gpt2", n_layer=2), equal_length_batch(n=2, length=6)
    graph = graph_of(model)
    ground, n = ground_of(graph, batch), len(graph.edges)
    masks = torch.full((1, n), 0.6, requires_grad=True)
    masked_metric(graph, ground, batch, batch.metric, masks).sum().backward()
    at = [int(i) for i in masks.grad[0].abs().topk(3).indices]
    for i in at:
        moved = torch.full((2, n), 0.6)
        moved[0, i], moved[1, i] = 0.61, 0.59
        with torch.no_grad():
            up, down = masked_metric(graph, ground, batch, batch.metric, moved).sum(1)
        assert float(masks.grad[0, i]) == pytest.approx(float(up - down) / 0.02, rel=0.05, abs=1e-4)


def test_refusals():
    model, batch = model_of("gpt2", n_layer=1), equal_length_batch(n=2)
    with pytest.raises(InterpError, match="edges"):
        run_masks(model, batch, np.ones(3))
    with pytest.raises(InterpError, match="resample"):
        run_masks(model, batch, np.ones(len(graph_of(model).edges)), ablation="resampel")
