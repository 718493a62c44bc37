"""Edge attribution: the derivative of patching by plain hooks, TransformerLens' own scores, the number and cost of edges."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from cases import batch_of, equal_length_batch, linear_network, model_of
from plain_edges import PlainEdges, parse

import interp
from interp.core.circuit import Edge
from interp.core.errors import InterpError
from interp.engine.edge_attribution import edge_attribution
from interp.engine.edges import make_edges
from interp.models.tiny import DECODERS, tiny

SPLIT = [name for name in DECODERS if name != "deepseek_v3"]


def logit_difference(logits):
    return float(logits[21] - logits[31])


@pytest.mark.parametrize("architecture", SPLIT)
def test_is_the_derivative_of_patching_each_edge(architecture):
    """Some edges of every kind, moved a little of the way to the corrupted run and back, by hooks on the untouched model."""
    dtype = torch.float32 if architecture in ("mixtral", "gpt_oss") else torch.float64       # experts have no double product
    model = interp.load(tiny(architecture), dtype=dtype, verify=False)
    plain = PlainEdges(architecture, dtype=dtype)
    step = 1e-4 if architecture == "opt" else 3e-3      # its ReLU has kinks; parts of others compute in float32
    batch = equal_length_batch(n=1, length=6)
    scores = edge_attribution(model, batch)
    clean, corrupt = batch.clean.ids[0].tolist(), batch.corrupt.ids[0].tolist()
    here, there = plain.writes(clean), plain.writes(corrupt)
    names = np.array(scores.edges.names())
    assert len(set(names)) == len(names)
    generator = np.random.default_rng(0)
    chosen = [i for receiver in np.unique(scores.edges.receiver)
              for i in generator.choice(np.flatnonzero(scores.edges.receiver == receiver), 1)]
    for i in chosen:
        sender, receiver = parse(names[i])
        ends = [logit_difference(plain.logits(clean, receiver, plain.difference(here, there, sender, sign * step)))
                for sign in (1, -1)]
        expected = -(ends[0] - ends[1]) / (2 * step)
        assert scores.values[i, 0] == pytest.approx(expected, rel=1e-2, abs=5e-4), names[i]
    assert np.abs(scores.values[chosen]).max() > 0.03


def test_number_and_order_of_edges():
    """12 layers of 12 heads: 32,491 = 36 receivers and an MLP per layer, 1 + 13 l senders before it, and the output."""
    edges = make_edges(12, 12, 12, [True] * 12, parallel=False)
    assert len(edges) == 32_491 == sum(36 * (1 + 13 * l) + (13 + 13 * l) for l in range(12)) + 157
    assert [len(edges.senders), len(edges.receivers)] == [157, 445]
    names = edges.names()
    assert len(set(names)) == len(names)
    assert names[0] == "embed->L0H0.q"
    assert names[-1] == "mlp11->logits.out"
    for name in ("L0H3->L1H7.v", "L4H0->mlp4.mlp", "mlp3->L4H1.k", "embed->logits.out"):
        assert names[edges.index(name)] == name
        assert edges.edges(edges.index(name)) == (Edge.parse(name),)
    parallel = make_edges(12, 12, 12, [True] * 12, parallel=True)
    assert len(parallel) == 32_491 - 144
    assert "L4H0->mlp4.mlp" not in set(parallel.names())
    shared = make_edges(2, 4, 2, [True, True], parallel=False)
    assert len(shared) == 8 * (1 + 6) + (5 + 10) + 11
    assert shared.edges(shared.index("mlp0->L1KV1.k")) == (Edge.parse("mlp0->L1H2.k"), Edge.parse("mlp0->L1H3.k"))
    with pytest.raises(InterpError, match="no"):
        edges.index("L3H0->L1H1.q")


def test_in_a_linear_network_estimates_add_up_to_the_difference():
    """Uniform patterns, no norm, no MLP: the estimate of an edge is exact, and a sender's edges add up to its node."""
    model, batch = linear_network(layers=3), batch_of()
    for direction in ("noising", "denoising"):
        scores = edge_attribution(model, batch, direction=direction)
        np.testing.assert_allclose(scores.by_sender()[0], scores.baselines["clean"] - scores.baselines["corrupt"], atol=1e-6)
        heads = interp.measures.activation_patching(model, batch, direction=direction).values.reshape(12, -1)
        np.testing.assert_allclose(scores.by_sender()[1:], heads, atol=1e-6)
    assert np.abs(heads).max() > 0.01


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "gpt_neox"])
def test_edges_of_a_sender_add_up_to_its_gradient(architecture):
    """What reaches the metric from a head reaches it along its edges: their sum is attribution patching of the head."""
    model, batch = model_of(architecture), batch_of()
    scores = edge_attribution(model, batch)
    nodes = interp.measures.attribution_patching(model, batch).values
    heads = scores.edges.senders.kind == 1
    np.testing.assert_allclose(scores.by_sender()[heads].reshape(nodes.shape), nodes, rtol=1e-3, atol=2e-5)
    assert np.abs(nodes).max() > 0.02


def test_conventions():
    model, batch = model_of("gpt2"), batch_of()
    noising, denoising = (edge_attribution(model, batch, direction=d) for d in ("noising", "denoising"))
    changed = edge_attribution(model, batch, sign="change")
    np.testing.assert_array_equal(changed.values, -noising.values)
    np.testing.assert_array_equal(edge_attribution(model, batch, direction="denoising", sign="change").values,
                                  denoising.values)
    assert np.abs(noising.values - denoising.values).max() > 0.02
    assert changed.provenance.options == {"direction": "noising", "sign": "change"}
    assert changed.provenance.metric == "logit_diff"


@pytest.mark.parametrize("architecture", ["gpt2", "gemma2"])
def test_batches_padding_and_memory_change_nothing(architecture, monkeypatch):
    model, batch = model_of(architecture), batch_of("right")
    whole = edge_attribution(model, batch)
    for other in (edge_attribution(model, batch, batch_size=1), edge_attribution(model, batch_of("left"))):
        np.testing.assert_allclose(other.values, whole.values, rtol=1e-3, atol=1e-5)
    monkeypatch.setattr("interp.engine.edge_attribution.MEMORY", 20_000)      # three tokens of one prompt
    np.testing.assert_allclose(edge_attribution(model, batch).values, whole.values, rtol=1e-3, atol=1e-5)


def test_cost_is_two_forwards_and_one_backward(monkeypatch):
    model, batch = model_of("gpt2"), batch_of()
    assert model.resuming.columns       # found out once per model, by passes over a few tokens
    counts = {"forward": 0, "backward": 0}
    forward, backward = type(model.backend).run, torch.autograd.grad

    def run(*args, **kwargs):
        counts["forward"] += 1
        return forward(*args, **kwargs)

    def grad(*args, **kwargs):
        counts["backward"] += 1
        return backward(*args, **kwargs)

    monkeypatch.setattr(type(model.backend), "run", run)
    monkeypatch.setattr(torch.autograd, "grad", grad)
    edge_attribution(model, batch)
    assert counts == {"forward": 2, "backward": 1}
    counts.update(forward=0, backward=0)
    interp.measures.attribution_patching(model, batch, positions="each")
    assert counts == {"forward": 2, "backward": 1}


def test_no_more_of_the_vocabulary_is_computed_than_the_metric_reads(monkeypatch):
    model, batch = model_of("gpt2"), batch_of()
    whole = edge_attribution(model, batch, metric=replace(batch.metric, columns="all"))
    widths = []
    forward = type(model.backend).run
    monkeypatch.setattr(type(model.backend), "run", lambda *args, **more: (
        widths.append((run := forward(*args, **more)).logits.shape[-1]), run)[1])
    few = edge_attribution(model, batch)
    assert widths[-2:] == [8, 8]      # four right and four wrong answers
    np.testing.assert_allclose(few.values, whole.values, atol=1e-6)
    assert np.abs(few.values).max() > 1e-3


def test_tables():
    model, batch = model_of("llama"), batch_of()
    scores = edge_attribution(model, batch)
    top = scores.top(5)
    mean = scores.mean()
    assert list(top["edge"]) == scores.edges.names(np.argsort(-np.abs(mean), kind="stable")[:5])
    assert ((top["low"] <= top["mean"]) & (top["mean"] <= top["high"])).all()
    assert scores.top(1, by="value")["mean"][0] == mean.max()
    frame = scores.to_frame()
    assert len(frame) == len(scores.edges) * batch.n
    row = frame.iloc[len(scores.edges.names()) // 2 * batch.n + 1]
    assert row["prompt"] == 1
    assert row["value"] == scores.values[scores.edges.index(row["edge"]), 1]
    low, high = scores.interval(n_boot=50)
    assert low.shape == high.shape == (len(scores.edges),)
    matrix = scores.matrix()
    i = scores.edges.index("mlp0->L1KV1.v")
    np.testing.assert_array_equal(matrix[scores.edges.sender[i], scores.edges.receiver[i]], scores.values[i])
    assert np.isnan(matrix).any()


def test_refuses():
    batch = batch_of()
    with pytest.raises(InterpError, match="no linear maps"):
        edge_attribution(model_of("deepseek_v3"), batch)
    with pytest.raises(InterpError, match="a norm follows each addition"):
        edge_attribution(model_of("bert"), batch)
    model = model_of("gpt2")
    with pytest.raises(InterpError, match="direction"):
        edge_attribution(model, batch, direction="sideways")
    with pytest.raises(InterpError, match="smoothly"):
        edge_attribution(model, batch, metric="accuracy")
    with pytest.raises(InterpError, match="rank scores"):
        edge_attribution(model, batch).top(3, by="name")
    unaligned = interp.tasks.from_tokens([[5, 6, 7], [5, 6, 8]], [[5, 6], [6, 5]], [9, 10], [11, 12])
    with pytest.raises(InterpError, match="correspond"):
        edge_attribution(model, unaligned)


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox"])
def test_transformer_lens_gives_the_same(architecture):
    """Its own edges, gradient at the corrupted run, summed over positions and averaged over prompts; 1e-6 of the largest."""
    from transformer_lens.tools.analysis.attribution_patching import EdgeAttributionConfig, attribution_patch

    model = interp.load(tiny(architecture, num_hidden_layers=2), verify=False)
    batch = equal_length_batch(n=2, length=5)
    scores = edge_attribution(model, batch, direction="denoising")
    bridge = model.bridge
    for parameter in bridge.parameters():
        parameter.requires_grad_(True)
    config = EdgeAttributionConfig(granularity="edge")
    found = attribution_patch(bridge, batch.clean.ids, batch.corrupt.ids,
                              lambda logits: logits[0, -1, 21] - logits[0, -1, 31], config)
    theirs = np.zeros(len(scores.edges))
    for (sender, receiver), value in found.edge_scores.items():
        theirs[scores.edges.index(f"{_node(sender)}->{_node(receiver)}")] += value
    assert len({(s.kind, s.layer, s.head, r.kind, r.layer, r.head) for s, r in found.edge_scores}) == len(scores.edges)
    np.testing.assert_allclose(scores.mean(), theirs, rtol=0, atol=2e-6 * np.abs(theirs).max())
    assert np.abs(theirs).max() > 0.05


def _node(node) -> str:
    into = {"q_input": "q", "k_input": "k", "v_input": "v"}.get(node.kind)
    return {"embed": "embed", "mlp_out": f"mlp{node.layer}", "mlp_in": f"mlp{node.layer}.mlp", "logits": "logits.out"}.get(
        node.kind, f"L{node.layer}H{node.head}" + ("" if into is None else f".{into}"))


@pytest.mark.parametrize("architecture", ["gpt2", "gemma2"])
def test_parts_of_places_add_up_and_are_what_is_written_there(architecture):
    """Each token alone; one part by patching the sender's writing at that token alone, to first order, by plain hooks."""
    model, batch = model_of(architecture), batch_of()
    whole = edge_attribution(model, batch)
    each = edge_attribution(model, batch, positions="each")
    np.testing.assert_array_equal(each.values, whole.values)
    np.testing.assert_allclose(sum(each.places.values()), whole.values, rtol=1e-4, atol=1e-6)
    assert list(each.places) == [str(i) for i in range(9)]
    named = edge_attribution(model, batch, positions=("S", "phrase", "end"), batch_size=1)
    np.testing.assert_allclose(named.at("S").values[:, [0, 2]], each.at("2").values[:, [0, 2]], rtol=1e-3, atol=1e-5)
    phrase = each.at("4").values[:, 1] + each.at("5").values[:, 1] + each.at("6").values[:, 1]
    np.testing.assert_allclose(named.at("phrase").values[:, 1], phrase, rtol=1e-3, atol=1e-5)
    assert np.abs(each.at("0").values).max() == 0 < np.abs(named.at("end").values).max()


def test_a_part_by_hooks():
    model, plain, step = interp.load(tiny("gpt2"), dtype=torch.float64, verify=False), PlainEdges("gpt2"), 3e-3
    batch = equal_length_batch(n=1, length=6)
    scores = edge_attribution(model, batch, positions="each")
    clean, corrupt = batch.clean.ids[0].tolist(), batch.corrupt.ids[0].tolist()
    here, there = plain.writes(clean), plain.writes(corrupt)
    for name in ("L0H1->L1H2.k", "embed->L0H0.v", "mlp0->mlp1.mlp"):
        sender, receiver = parse(name)
        for place in (2, 4, 5):
            mask = torch.zeros(6, 1, dtype=torch.float64)
            mask[place] = 1
            moved = [mask * plain.difference(here, there, sender, sign * step) for sign in (1, -1)]
            ends = [logit_difference(plain.logits(clean, receiver, move)) for move in moved]
            found = scores.at(str(place)).values[scores.edges.index(name), 0]
            assert found == pytest.approx(-(ends[0] - ends[1]) / (2 * step), rel=1e-2, abs=1e-4), (name, place)
