"""Heads are read in every form they are written in; misspelt names are answered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.core.errors import InterpError
from interp.core.head import ATTENTIONS, Head
from interp.core.registry import Registry


@given(st.integers(0, 200), st.integers(0, 200), st.sampled_from(ATTENTIONS))
def test_parse_reads_what_str_writes(layer, head, attention):
    made = Head(layer, head, attention)
    assert Head.parse(str(made)) == made
    assert Head.parse(made) is made


@pytest.mark.parametrize("text", ["L9H6", "l9h6", " 9.6 ", "a9.h6", "A9.H6"])
def test_forms(text):
    assert Head.parse(text) == Head(9, 6)


@pytest.mark.parametrize("text", ["", "9", "9.6.1", "L-1H0", "H9L6", "9,6", "layer 9", "dec.L0H0"])
def test_other_text_is_refused(text):
    with pytest.raises(InterpError, match="as a head"):
        Head.parse(text)


@pytest.mark.parametrize("parts", [(-1, 0), (0, -1), (0, 0, "selv")])
def test_impossible_heads_are_refused(parts):
    with pytest.raises(InterpError, match="name"):
        Head(*parts)


def test_registry():
    table = Registry("metric")
    table.add("logit_diff", 1)
    table.add("accuracy", 2)
    assert list(table) == ["accuracy", "logit_diff"]
    assert table["accuracy"] == 2
    assert "acuracy" not in table
    with pytest.raises(InterpError, match="Cannot find the metric 'logitdiff': there is no metric of that name; "
                                          r"did you mean 'logit_diff'\?"):
        table["logitdiff"]
    with pytest.raises(InterpError, match="choose one of accuracy, logit_diff"):
        table["zzz"]
    with pytest.raises(ValueError, match="two metrics"):
        table.add("accuracy", 3)
    assert table.add("accuracy", 2) == 2
