"""How numbers and tokens are written: three significant digits, spaces and control characters made visible."""

import math
import unicodedata

_SHOWN = {"\n": "↵", "\t": "⇥", "\r": "␍", "\u00a0": "⍽", "\v": "␋", "\f": "␌", "\0": "␀"}
_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def number(value: float, digits: int = 3) -> str:
    """``value`` with three significant digits and a true minus sign: ``1.23``, ``−0.0456``; ``–`` if not finite."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    size = int(exponent)
    if size < -4 or size > 6:
        return f"{mantissa}e{size}".replace("-", "−")
    return f"{value:.{max(0, digits - 1 - size)}f}".replace("-", "−")


def decimals(largest: float, digits: int = 3) -> int:
    """Decimals a column needs for its largest magnitude to have ``digits`` significant digits: 2 for 2.36 and 3."""
    if not math.isfinite(largest) or largest <= 0:
        return digits - 1
    return min(8, max(0, digits - 1 - math.floor(math.log10(largest))))


def fixed(value: float, places: int) -> str:
    """``value`` with ``places`` decimals and a true minus sign; never minus zero."""
    if not math.isfinite(value):
        return "–"
    text = f"{value:.{places}f}"
    return text.replace("-", "−") if float(text) else text.lstrip("-")


def interval(low: float, high: float, places: int | None = None) -> str:
    """``[low, high]`` with three significant digits or ``places`` decimals; ``[no interval]`` for a single prompt."""
    if not math.isfinite(low) or not math.isfinite(high):
        return "[no interval]"
    ends = [number(end) if places is None else fixed(end, places) for end in (low, high)]
    return f"[{ends[0]}, {ends[1]}]"


def probability(value: float) -> str:
    """A p or q value with its relation sign: ``= 0.012`` or ``< 0.001``; ``not tested`` if not finite."""
    if not math.isfinite(value):
        return "not tested"
    return "< 0.001" if value < 0.001 else f"= {value:.3f}" if value < 0.1 else f"= {value:.2f}"


def weight(value: float) -> str:
    """An attention weight: three decimals, or ``<0.001``."""
    return "<0.001" if 0 < value < 0.0005 else f"{value:.3f}"


def percent(value: float) -> str:
    """A share as a percentage with one decimal: ``98.4 %``; ``0 %`` and ``100 %`` only where it is exactly that."""
    return (
        "–" if not math.isfinite(value) else (str(round(100 * value)) if value in (0, 1) else fixed(100 * value, 1)) + " %"
    )


def token(text: str, longest: int | None = None) -> str:
    """A token made visible: a space at either end as ``·``, a newline as ``↵``, a tab as ``⇥``, anything else that prints
    nothing (control, format and direction characters, half surrogates) as ``<U+202E>``; ``∅`` for the empty token.

    With ``longest``, a longer label is cut in the middle with ``…``.
    """
    if not text:
        return "∅"
    core = text.strip(" ")
    if not core:
        return "·" * len(text)
    start = len(text) - len(text.lstrip(" "))
    end = len(text) - len(text.rstrip(" "))
    label = "·" * start + "".join(map(_visible, core)) + "·" * end
    if longest is not None and len(label) > longest:
        head = (longest - 1 + 1) // 2
        label = label[:head] + "…" + label[len(label) - (longest - 1 - head) :]
    return label


def _visible(character: str) -> str:
    if character in _SHOWN:
        return _SHOWN[character]
    if unicodedata.category(character) in _INVISIBLE:
        return f"<U+{ord(character):04X}>"
    return character


def subscript(index: int) -> str:
    """``index`` in subscript digits, to tell repeated tokens apart: ``the₇``."""
    return str(index).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def plural(count: int, noun: str) -> str:
    """``1 prompt``, ``64 prompts``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
