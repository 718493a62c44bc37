"""The four-head repair on the organism: the heads that its circuit of indirect objects names, and nobody else, decide."""

import pytest

import interp
from interp.discovery.redirect import redirect
from interp.discovery.reuse import prompts_of
from interp.discovery.stages import stages_of


@pytest.fixture(scope="module")
def found():
    model = interp.load("organism", verify=False)
    batches, others = prompts_of(model, ("ioi",), 8, 0)
    circuit, _ = stages_of(model, batches["ioi"], "ioi", progress=False)
    return redirect(model, batches["ioi"], circuit.heads(), test=others["ioi"], n_random=3, spared=circuit.heads())


def test_the_readers_suppress_the_name_that_is_repeated(found):
    assert 3 <= len(found.readers) <= 5
    assert not any(one.copies for one in found.readers)
    assert any(one.offset == 1 for one in found.readers)      # where the previous-token head has put the name


def test_the_edit_decides_and_random_heads_do_not(found):
    rows = dict(list(found.edits.groupby(["prompts", "heads", "edit"])))
    clean, corrupt = (rows[on, "none", "none"].iloc[0] for on in ("clean", "corrupt"))
    flipped = rows["clean", "circuit", "to the other"].iloc[0]
    repaired = rows["corrupt", "circuit", "to the right"].iloc[0]
    assert clean["accuracy"] > 0.8
    assert corrupt["accuracy"] < 0.1
    assert max(flipped["predicted"], flipped["accuracy"]) < 0.3
    assert flipped["other"] > 0.6
    assert min(repaired["predicted"], repaired["accuracy"]) > 0.7
    assert (rows["clean", "random", "to the other"]["accuracy"] > clean["accuracy"] - 0.15).all()
    assert (rows["corrupt", "random", "to the right"]["accuracy"] < 0.15).all()
    assert rows["clean", "random", "to the other"]["change"].abs().max() < -flipped["high"] / 4
