"""The published lists of heads that ship: sizes and heads as published, and what they share."""

from pathlib import Path

import pytest

from interp.core.circuit import Circuit
from interp.core.overlap import overlap
from interp.core.universe import Shape, universe

PLACE = Path(__file__).parents[2] / "circuits" / "published"
SIZES = {"gpt2.ioi": 26, "gpt2.greater_than": 9, "gpt2.induction": 5, "gpt2-medium.ioi": 11,
         "gpt2-medium.colored_objects": 10}


def read(name: str) -> Circuit:
    return Circuit.load(PLACE / f"{name}.json")


@pytest.mark.parametrize(("name", "heads"), SIZES.items())
def test_every_list_has_roles_a_citation_and_says_what_it_lacks(name, heads):
    circuit = read(name)
    assert len(circuit.heads()) == heads
    assert set(circuit.roles) == set(circuit.nodes)
    assert "arXiv" in circuit.citation
    assert circuit.provenance["not listed"]
    assert not circuit.edges
    universe(Shape.of_circuits(circuit)).members(circuit)      # refuses heads that the model does not have


def test_there_is_no_other_list():
    assert {path.name.removesuffix(".json") for path in PLACE.glob("*.json")} == set(SIZES)


def test_indirect_objects_and_greater_than_share_more_than_chance():
    one, other = read("gpt2.ioi"), read("gpt2.greater_than")
    found = overlap(one, other, universe(Shape.of_circuits(one, other)))
    assert [str(node) for node in found.shared] == ["L0H1", "L5H5", "L6H9"]
    assert found.jaccard == 3 / 32
    assert found.chance.jaccard == pytest.approx(0.052, abs=0.005)
    assert found.chance.p > 0.1      # sizes alone give this
