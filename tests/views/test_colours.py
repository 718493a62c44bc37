"""The palettes: zero-centred, blue positive, legible, told apart without hue."""

import numpy as np
import pytest

from interp.views import colours


def test_levels_are_centred_at_zero_and_signed():
    assert [colours.level(value, 2.0) for value in (-2, -1, -0.05, 0, 0.05, 1, 2, 9, float("nan"))] == [
        "n10",
        "n5",
        "z",
        "z",
        "z",
        "p5",
        "p10",
        "p10",
        "x",
    ]


def test_the_limit_is_the_largest_magnitude_and_never_zero():
    assert colours.limit(np.array([[1.0, -3.0], [np.nan, 0]])) == 3
    assert colours.limit(np.zeros((2, 2))) == 1
    assert colours.limit(np.full((2, 2), np.nan)) == 1


def test_positive_is_blue_and_negative_red():
    for dark in (False, True):
        ramp = colours.ramp(dark)
        red, _, blue = (int(ramp["p5"][i : i + 2], 16) for i in (1, 3, 5))
        assert blue > red
        red, _, blue = (int(ramp["n5"][i : i + 2], 16) for i in (1, 3, 5))
        assert red > blue


@pytest.mark.parametrize("dark", [False, True])
def test_every_cell_is_legible(dark):
    for name, colour in colours.ramp(dark).items():
        assert colours.contrast(colour, colours.text_on(colour)) >= 4.5, name


@pytest.mark.parametrize("dark", [False, True])
def test_magnitude_shows_without_hue(dark):
    """Luminance runs one way from zero to the end on both sides (what a reader without colour vision sees)."""
    ramp = colours.ramp(dark)
    for sign in "pn":
        steps = np.diff(
            [
                colours.luminance(ramp["z"]),
                *(colours.luminance(ramp[f"{sign}{step}"]) for step in range(1, colours.LEVELS + 1)),
            ]
        )
        assert (steps > 0).all() if dark else (steps < 0).all()


def test_contrast_of_known_pairs():
    assert colours.contrast("#000000", "#FFFFFF") == pytest.approx(21)
    assert colours.contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.01)
