"""``verified``: what it finds on compiled programs and gates, what its sample says, what it spends."""

import numpy as np
import pytest
from masked_edges import network, pairs
from scipy import stats

import interp
from interp.core import detection
from interp.core.circuit import Circuit
from interp.discovery import discover
from interp.discovery.graph import edges_of, mask_of
from interp.discovery.truth import batch_of, programs, truth_of
from interp.models.handmade import HANDMADE
from interp.tasks import from_tokens

QUIET = {"progress": False}
pytestmark = pytest.mark.filterwarnings("ignore:the scores of integrated gradients:UserWarning")


@pytest.mark.parametrize("name", ["rarer", "seen", "share", "same"])
def test_it_finds_the_circuits_that_eap_misses(name):
    model = interp.load(f"compiled-{name}", verify=False)
    batch, true = batch_of(model.name, n=32, seed=1), truth_of(model, "resample")
    found = discover(model, batch, method="verified", **QUIET)
    assert detection.auroc(np.abs(found.mean()), true) == 1.0
    assert len(found.notes["exact"]) <= 0.03 * len(true)
    if name != "share":
        assert detection.auroc(np.abs(discover(model, batch, method="eap").mean()), true) < 0.8


def test_every_program_has_a_truth():
    assert len(programs()) >= 12


@pytest.mark.parametrize("name", ["or", "and", "xor", "saturated", "cancel", "erased", "redundant"])
def test_no_gate_has_an_edge_that_matters_and_is_not_seen(name):
    made = HANDMADE[f"handmade-{name}"]()
    model, drawn = interp.load(made.name, verify=False), made.pairs(8)
    batch = from_tokens([p.clean for p in drawn], [p.corrupt for p in drawn], [p.answer for p in drawn],
                        [p.wrong for p in drawn], model=model)
    exact = np.abs(discover(model, batch, method="edge_patching", **QUIET).mean()) > 1e-4
    assert exact.sum() >= 3
    found = np.abs(discover(model, batch, method="verified", share=0.0, **QUIET).mean())
    assert (found[exact] > 1e-3).all()
    if name in ("or", "and", "saturated"):
        blind = {"or": "noising", "and": "denoising", "saturated": "noising"}[name]
        assert (np.abs(discover(model, batch, method="eap", direction=blind).mean())[exact] < 1e-3).any()


def test_what_is_checked_is_exact_and_the_sample_bounds_the_rest():
    model, batch = interp.load(network(), verify=False), pairs()
    found = discover(model, batch, method="verified", share=0.3, sample=0.5, **QUIET)
    exact = discover(model, batch, method="edge_patching", **QUIET).values
    at, drawn, n = found.notes["exact"], found.notes["sampled"], len(edges_of(model))
    np.testing.assert_allclose(found.values[at], exact[at], atol=1e-6)
    assert len(at) == len(set(at)) == int(0.3 * n)
    assert set(drawn) < set(at)
    kinds = found.edges.receivers.kind[found.edges.receiver[drawn]]
    assert len(set(kinds.tolist())) > 2
    size = np.abs(exact.mean(1))
    assert found.notes["sampled_largest"] == pytest.approx(size[drawn].max())
    beyond = set(np.flatnonzero(size > found.notes["sampled_largest"] + 1e-9).tolist()) - set(at)
    assert len(beyond) <= found.notes["missed_at_most"] < n
    assert {found.notes["source"][i].split()[0] for i in at} == {"exact"}
    assert discover(model, batch, method="verified", share=0.0, **QUIET).notes["missed_at_most"] == n
    assert stats.spearmanr(np.abs(found.mean()), size).statistic > 0.8


def test_the_truth_is_read_from_the_circuits_that_ship():
    model = interp.load("compiled-reverse", verify=False)
    path = next(p for p in programs() if p == "compiled-reverse")
    true = truth_of(model, "zero")
    assert path == model.name
    assert true.sum() == 7
    assert isinstance(mask_of(edges_of(model), Circuit()), np.ndarray)
