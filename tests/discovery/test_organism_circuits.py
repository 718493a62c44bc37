"""The organism's circuits that ship: small, faithful on the prompts they were judged on, and again on fresh ones."""

from pathlib import Path

import pytest

import interp
from interp import tasks
from interp.core.circuit import Circuit
from interp.core.overlap_many import pairs
from interp.core.universe import Shape, universe
from interp.discovery import judge
from interp.discovery.unseen_prompts import found_on, unseen

PLACE = Path(__file__).parents[2] / "circuits" / "organism"
FILES = sorted(path.stem for path in PLACE.glob("*.json"))


def read(name: str) -> Circuit:
    return Circuit.load(PLACE / f"{name}.json")


def test_there_are_five_at_least():
    assert len(FILES) >= 5


@pytest.mark.parametrize("name", FILES)
def test_every_circuit_is_small_and_says_how_faithful_it_was(name):
    circuit = read(name)
    judged = circuit.provenance["judged"]
    assert judged["share"] <= 0.15
    assert judged["edges"] == len(circuit.edges)
    assert judged["faithfulness"] >= 0.9
    assert max(circuit.provenance["random"]) < judged["faithfulness"]
    assert circuit.provenance["judged_on"]["tokens_sha256"] != circuit.provenance["task"]["tokens_sha256"]
    universe(Shape.of_circuits(circuit), "edges").members(circuit)


@pytest.mark.parametrize("name", [name for name in ("ioi", "agreement") if name in FILES])
def test_a_circuit_is_faithful_on_prompts_that_nobody_saw(name):
    model, circuit = interp.load("organism", verify=False), read(name)
    before = found_on(model, circuit)
    assert before is not None
    batch = unseen(model, tasks.get(name), 12, 77, seen=(before,))
    found = judge(model, batch, circuit)
    assert found.faithfulness > 0.85
    assert not found.warnings


def test_their_overlap_has_chance_lines():
    circuits = {name: read(name) for name in FILES}
    every = universe(Shape.of_circuits(*circuits.values()), "edges")
    found = pairs(circuits, every)
    assert len(found) == len(FILES) * (len(FILES) - 1) // 2
    assert (found["matched"] >= 0).all()
    assert found["p_holm"].between(0, 1).all()
