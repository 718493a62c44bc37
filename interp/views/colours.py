"""Palettes: signed effects (zero-centred, blue positive, red negative) and attention (one hue, zero = the page).

Signed values are drawn in ``2 * LEVELS + 1`` steps, so that a page can restyle them for dark screens and for print by
classes alone. The light ramp follows ColorBrewer's RdBu (safe for colour-vision deficiencies); the dark ramp runs from
the dark page to light blue and light red, so that zero is the page in both.
"""

import math
from collections.abc import Sequence

import numpy as np

LEVELS = 10
POSITIVE = ("#F7F7F7", "#D1E5F0", "#92C5DE", "#4393C3", "#2166AC", "#053061")
NEGATIVE = ("#F7F7F7", "#FDDBC7", "#F4A582", "#D6604D", "#B2182B", "#67001F")
POSITIVE_DARK = ("#222327", "#1E3E5C", "#2A639A", "#4C92CE", "#8CC2EC", "#D6ECFB")
NEGATIVE_DARK = ("#222327", "#5B2A22", "#93402F", "#CC6B52", "#F0A58D", "#FCE0D5")
INK = "#08306B"
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
"""Okabe and Ito's eight colours for categories, the readable ones first."""


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def mix(stops: Sequence[str], share: float) -> str:
    """The colour at ``share`` (0 to 1) along evenly spaced ``stops``, linear in sRGB."""
    at = min(max(share, 0.0), 1.0) * (len(stops) - 1)
    left = min(int(at), len(stops) - 2)
    pairs = zip(_rgb(stops[left]), _rgb(stops[left + 1]), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * (at - left)):02X}" for a, b in pairs)


def limit(values: np.ndarray) -> float:
    """The symmetric colour limit: the largest finite magnitude; 1 where everything is zero or missing."""
    finite = np.abs(np.asarray(values, dtype=float))
    finite = finite[np.isfinite(finite)]
    return float(finite.max()) if finite.size and finite.max() > 0 else 1.0


def level(value: float, largest: float) -> str:
    """The class of a signed value: ``z`` zero, ``p1`` to ``p10`` positive, ``n1`` to ``n10`` negative, ``x`` missing."""
    if not math.isfinite(value):
        return "x"
    step = min(LEVELS, round(abs(value) / largest * LEVELS))
    return "z" if step == 0 else f"{'p' if value > 0 else 'n'}{step}"


def ramp(dark: bool = False) -> dict[str, str]:
    """Class -> colour for every step of the signed palette."""
    positive, negative = (POSITIVE_DARK, NEGATIVE_DARK) if dark else (POSITIVE, NEGATIVE)
    colours = {"z": positive[0]}
    for step in range(1, LEVELS + 1):
        colours[f"p{step}"] = mix(positive, step / LEVELS)
        colours[f"n{step}"] = mix(negative, step / LEVELS)
    return colours


def luminance(colour: str) -> float:
    """Relative luminance of an sRGB colour (WCAG 2)."""
    linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in _rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    """Contrast ratio of two colours (WCAG 2), from 1 to 21."""
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def text_on(colour: str) -> str:
    """Black or white, whichever reads better on ``colour``."""
    return max(("#000000", "#FFFFFF"), key=lambda ink: contrast(ink, colour))


def stylesheet(dark: bool = False) -> str:
    """CSS rules of the signed palette: ``.p3`` fills a cell, ``.p3 + text`` and ``td.p3`` write on it."""
    rules = []
    for name, colour in ramp(dark).items():
        ink = text_on(colour)
        rules.append(
            f".c.{name}{{fill:{colour}}}.c.{name}+text,.c.{name}+circle{{fill:{ink}}}"
            f"td.{name}{{background:{colour};color:{ink}}}"
        )
    return "".join(rules)
