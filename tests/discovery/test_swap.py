"""The swap test tells a head that does the same in two tasks from one that is in both circuits by name alone."""

import numpy as np
import pytest
from two_tasks import GAIN, batches, two_tasks

import interp
from interp.core.errors import InterpError
from interp.core.head import Head
from interp.discovery.swap import swap

SAME, BY_NAME, DECODER = Head(0, 0), Head(0, 1), Head(1, 0)


@pytest.fixture(scope="module")
def model():
    return interp.load(two_tasks(), verify=False)


@pytest.fixture(scope="module")
def given(model):
    return batches(12, 0, model)


@pytest.fixture(scope="module")
def found(model, given):
    return swap(model, given, (SAME, BY_NAME), only={"colors": (DECODER,)})


def rows(found, heads, kind="shared"):
    table = found.table[(found.table["heads"] == heads) & (found.table["kind"] == kind)]
    return table.set_index(["donor", "recipient"])


def test_each_head_is_needed_in_both_tasks(model, given):
    from interp.measures import ablation

    for batch in given.values():
        scores = ablation(model, batch, kind="zero", progress=False).mean()
        assert scores[0, :2] == pytest.approx([GAIN, GAIN], abs=0.01)
        assert np.abs(scores[0, 3:]).max() < 0.01


def test_the_head_that_does_the_same(found):
    verdict = found.verdicts.set_index("heads").loc["L0H0"]
    assert verdict["verdict"] == "same"
    assert found.same == (SAME,)
    table = rows(found, "L0H0")
    assert table["effect"].to_numpy() == pytest.approx(GAIN, abs=0.01)
    assert (table["agreement"] == 1).all()


def test_the_head_that_is_shared_by_name(found):
    verdict = found.verdicts.set_index("heads").loc["L0H1"]
    assert verdict["verdict"] == "different"
    table = rows(found, "L0H1")
    assert table.loc[("colors", "names"), "effect"] == pytest.approx(0, abs=0.01)      # nobody reads the code there
    assert table.loc[("names", "colors"), "effect"] == pytest.approx(GAIN, abs=0.01)   # one way alone would have passed it


def test_ceilings_and_controls(found):
    together = rows(found, "L0H0, L0H1", "all shared")
    assert (together["answered"] == 1).all()
    assert together["effect"].to_dict() == pytest.approx({
        ("names", "names"): 2 * GAIN, ("names", "colors"): 2 * GAIN, ("colors", "names"): GAIN,
        ("colors", "colors"): 2 * GAIN}, abs=0.01)
    alone = rows(found, "L1H0", "only colors")
    assert alone.loc[("names", "colors"), "effect"] == pytest.approx(0, abs=0.01)
    random = found.table[found.table["kind"] == "random"]
    assert len(random)
    assert random["effect"].abs().max() < 0.01


def test_a_head_without_effect_is_said_to_have_none(model, given):
    verdicts = swap(model, given, (SAME, Head(0, 3)), n_random=0).verdicts.set_index("heads")
    assert verdicts.loc["L0H3", "verdict"] == "no effect"
    assert np.isnan(verdicts.loc["L0H3", "names into colors"])


def test_refusals(model, given):
    with pytest.raises(InterpError, match="give two tasks"):
        swap(model, given, ())
    with pytest.raises(InterpError, match="select token 40"):
        swap(model, given, (SAME,), positions={"names": 40})
    few = {name: batch.subset([0, 1]) for name, batch in given.items()}
    with pytest.raises(InterpError, match="more prompts"):
        swap(model, few, (SAME,))
