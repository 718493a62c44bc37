"""Judgement of circuits on programs and gates whose circuits are known."""

import numpy as np
import pandas as pd
import pytest
from masked_edges import network, pairs

import interp
from interp.core.circuit import Circuit
from interp.core.errors import InterpError
from interp.discovery import discover, judge, select
from interp.discovery.graph import circuit_of, edges_of
from interp.discovery.judgement import cmd, cpr, curve, judge_all, minimal, random_like
from interp.discovery.truth import batch_of, place, truth_of
from interp.models.handmade import HANDMADE
from interp.tasks import from_tokens


@pytest.fixture(scope="module")
def program():
    model = interp.load("compiled-seen", verify=False)
    return model, batch_of(model.name, n=32, seed=5), truth_of(model)


@pytest.mark.parametrize("ablation", ["resample", "zero", "mean_position"])
def test_a_true_circuit_is_faithful_and_complete_and_others_of_its_make_are_not(ablation, program):
    model, batch, _ = program
    true = truth_of(model, ablation.removesuffix("_position"))
    found, *others = judge_all(model, batch, [true, *random_like(edges_of(model), true, 5)], ablation=ablation)
    assert found.faithfulness == pytest.approx(1, abs=1e-3)
    assert found.completeness == pytest.approx(1, abs=1e-3)
    assert found.worst < 0.01
    assert found.equivalent().rejected
    assert found.interval == pytest.approx((1, 1), abs=1e-3)
    assert not found.independent().rejected
    for other, mask in zip(others, random_like(edges_of(model), true, 5), strict=True):
        if (mask != true).any():
            assert other.faithfulness < 0.9


def test_a_redundant_part_is_missed_by_faithfulness_and_seen_by_completeness():
    made = HANDMADE["handmade-or"]()
    model, drawn = interp.load(made.name, verify=False), made.pairs(8)
    batch = from_tokens([p.clean for p in drawn], [p.corrupt for p in drawn], [p.answer for p in drawn],
                        [p.wrong for p in drawn], model=model)
    one = Circuit.from_json('{"nodes": [], "edges": ["embed->L0H0.v", "L0H0->mlp0.mlp", "mlp0->logits.out"]}')
    found = judge(model, batch, one)
    assert found.faithfulness == pytest.approx(1)
    assert found.completeness == pytest.approx(1)      # without the MLP nothing is left
    half = Circuit.from_json('{"nodes": [], "edges": ["embed->L0H0.v", "L0H0->mlp0.mlp"]}')
    found = judge(model, batch, half)
    assert found.faithfulness == pytest.approx(0)
    assert found.completeness == pytest.approx(0)      # the other head does it all


def test_every_edge_of_a_true_circuit_is_needed_and_no_other(program):
    model, batch, true = program
    more = true.copy()
    more[np.flatnonzero(~true)[:3]] = True
    found = minimal(model, batch, more)
    assert set(found.edge[found.needed]) <= set(edges_of(model).names(np.flatnonzero(true)))
    assert found.p[~found.edge.isin(edges_of(model).names(np.flatnonzero(true)))].min() > 0.9
    assert found.effect[found.needed].min() > 0.1


def test_random_circuits_have_the_same_profile():
    edges = edges_of(interp.load(network(), verify=False))
    true = np.random.default_rng(0).random(len(edges)) < 0.3

    def profile(mask):
        senders, receivers = edges.sender[mask], edges.receiver[mask]
        return sorted(zip(edges.senders.layer[senders].tolist(), edges.receivers.layer[receivers].tolist(),
                          edges.receivers.kind[receivers].tolist(), strict=True))

    drawn = random_like(edges, true, 20, seed=1)
    assert all(profile(mask) == profile(true) for mask in drawn)
    assert len({mask.tobytes() for mask in drawn}) > 1
    np.testing.assert_array_equal(drawn, random_like(edges, true, 20, seed=1))


def test_the_curve_ends_at_the_model_and_its_areas_are_those_of_its_points(program):
    model, batch, _ = program
    found = curve(model, batch, discover(model, batch, method="mask_ig"), fractions=(0.05, 0.2, 0.5, 1.0))
    assert found.faithfulness.iloc[-1] == pytest.approx(1)
    assert found.faithfulness.iloc[0] < 0.5 < 0.99 < found.faithfulness.iloc[1]
    flat = pd.DataFrame({"fraction": [0.0, 0.5, 1.0], "faithfulness": [0.0, 1.5, 1.0]})
    assert cpr(flat) == pytest.approx(0.375 + 0.625)
    assert cmd(flat) == pytest.approx(0.375 + 0.125)


def test_a_ratio_of_means_with_a_paired_interval():
    model, batch = interp.load(network(), verify=False), pairs()
    scores = discover(model, batch, method="eap")
    found = judge(model, batch, select(scores, len(edges_of(model)) // 2))
    by_hand = (found.circuit.mean() - found.empty.mean()) / (found.whole.mean() - found.empty.mean())
    assert found.faithfulness == pytest.approx(by_hand)
    low, high = found.interval
    assert low < by_hand < high
    assert found.summary()["n"] == batch.n


def test_what_makes_a_judgement_say_less_is_said(program):
    model, batch, true = program
    scores = discover(model, batch, method="eap")
    circuit = select(scores, 10)
    assert "judged on the prompts it was found on" in judge(model, batch, circuit).warnings
    other = batch_of(model.name, n=8, seed=6)
    assert judge(model, other, circuit).warnings == ()
    assert judge(model, other, circuit, ablation="zero").warnings == ("found under resample ablation, judged under zero",)
    drawn = zip(other.clean.rows(), other.corrupt.rows(), strict=True)
    turned = [pair if i % 2 else pair[::-1] for i, pair in enumerate(drawn)]
    mixed = from_tokens(*zip(*turned, strict=True), other.answers[:, 0].tolist(), other.wrong[:, 0].tolist())
    assert "hardly anything" in judge(model, mixed, circuit_of(edges_of(model), true)).warnings[0]


def test_refusals(program):
    model, batch, true = program
    with pytest.raises(InterpError, match="edges"):
        judge(model, batch, np.ones(3, dtype=bool))
    with pytest.raises(InterpError, match="not all"):
        minimal(model, batch, np.ones_like(true))
    assert (place() / "compiled").is_dir()
