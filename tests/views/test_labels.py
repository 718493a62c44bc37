"""Numbers and tokens as they are written, against values written by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.views import labels


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1.234, "1.23"),
        (-0.04567, "−0.0457"),
        (999.6, "1000"),
        (1234.5, "1234"),
        (0.9996, "1.00"),
        (float("nan"), "–"),
        (float("inf"), "–"),
        (1.5e-7, "1.50e-07".replace("e-07", "e−7")),
        (2.5e9, "2.50e9"),
    ],
)
def test_numbers_have_three_significant_digits(value, text):
    assert labels.number(value) == text


@pytest.mark.parametrize(
    ("value", "places", "text"), [(-0.001, 2, "0.00"), (-0.006, 2, "−0.01"), (2.365, 1, "2.4"), (float("nan"), 2, "–")]
)
def test_fixed_decimals_never_show_minus_zero(value, places, text):
    assert labels.fixed(value, places) == text


@pytest.mark.parametrize(
    ("largest", "places"),
    [(2.36, 2), (23.6, 1), (236, 0), (2360, 0), (0.0236, 4), (0, 2), (float("nan"), 2), (9.99, 2), (10, 1)],
)
def test_decimals_give_the_largest_three_digits(largest, places):
    assert labels.decimals(largest) == places


@pytest.mark.parametrize(
    ("value", "text"), [(0.0001, "< 0.001"), (0.0123, "= 0.012"), (0.5, "= 0.50"), (float("nan"), "not tested")]
)
def test_probabilities_carry_their_relation(value, text):
    assert labels.probability(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.98437, "98.4 %"), (1, "100 %"), (0.9999, "100.0 %"), (0, "0 %"), (-0.034, "−3.4 %"), (float("nan"), "–")],
)
def test_percentages(value, text):
    assert labels.percent(value) == text


@pytest.mark.parametrize(("value", "text"), [(0, "0.000"), (0.0001, "<0.001"), (0.1834, "0.183"), (1, "1.000")])
def test_a_small_weight_is_not_shown_as_zero(value, text):
    assert labels.weight(value) == text


def test_no_interval_is_said():
    assert labels.interval(float("nan"), float("nan")) == "[no interval]"
    assert labels.interval(-1, 2.5) == "[−1.00, 2.50]"
    assert labels.interval(-1, 2.5, 1) == "[−1.0, 2.5]"


@pytest.mark.parametrize(
    ("token", "text"),
    [
        ("the", "the"),
        (" the", "·the"),
        ("a b", "a b"),
        (" ", "·"),
        ("  ", "··"),
        ("", "∅"),
        ("\n", "↵"),
        ("a\tb", "a⇥b"),
        ("\u202eevil", "<U+202E>evil"),
        ("\ud83d", "<U+D83D>"),
        ("\u200b", "<U+200B>"),
        ("日本", "日本"),
        ("<b>", "<b>"),
        ("x ", "x·"),
    ],
)
def test_tokens_are_made_visible(token, text):
    assert labels.token(token) == text


def test_long_tokens_are_cut_in_the_middle():
    assert labels.token("abcdefghij", 5) == "ab…ij"
    assert len(labels.token("x" * 300, 12)) == 12


@given(st.text(max_size=40), st.integers(2, 20))
def test_any_token_has_a_short_printable_label(text, longest):
    label = labels.token(text)
    assert label.strip()
    assert label.isprintable() or any(c.isspace() for c in text)
    assert len(labels.token(text, longest)) <= max(longest, 1)


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_any_number_is_written_and_read_back(value):
    text = labels.number(value)
    if math.isfinite(value):
        assert float(text.replace("−", "-")) == pytest.approx(value, rel=6e-3) or abs(value) > 1.79e308
    else:
        assert text == "–"
