"""Attention directed at answers: heads of a hand-made circuit are found to copy or to suppress, and do as predicted."""

import pytest

import interp
from interp.core.errors import InterpError
from interp.core.head import Head
from interp.discovery.candidates import candidates
from interp.discovery.redirect import readers_of, redirect
from interp.models.handmade import HANDMADE
from interp.tasks import from_tokens, get

MOVER, INHIBITION, DUPLICATE = Head(2, 0), Head(1, 2), Head(0, 1)


@pytest.fixture(scope="module")
def model():
    return interp.load("handmade-ioi", verify=False)


def names(model, n, seed, corruption="exchange"):
    drawn = HANDMADE["handmade-ioi"]().pairs(n, seed, corruption)
    places = {name: [pair.positions[name] for pair in drawn] for name in ("IO", "S1", "S2")}
    return from_tokens([p.clean for p in drawn], [p.corrupt for p in drawn], [p.answer for p in drawn],
                       [p.wrong for p in drawn], name=corruption, positions=places, model=model)


@pytest.fixture(scope="module")
def found(model):
    return redirect(model, names(model, 8, 0), (DUPLICATE, INHIBITION, MOVER), test=names(model, 10, 1), n_random=3,
                    watched=(MOVER, INHIBITION), spared=(DUPLICATE, Head(3, 1)))


def test_a_mover_copies_and_an_inhibition_head_suppresses_what_it_reads(found):
    told = {one.head: (one.copies, one.offset) for one in found.readers}
    assert told == {MOVER: (True, 0), INHIBITION: (False, 0)}      # the duplicate-token head reads nothing from the end
    assert [abs(one.gain) for one in found.readers] == pytest.approx([20, 20], abs=1e-3)      # from -10 to 10


def test_the_answer_becomes_the_other_and_the_corrupted_prompt_is_repaired(found):
    rows = {(row["prompts"], row["heads"], row["edit"]): row for row in found.edits.to_dict("records")}
    assert rows["clean", "none", "none"]["accuracy"] == 1
    assert rows["corrupt", "none", "none"]["accuracy"] == 0
    flipped, kept = rows["clean", "circuit", "to the other"], rows["clean", "circuit", "to the right"]
    repaired = rows["corrupt", "circuit", "to the right"]
    assert (flipped["predicted"], flipped["accuracy"], flipped["other"]) == (0, 0, 1)
    assert (kept["predicted"], kept["accuracy"]) == (1, 1)
    assert (repaired["predicted"], repaired["accuracy"], repaired["other"]) == (1, 1, 0)
    assert flipped["high"] < -19
    assert repaired["low"] > 19


def test_random_heads_of_the_same_layers_do_nothing(found):
    random = found.edits[found.edits["heads"] == "random"]
    assert len(random) == 9
    assert random["change"].abs().max() < 1e-3
    assert not {"L2H0", "L1H2", "L3H1"} & {name for who in random["who"] for name in who.split(", ")}


def test_the_inhibition_head_alone_acts_through_the_mover(model):
    found = redirect(model, names(model, 8, 0), (INHIBITION,), n_random=0, watched=(MOVER,))
    rows = {(row["prompts"], row["edit"]): row for row in found.downstream.to_dict("records")}
    assert rows["clean", "none"]["on right"] > 0.9
    assert rows["clean", "to the other"]["on right"] < 0.1      # now it forbids the right name
    assert (rows["clean", "none"]["writes"], rows["clean", "to the other"]["writes"]) == pytest.approx((10, -10), abs=1e-3)
    assert rows["corrupt", "to the right"]["on right"] > 0.4      # IO stands there twice


def test_no_head_reads_the_answers(model):
    found = redirect(model, names(model, 8, 0), (DUPLICATE,))
    assert (found.readers, len(found.edits)) == ((), 0)
    assert found.scanned.empty      # it looks at itself and at <bos>


def test_the_places_of_candidates():
    model = interp.load("organism", verify=False)

    def at(batch, which, text):
        rows, ids = range(batch.n), batch.clean.ids
        found = [model.tokenizer.decode([int(ids[row, batch.spans[f"{which}+0"][row, 0]])]) for row in rows]
        assert found == [text(batch.prompts[row]) for row in rows]

    colors = candidates(get("colored_objects").batch(model, 6, 0))
    at(colors.batch, "right", lambda pair: pair.answer.lower())
    at(colors.batch, "other", lambda pair: pair.corrupt_answer.lower())
    told = [model.tokenizer.decode([int(token)]) for token in colors.answers["other"]]
    assert told == [pair.corrupt_answer for pair in colors.batch.prompts]
    keys = candidates(get("key_value").batch(model, 6, 0, corruption="key"))
    at(keys.batch, "right", lambda pair: pair.answer)
    at(keys.batch, "other", lambda pair: pair.wrong[0])
    assert colors.on_both
    assert keys.on_both
    with pytest.raises(InterpError, match="take a corruption"):
        candidates(get("induction").batch(model, 4, 0))


def test_refusals(model):
    with pytest.raises(InterpError, match="has no heads"):
        readers_of(model, names(model, 4, 0), ())
