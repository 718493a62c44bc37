"""A mean with its interval on a common scale: the mark inside table cells and ranked lists."""

import math


def whisker(value: float, low: float, high: float, ends: tuple[float, float], *, width: int = 62) -> str:
    """A dot for the value and a line for its interval, on a scale that runs over ``ends``; a tick marks zero.

    An element without text whose places, in pixels, are custom properties: ``z`` zero, ``v`` value, ``l`` and ``w`` where
    the line begins and how long it is. The page's style draws it. The numbers stand beside it in text: to a screen reader
    it is nothing.
    """
    if not math.isfinite(value):
        return ""
    left, right = min(ends[0], 0.0), max(ends[1], 0.0)
    span = (right - left) or 1.0

    def at(place: float) -> float:
        return 3 + (width - 6) * (min(max(place, left), right) - left) / span

    sign = "pos" if value >= 0 else "neg"
    known = math.isfinite(low) and math.isfinite(high)
    line = f";--l:{at(low):.3g}px;--w:{at(high) - at(low):.3g}px" if known else ""
    return f'<i class="w {sign}" style="--z:{at(0):.3g}px;--v:{at(value):.3g}px{line}"><b></b></i>'
