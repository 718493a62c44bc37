"""ACDC: trying many at a time is trying one at a time; it recovers the programs, and loses half of an or."""

import numpy as np
import pytest
from masked_edges import network, pairs

import interp
from interp.core.errors import InterpError
from interp.discovery import discover
from interp.discovery.graph import edges_of
from interp.discovery.methods.acdc import order, remove
from interp.discovery.truth import batch_of, truth_of
from interp.engine.edge_circuits import run_masks
from interp.models.handmade import HANDMADE
from interp.tasks import from_tokens


@pytest.mark.parametrize("change", ["absolute", "signed"])
def test_many_at_a_time_is_one_at_a_time_at_every_step(change):
    model, batch, threshold = interp.load(network(), verify=False), pairs(), 0.01
    if change == "signed":      # the random network's effects are mostly negative: nothing would stay
        model = interp.load("compiled-balance", verify=False)
        batch = batch_of(model.name, n=4)
    fast, slow = (discover(model, batch, method="acdc", threshold=threshold, change=change, ahead=n) for n in (32, 1))
    np.testing.assert_array_equal(fast.notes["circuit"], slow.notes["circuit"])
    np.testing.assert_allclose(fast.values, slow.values, atol=1e-6)
    assert 0 < fast.notes["circuit"].sum() < len(edges_of(model))


def test_each_step_is_what_the_definition_says():
    """By hand: the circuit so far, with and without the edge."""
    model, batch = interp.load(network(), verify=False), pairs()
    found, edges = discover(model, batch, method="acdc", threshold=0.02), edges_of(model)
    circuit = np.ones(len(edges), dtype=bool)
    tried = order(edges)
    assert tried[0] == len(edges) - 1
    for edge in tried[:40]:
        without = circuit.copy()
        without[edge] = False
        with_it, gone = run_masks(model, batch, np.array([circuit, without]))
        change = np.abs(with_it - gone).mean()
        assert found.values[edge, 0] == pytest.approx(change, abs=1e-6)
        circuit = circuit if change >= 0.02 else without


@pytest.mark.parametrize("name", ["reverse", "rarer", "seen", "balance"])
@pytest.mark.parametrize("ablation", ["resample", "zero"])
def test_it_recovers_compiled_programs_under_the_ablation_of_their_truth(name, ablation):
    model = interp.load(f"compiled-{name}", verify=False)
    found = discover(model, batch_of(model.name, n=48, seed=2), method="acdc", threshold=1e-3, ablation=ablation)
    np.testing.assert_array_equal(found.notes["circuit"], truth_of(model, ablation))


def test_of_two_that_do_each_others_work_one_is_lost():
    made = HANDMADE["handmade-or"]()
    model, drawn = interp.load(made.name, verify=False), made.pairs(4)
    batch = from_tokens([p.clean for p in drawn], [p.corrupt for p in drawn], [p.answer for p in drawn],
                        [p.wrong for p in drawn], model=model)
    found = discover(model, batch, method="acdc")
    names = {name for name, kept in zip(found.edges.names(), found.notes["circuit"], strict=True) if kept}
    assert len(names & {"L0H0->mlp0.mlp", "L0H2->mlp0.mlp"}) == 1


def test_what_it_spends():
    """Forty edges of which three stay, tried ten at a time."""
    truth = np.zeros(40, dtype=bool)
    truth[[3, 17, 30]] = True
    spent = []

    def run(masks):
        spent.append(len(masks))
        return (masks & truth).sum(1, keepdims=True).astype(float)

    kept, scores, n = remove(40, np.arange(40), run, 0.5, False, 10)
    np.testing.assert_array_equal(kept, truth)
    np.testing.assert_array_equal(scores, truth)
    assert n == sum(spent) <= 1 + 10 * (40 // 10 + 3)


def test_refusals():
    model, batch = interp.load(network(), verify=False), pairs()
    with pytest.raises(InterpError, match="threshold"):
        discover(model, batch, method="acdc", threshold=-1.0)
