"""Reuse of circuits: the stages find the heads of a hand-made circuit with their roles, the edit does what they predict."""

import json

import pytest

import interp
from interp.core.circuit import Circuit
from interp.core.errors import InterpError
from interp.core.head import Head
from interp.discovery.inhibition_edit import edit_table, row_edits
from interp.discovery.reuse import reuse
from interp.discovery.stages import stages_of
from interp.models.handmade import HANDMADE
from interp.tasks import from_tokens


@pytest.fixture(scope="module")
def model():
    return interp.load("handmade-ioi", verify=False)


@pytest.fixture(scope="module")
def batches(model):
    made = HANDMADE["handmade-ioi"]()
    found = {}
    for corruption, seed in (("third", 0), ("exchange", 1)):
        drawn = made.pairs(6, seed, corruption)
        places = {name: [pair.positions[name] for pair in drawn] for name in ("IO", "S1", "S2")}
        found[corruption] = from_tokens([p.clean for p in drawn], [p.corrupt for p in drawn], [p.answer for p in drawn],
                                        [p.wrong for p in drawn], name=corruption, positions=places, model=model)
    return found


def test_the_stages_name_the_heads_of_a_hand_made_circuit(model, batches):
    circuit, table = stages_of(model, batches["third"], "third", at_least=1, progress=False)
    assert {str(node): role for node, role in circuit.roles.items()} == {
        "L2H0": "mover", "L1H2": "inhibition", "L0H1": "earlier"}
    effects = table.set_index("head")["effect"]
    # the mover then spreads over IO and twice S: 10 (1/3 - 2/3) in place of 10, where the corrupted run has 0
    assert effects["L2H0"] == pytest.approx(1, abs=1e-3)
    assert effects[["L1H2", "L0H1"]].tolist() == pytest.approx([4 / 3, 4 / 3], abs=1e-3)


@pytest.fixture(scope="module")
def found(model, batches):
    return reuse(model, batches, at_least=1, n_random=2, progress=False)


def test_the_study_on_two_corruptions_of_one_circuit(found):
    assert [str(node) for node in found.overlap.shared][-2:] == ["L1H2", "L2H0"]
    assert found.overlap.chance.p < 0.2
    assert found.edited == (Head(1, 2),)
    rows = {(row.heads, row.edit): row for row in found.edits.itertuples()}
    assert rows["none", "none"].accuracy == 1
    same, forbidden = rows["these heads", "to the wrong"], rows["these heads", "to the right"]
    assert (same.accuracy, same.change) == pytest.approx((1, 0), abs=1e-3)      # it attends to S2 already
    assert forbidden.accuracy == 0      # pointed at IO it forbids the right name
    assert forbidden.high < -5
    drawn = found.edits[found.edits["heads"] == "random"]
    assert len(drawn) == 4
    assert drawn["change"].abs().max() < 0.01
    attention = {(row["head"], row["edit"]): row["on right"] for row in found.movers.to_dict("records")}
    assert attention["L2H0", "none"] > 0.9
    assert attention["L2H0", "to the right"] < 0.1


def test_shared_heads_do_the_same_and_each_circuit_directs_its_own(found):
    verdicts = found.swap.verdicts.set_index("heads")["verdict"]
    assert verdicts["L2H0"] == "same"      # one task with two corruptions: clean prompts are swapped
    assert set(found.directed) == {(one, other) for one in ("third", "exchange") for other in ("third", "exchange")}
    edits = found.directed["exchange", "exchange"].edits
    repair = edits[edits["prompts"] == "corrupt"].groupby("heads")["accuracy"].agg(list)
    assert repair.to_dict() == {"none": [0.0], "circuit": [1.0], "random": [0.0, 0.0]}


def test_all_of_it_is_saved_as_plain_data(found, tmp_path):
    told = json.loads((found.save(tmp_path / "study") / "reuse.json").read_text())
    assert told["oracle"] == "edits are told the answers"
    assert {"stages", "edits", "movers", "swap", "verdicts", "readers", "directed", "downstream"} <= set(told)
    assert {(row["circuit"], row["task"]) for row in told["directed"]} == set(found.directed)
    assert told["provenance"]["options"]["n_random"] == 2
    assert set(told["provenance"]["test"]) == {"third", "exchange"}
    assert Circuit.load(tmp_path / "study" / "third.json").roles == found.circuits["third"].roles


def test_without_inhibition_there_is_nothing_to_edit(model, batches):
    found = reuse(model, batches, at_least=1, smallest=1.2, progress=False)      # no head writes that much to the logits
    assert found.edited == ()
    assert found.edits.empty
    assert found.movers.empty
    assert not found.overlap.shared
    assert found.swap is None
    assert not found.directed
    assert "the circuits share no head: there is nothing to swap" in found.notes


def test_refusals(model, batches):
    with pytest.raises(InterpError, match="give two tasks"):
        reuse(model, {"third": batches["third"]})
    with pytest.raises(InterpError, match="no stage gave any"):
        edit_table(model, batches["third"], {"wrong": ("S2",)}, ())
    assert str(row_edits([Head(1, 2)], ("a", "b"))[0]) == "set pattern of L1H2 at end to 0.5 on a, 0.5 on b (rest zero)"
