"""Interventions are data: they print as a sentence, cannot be changed, and refuse by name what makes no sense."""

import dataclasses

import pytest
import torch

from interp.core.errors import InterpError
from interp.core.head import Head
from interp.engine.intervention import (
    Add,
    AttendToFirst,
    Intervention,
    Mean,
    Replace,
    Resample,
    RowEdit,
    Scale,
    Uniform,
    Zero,
)


@pytest.mark.parametrize(("intervention", "sentence"), [
    (Intervention("z", 9, 9, "S2", Zero()), "zero z of L9H9 at S2"),
    (Intervention("z", 9, (6, 9), None, Mean()), "set z of L9H6, L9H9 at all tokens to its mean over clean by position"),
    (Intervention("k", 1, 0, ("S1", 3), Resample()), "take k of layer 1 kv head 0 at S1, token 3 from corrupt"),
    (Intervention("v", 1, None, "end", Resample("clean", shuffle=4)),
     "take v of every head of layer 1 at end from clean of another prompt (seed 4)"),
    (Intervention("pattern", 0, 2, "end", Uniform()), "make pattern of L0H2 at end uniform over visible keys"),
    (Intervention("pattern", 0, 2, None, AttendToFirst(), attention="cross"),
     "point pattern of cross.L0H2 at all tokens at the first visible key"),
    (Intervention("scores", 0, 2, "end", Scale(0.5), keys="S1"), "scale scores of L0H2 at end from key S1 by 0.5"),
    (Intervention("resid_pre", 4, None, -1, Add(torch.zeros(8))),
     "add a tensor of shape [8] to resid_pre of layer 4 at token -1"),
    (Intervention("q", 2, 1, 0, Replace(1.5)), "replace q of L2H1 at token 0 by 1.5"),
    (Intervention("pattern", 3, 1, "end", RowEdit({"S1": 0.5, 4: 0.5})),
     "set pattern of L3H1 at end to 0.5 on S1, 0.5 on 4 (rest zero)"),
])
def test_prints(intervention, sentence):
    assert str(intervention) == sentence


def test_is_frozen_and_equal_by_content():
    one, two = Intervention("z", 0, 1, "S", Zero()), Intervention("z", 0, (1,), "S", Zero())
    assert one == two
    assert hash(one) == hash(two)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.layer = 3


def test_at_names_a_head():
    assert Intervention.at("cross.L2H3", "z", Zero()) == Intervention("z", 2, 3, None, Zero(), "cross")
    assert Intervention.at(Head(2, 3), "z", Zero(), "end") == Intervention("z", 2, 3, "end", Zero())


@pytest.mark.parametrize(("make", "says"), [
    (lambda: Intervention("zz", 0, 0, None, Zero()), "did you mean 'z'"),
    (lambda: Intervention("z", 0, 0, None, Uniform()), "Uniform describes rows of an attention pattern"),
    (lambda: Intervention("scores", 0, 0, None, AttendToFirst()), "AttendToFirst describes rows of an attention pattern"),
    (lambda: Intervention("v", 0, 0, None, RowEdit({0: 1.0})), "RowEdit describes rows of an attention pattern"),
    (lambda: Intervention("z", 0, 0, None, Zero(), keys="S"), "z has no keys"),
    (lambda: Intervention("pattern", 0, 0, None, Uniform(), keys="S"), "sets whole rows"),
    (lambda: Intervention("pattern", 0, 0, None, Mean(mode="token")), "rows of different tokens have different keys"),
    (lambda: Intervention("scores", 0, 0, None, Mean()), "scores of masked keys have no mean"),
    (lambda: Intervention("resid_pre", 0, 0, None, Zero()), "resid_pre has no heads"),
    (lambda: Intervention("z", 0, (), None, Zero()), "selects nothing"),
    (lambda: Intervention("z", 0, 0, (), Zero()), "selects nothing"),
    (lambda: Intervention("z", 0, (1, 1), None, Zero()), "each named once"),
    (lambda: Intervention("z", 0, -1, None, Zero()), "count from 0"),
    (lambda: Intervention("z", 0, 0, None, 0.0), "that is no value"),
    (lambda: Intervention("z", 0, 0, None, Zero(), unit="group"), "find the unit of heads 'group'"),
    (lambda: Mean("corupt"), "did you mean 'corrupt'"),
    (lambda: Mean(mode="positions"), "did you mean 'position'"),
    (lambda: Mean(on="cleen"), "did you mean 'clean'"),
    (lambda: Resample("cleen"), "did you mean 'clean'"),
    (lambda: Resample(3), "a side of the batch or a tensor"),
    (lambda: Resample(torch.zeros(1), shuffle=0), "shuffling picks partners"),
    (lambda: RowEdit({}), "no key was given"),
    (lambda: RowEdit({0: 1.0}, rest="nought"), "rest of a row"),
])
def test_refuses(make, says):
    with pytest.raises(InterpError, match=says):
        make()
