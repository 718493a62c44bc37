"""Weighted overlap of many circuits: by hand, and against one pair and one permutation at a time."""

import numpy as np
import pytest

from interp.core.circuit import Node
from interp.core.errors import InterpError
from interp.core.overlap import permutation_p, weighted_jaccard
from interp.core.overlap_many import weighted_pairs
from interp.core.universe import Shape, universe

AMONG = universe(Shape(3, 8), "heads")


def heads(**values: float) -> dict[Node, float]:
    return {Node.parse(name): value for name, value in values.items()}


def test_weights_by_hand():
    found = weighted_pairs({"a": heads(L0H0=3, L1H1=1), "b": heads(L0H0=-2, L2H2=2), "c": heads(L1H0=5)}, AMONG, n=50)
    assert found["weighted"].tolist() == pytest.approx([0.5 / 1.5, 0, 0])
    assert found["p"][1] == found["p"][2] == 1
    # c has one head in layer 1, where a has a quarter of its weight on one of 8 heads: met with 1/8
    many = weighted_pairs({"a": heads(L0H0=3, L1H1=1), "c": heads(L1H0=5)}, AMONG, n=4000)
    assert many["matched"][0] == pytest.approx(1 / 8 * (0.25 / 1.75), abs=0.004)


def test_it_agrees_with_one_permutation_after_the_other():
    random = np.random.default_rng(1)
    items = list(AMONG.strata)
    a, b = (np.where(random.random(24) < 0.4, random.random(24), 0) for _ in range(2))
    found = weighted_pairs({"a": dict(zip(items, a, strict=True)), "b": dict(zip(items, b, strict=True))}, AMONG, n=2000)
    assert found["weighted"][0] == pytest.approx(weighted_jaccard(a, b))
    slow = permutation_p(weighted_jaccard, a, b, strata=list(AMONG.strata.values()), n=2000, seed=3)
    assert found["p"][0] == pytest.approx(slow, abs=0.05)


def test_without_weight_there_is_no_number_and_unknown_heads_are_refused():
    found = weighted_pairs({"a": heads(L0H0=1), "b": heads(L0H0=1), "c": {}}, AMONG, n=20)
    assert found["weighted"].isna().tolist() == [False, True, True]
    assert found["p"].isna().tolist() == [False, True, True]
    with pytest.raises(InterpError, match="L9H9"):
        weighted_pairs({"a": heads(L9H9=1), "b": heads(L0H0=1)}, AMONG)
