"""One token again and again: a sink of relative positions vanishes, one of absolute positions stays."""

import numpy as np
import pytest
from sink_models import onto, patterned, rotary, scores_of

import interp
from interp.tasks import from_texts, random_texts

T = 64
EVEN = (1 / np.arange(1, T + 1)).mean()
NATURAL = [[i % 8, *[(3 * i + 5 * at + 1) % 8 for at in range(1, T)]] for i in (0, 2, 3, 4)]


@pytest.fixture(scope="module")
def relative():
    return rotary()


@pytest.fixture(scope="module")
def absolute():
    return patterned(scores_of([[onto(T, 0)]]))[0]


def test_the_rotary_network_rests_on_the_first_token(relative):
    scores = interp.measures.first_token_sink(relative, from_texts(relative, NATURAL), value="weight")
    np.testing.assert_allclose(scores.values[1, 0], 1, atol=1e-3)
    np.testing.assert_allclose(scores.values[1, 1], EVEN, atol=1e-4)
    assert interp.measures.first_token_sink(relative, from_texts(relative, NATURAL)).values[1, 0].all()
    random = interp.measures.first_token_sink(relative, random_texts(relative, 8, T), value="weight")
    assert (random.values[1, 0] > 0.3).mean() > 0.7     # where no token is followed by its like at the beginning


def test_its_sink_vanishes_on_a_repeated_token(relative):
    batch = random_texts(relative, 4, T, kind="repeated")
    assert all(len(set(row)) == 1 for row in batch.clean.rows())
    weight = interp.measures.first_token_sink(relative, batch, value="weight")
    np.testing.assert_allclose(weight.values, EVEN, atol=1e-4)
    assert not interp.measures.first_token_sink(relative, batch).values.any()
    assert interp.measures.first_token_sink(relative, batch).provenance.options["weight_if_even"] == round(EVEN, 4)


def test_a_beginning_that_differs_brings_it_back(relative):
    rows = [[1, *row[1:]] for row in random_texts(relative, 4, T, kind="repeated").clean.rows() if row[0] != 1]
    weight = interp.measures.first_token_sink(relative, from_texts(relative, rows), value="weight")
    assert (weight.values[1, 0] > 0.45).all()


def test_the_absolute_network_keeps_its_sink(absolute):
    for kind in ("random", "repeated"):
        batch = random_texts(absolute, 4, T, kind=kind)
        np.testing.assert_allclose(interp.measures.first_token_sink(absolute, batch, value="weight").values, 1, atol=1e-6)
        assert interp.measures.first_token_sink(absolute, batch).values.all()
