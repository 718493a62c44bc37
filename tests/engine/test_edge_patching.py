"""Exact patching of edges: plain hooks on the untouched model, one edge at a time; what costs nothing; sums; refusals."""

import numpy as np
import pytest
import torch
from cases import batch_of, equal_length_batch, model_of
from plain_edges import PlainEdges, parse

import interp
from interp.core.errors import InterpError
from interp.engine.edge_attribution import edge_attribution
from interp.engine.edge_patching import edge_patching
from interp.engine.forward import metric_values
from interp.engine.intervention import Intervention, Resample
from interp.engine.sweep import sweep_record
from interp.models.tiny import DECODERS, tiny

SPLIT = [name for name in DECODERS if name != "deepseek_v3"]


def by_hooks(architecture, batch, names, direction):
    """The effect of each edge on each prompt by the slow path."""
    plain, values = PlainEdges(architecture, dtype=torch.float32), []
    for ids in zip(batch.clean.rows(), batch.corrupt.rows(), strict=True):
        on, other = ids if direction == "noising" else ids[::-1]
        here, there = plain.writes(on), plain.writes(other)
        answers = len(values)
        right, wrong = int(batch.answers[answers, 0]), int(batch.wrong[answers, 0])

        def metric(logits, right=right, wrong=wrong):
            return float(logits[right] - logits[wrong])

        base, row = metric(plain.logits(on)), []
        for name in names:
            sender, receiver = parse(name)
            changed = metric(plain.logits(on, receiver, plain.difference(here, there, sender)))
            row.append(base - changed if direction == "noising" else changed - base)
        values.append(row)
    return np.array(values).T


@pytest.mark.parametrize("architecture", SPLIT)
def test_against_plain_hooks(architecture):
    """One sender into every receiver, of every kind, prompts of two lengths; 1e-4."""
    model, batch = model_of(architecture), batch_of("left" if architecture == "llama" else "right", rows=[0, 1])
    direction = "denoising" if architecture in ("gpt2", "falcon") else "noising"
    edges = edge_attribution(model, batch).edges
    generator = np.random.default_rng(1)
    chosen = [generator.choice(np.flatnonzero(edges.receiver == r)) for r in np.unique(edges.receiver)]
    found = edge_patching(model, batch, chosen, direction=direction)
    expected = by_hooks(architecture, batch, edges.names(np.array(chosen)), direction)
    np.testing.assert_allclose(found.values[chosen], expected, atol=1e-4, rtol=1e-4)
    assert np.abs(expected).max() > 0.03
    assert np.isnan(np.delete(found.values, chosen, axis=0)).all()


def test_every_edge_of_a_small_model():
    model, batch = model_of("gpt2", n_layer=2), equal_length_batch(n=2, length=6)
    found = edge_patching(model, batch)
    names = found.edges.names()
    at = np.arange(0, len(names), 3)
    plain = PlainEdges("gpt2", dtype=torch.float32, n_layer=2)
    clean, corrupt = batch.clean.ids[0].tolist(), batch.corrupt.ids[0].tolist()
    here, there = plain.writes(clean), plain.writes(corrupt)
    base = plain.logits(clean)
    for i in at:
        sender, receiver = parse(names[i])
        logits = plain.logits(clean, receiver, plain.difference(here, there, sender))
        expected = float(base[21] - base[31]) - float(logits[21] - logits[31])
        assert found.values[i, 0] == pytest.approx(expected, abs=1e-4), names[i]
    assert np.isfinite(found.values).all()
    np.testing.assert_allclose(found.baselines["clean"], metric_values(model, batch), atol=1e-5)


def test_the_last_mlp_has_one_edge_which_is_its_node():
    model, batch = model_of("gpt2"), equal_length_batch(n=2)
    found = edge_patching(model, batch, ["mlp2->logits.out"])
    node = metric_values(model, batch, Intervention("mlp_out", 2, None, None, Resample("corrupt")))
    at = found.edges.index("mlp2->logits.out")
    np.testing.assert_allclose(found.values[at], found.baselines["clean"] - node, atol=1e-4)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "gpt_neox"])
def test_only_edge_of_a_last_layer_head_is_its_node(architecture):
    """A head of the last layer of a parallel block reaches the output alone; elsewhere the MLP too."""
    model, batch = model_of(architecture), batch_of()
    scores = edge_patching(model, batch, ["L2H1->logits.out"] + ([] if architecture == "gpt_neox" else ["L2H1->mlp2.mlp"]))
    node = interp.measures.activation_patching(model, batch).values[2, 1]
    direct = scores.values[scores.edges.index("L2H1->logits.out")]
    if architecture == "gpt_neox":
        np.testing.assert_allclose(direct, node, atol=1e-4)
    else:
        assert np.abs(direct - node).max() > 1e-3


def test_a_head_that_writes_nothing_costs_nothing(monkeypatch):
    network = tiny("gpt2")
    with torch.no_grad():
        network.transformer.h[0].attn.c_proj.weight[8:16] = 0
    swept = []

    def counted(model, batch, lists, *args, **more):
        swept.append(len(lists))
        return sweep_record(model, batch, lists, *args, **more)

    monkeypatch.setattr("interp.engine.edge_patching.sweep_record", counted)
    found = edge_patching(interp.load(network), batch_of(), ["embed->L0H0.q", "L0H1->L1H1.k", "L0H1->logits.out"])
    at = [found.edges.index(name) for name in ("L0H1->L1H1.k", "L0H1->logits.out")]
    assert found.values[at].tolist() == [[0] * 4] * 2
    assert found.values[found.edges.index("embed->L0H0.q")].any()
    assert swept == [1]


def test_rate_and_projection(monkeypatch):
    model, batch = model_of("gpt2"), batch_of()
    found = edge_patching(model, batch, np.arange(0, 262, 5))
    assert found.notes["edges_per_second"] == pytest.approx(53 / found.notes["seconds"])
    assert 2 < found.notes["projected_seconds"] / found.notes["seconds"] < 10
    assert found.provenance.options == {"direction": "noising", "edges": 53}
    monkeypatch.setattr("interp.engine.edge_patching.MEMORY", 10_000)
    again = edge_patching(model, batch, np.arange(0, 262, 5))
    np.testing.assert_allclose(again.values, found.values, atol=1e-5)
    assert len(found.top(1000)) == 53


def test_refuses():
    model, batch = model_of("gpt2"), batch_of()
    with pytest.raises(InterpError, match="L9H9"):
        edge_patching(model, batch, ["L0H0->L9H9.q"])
    with pytest.raises(InterpError, match="none is chosen"):
        edge_patching(model, batch, [])
    with pytest.raises(InterpError, match="count from 0 to 261"):
        edge_patching(model, batch, [262])
    with pytest.raises(InterpError, match="direction"):
        edge_patching(model, batch, [0], direction="up")
