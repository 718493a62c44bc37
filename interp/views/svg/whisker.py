"""A mean with its interval on a common scale: the mark inside table cells and ranked lists."""

import math
from html import escape

from interp.views.labels import interval, number


def whisker(value: float, low: float, high: float, ends: tuple[float, float], *, width: int = 74, label: str = "") -> str:
    """A dot for the value and a line for its interval, on a scale that runs over ``ends``; a tick marks zero."""
    if not math.isfinite(value):
        return ""
    left, right = min(ends[0], 0.0), max(ends[1], 0.0)
    span = (right - left) or 1.0

    def at(number_: float) -> float:
        return 3 + (width - 6) * (min(max(number_, left), right) - left) / span

    sign = "pos" if value >= 0 else "neg"
    name = (
        f' role="img" aria-label="{escape(label)} {number(value)} {interval(low, high)}"' if label else ' aria-hidden="true"'
    )
    line = (
        f'<line class="{sign}" x1="{at(low):.4g}" x2="{at(high):.4g}" y1="6" y2="6"/>'
        if math.isfinite(low) and math.isfinite(high)
        else ""
    )
    return (
        f'<svg class="whisker"{name} viewBox="0 0 {width} 12" width="{width}" height="12"><line class="zero" '
        f'x1="{at(0):.4g}" x2="{at(0):.4g}" '
        f'y1="0" y2="12"/>{line}<circle class="{sign}" cx="{at(value):.4g}" cy="6" r="2.4"/></svg>'
    )
