"""What a threshold keeps, measured: a program whose circuit is known, and ``judge`` as the other path."""

from dataclasses import replace

import numpy as np
import pytest

import interp
from interp.core.circuit import Edge
from interp.core.errors import InterpError
from interp.core.provenance import Provenance
from interp.discovery import judge
from interp.discovery import kept as module
from interp.discovery.graph import circuit_of, edges_of
from interp.discovery.kept import kept, thresholds
from interp.discovery.truth import batch_of, truth_of
from interp.engine.edges import EdgeScores


@pytest.fixture(scope="module")
def program():
    model = interp.load("compiled-seen", verify=False)
    true = truth_of(model)
    values = np.where(true, 2.0, 0.5)[:, None] * np.ones(4)
    values[np.flatnonzero(true)[0]] = 1.0
    values[np.flatnonzero(~true)[0]] = np.nan
    made = Provenance("made_up", {}, {"name": model.name}, {}, "logit_diff")
    return model, batch_of(model.name, n=16, seed=5), true, EdgeScores(edges_of(model), values, made)


def test_the_true_edges_do_all_and_one_less_does_less_and_none_nothing(program):
    model, batch, true, scores = program
    measure = kept(model, batch, scores)
    whole, less, none = measure([1.0, 1.5, 3.0])
    assert whole.faithfulness == pytest.approx(1, abs=1e-3)
    assert (whole.edges, less.edges, none.edges) == (true.sum(), true.sum() - 1, 0)
    assert less.faithfulness < 0.9
    assert none.faithfulness == 0
    assert (whole.n, whole.ablation, whole.threshold) == (16, "resample", 1.0)


def test_it_says_what_judge_says_and_runs_each_set_of_edges_once(program, monkeypatch):
    model, batch, true, _ = program
    circuit = circuit_of(edges_of(model), true)
    told = {edge: float(i) for i, edge in enumerate(circuit.edges)}
    del told[circuit.edges[-1]]
    ran = []
    opened = module.open_masks

    def counted(*args, **options):
        run = opened(*args, **options)
        return lambda masks: ran.append(len(masks)) or run(masks)

    monkeypatch.setattr(module, "open_masks", counted)
    measure = kept(model, batch, circuit, scores=told)
    for at in (1.0, 0.5, 2.0, 1.0):
        (found,) = measure([at])
        some = replace(circuit, nodes=(), edges=tuple(edge for edge in circuit.edges if told.get(edge, 9) >= at))
        other = judge(model, batch, some)
        assert found.faithfulness == pytest.approx(other.faithfulness, abs=1e-6)
        assert (found.low, found.high) == pytest.approx(other.interval, abs=1e-6)
        assert (found.edges, found.threshold) == (other.size, at)
    assert ran == [2, 1, 1]      # the ends; 1.0 and 0.5 keep the same edges
    assert [found.edges for found in measure([3.0, 0.0, 9.0])] == [len(circuit.edges) - 3, len(circuit.edges), 1]
    assert ran == [2, 1, 1, 3]


def test_what_does_not_fit_is_refused(program):
    model, batch, _, scores = program
    circuit = circuit_of(edges_of(model), np.zeros(len(edges_of(model)), bool))
    wrong = replace(circuit, edges=(Edge.parse("L8H0->L9H9.k"),))
    with pytest.raises(InterpError, match="L8H0"):
        kept(model, batch, wrong)
    with pytest.raises(InterpError, match="these scores"):
        kept(interp.load("compiled-same", verify=False), batch, scores)


def test_thresholds_run_from_all_to_one_by_ratio():
    assert thresholds([3.0, 1.0, 2.0, float("nan")]) == [1.0, 2.0, 3.0]
    found = thresholds(np.linspace(0, 1, 1000), 10)
    assert (found[0], found[-1], len(found)) == (0.0, 1.0, 10)
    assert thresholds([]) == [0.0]
