"""Log-log plots as SVG text: measured points, the fitted power, and the power of the counted arithmetic."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

WIDE, HIGH, GAP, LEFT, TOP = 150, 130, 46, 44, 26
INK, MEASURED, COUNTED = "#444", "#1f6fb2", "#c8822a"


def growth_plot(data: Mapping[str, Mapping[str, Any]]) -> str:
    """A panel for each name: ``sizes``, ``seconds``, ``flops``, ``exponent``, ``counted``. One scale of time for all."""
    every = [second for one in data.values() for second in one["seconds"]]
    low, high = min(every) / 1.4, max(every) * 1.4
    panels = [_panel(i, name, one, low, high) for i, (name, one) in enumerate(data.items())]
    width, height = LEFT + len(data) * (WIDE + GAP), TOP + HIGH + 56
    legend = (f'<text x="{LEFT}" y="{height - 6}"><tspan fill="{MEASURED}">● measured, line: fitted power</tspan>   '
              f'<tspan fill="{COUNTED}">┄ as the needed arithmetic grows</tspan></text>')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'font-family="sans-serif" font-size="11" fill="{INK}"><rect width="100%" height="100%" fill="white"/>'
            f'{"".join(panels)}{legend}</svg>\n')


def _panel(i: int, name: str, one: Mapping[str, Any], low: float, high: float) -> str:
    sizes, seconds = one["sizes"], one["seconds"]
    left = LEFT + i * (WIDE + GAP)

    def x(size: float) -> float:
        return left + WIDE * math.log(size / sizes[0] * 1.15) / math.log(sizes[-1] / sizes[0] * 1.3)

    def y(second: float) -> float:
        return TOP + HIGH * (1 - math.log(second / low) / math.log(high / low))

    middle = math.exp(sum(map(math.log, seconds)) / len(seconds)), math.exp(sum(map(math.log, sizes)) / len(sizes))

    def power(exponent: float) -> str:
        ends = sizes[0], sizes[-1]
        return " ".join(f"{x(size):.1f},{y(middle[0] * (size / middle[1]) ** exponent):.1f}" for size in ends)

    ticks = "".join(f'<text x="{left - 5}" y="{y(t) + 4:.1f}" text-anchor="end">{t:g} s</text>'
                    f'<path d="M{left} {y(t):.1f}h{WIDE}" stroke="#ddd"/>' for t in _decades(low, high))
    names = "".join(f'<text x="{x(s):.1f}" y="{TOP + HIGH + 15}" text-anchor="middle">{s}</text>' for s in sizes)
    points = "".join(f'<circle cx="{x(s):.1f}" cy="{y(t):.1f}" r="3" fill="{MEASURED}"/>'
                     for s, t in zip(sizes, seconds, strict=True))
    return (f'{ticks}<rect x="{left}" y="{TOP}" width="{WIDE}" height="{HIGH}" fill="none" stroke="#999"/>{names}'
            f'<polyline points="{power(one["counted"])}" stroke="{COUNTED}" stroke-dasharray="4 3" fill="none"/>'
            f'<polyline points="{power(one["exponent"])}" stroke="{MEASURED}" fill="none"/>{points}'
            f'<text x="{left + WIDE / 2}" y="{TOP - 9}" text-anchor="middle" font-weight="bold">{name}: '
            f'time ~ size^{one["exponent"]:.2f}</text>')


def _decades(low: float, high: float) -> Sequence[float]:
    return [10.0**k for k in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
