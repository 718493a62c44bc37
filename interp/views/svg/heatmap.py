"""A head grid: rows are layers (0 on top), columns heads; signed colour, value and interval on every cell."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from interp.views.colours import LEVELS, level, limit
from interp.views.labels import decimals, fixed, interval, number, probability

WIDTH = 312
"""Width of the grid itself in CSS pixels."""
ROOMY = 30
"""Cells at least this wide have their value printed in them."""


def head_heatmap(
    mean: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    q: np.ndarray,
    significant: np.ndarray,
    *,
    names: Sequence[Sequence[str]],
    title: str,
    unit: str,
    labelled: bool = True,
) -> str:
    """The grid of one measure as ``<svg>``; all arrays are [layer, head].

    Every cell carries its head, value, interval and q value as its accessible name (which the page's script also shows on
    hover and focus). Heads that differ from zero after false-discovery control are marked: by their value where it fits, by
    a dot where it does not. Without any test (one prompt, absolute values) those above a quarter of the largest are marked.
    A missing head is hatched. With ``labelled=False`` only significant cells carry a name; the others
    are joined into one path for each colour.
    """
    largest, tested = limit(mean), bool(np.isfinite(q).any())
    places = decimals(largest, 2)
    cells = [
        [
            _cell(
                names[i][j],
                float(mean[i, j]),
                level(float(mean[i, j]), largest),
                fixed(float(mean[i, j]), places),
                marked=bool(significant[i, j]) or (not tested and abs(mean[i, j]) > largest / 4),
                label=cell_label(names[i][j], float(mean[i, j]), float(low[i, j]), float(high[i, j]), float(q[i, j]), unit)
                if labelled or significant[i, j]
                else "",
            )
            for j in range(mean.shape[1])
        ]
        for i in range(mean.shape[0])
    ]
    return _grid(cells, title)


def vote_grid(votes: np.ndarray, most: int, *, names: Sequence[Sequence[str]], title: str) -> str:
    """How many of ``most`` measures have each head among their top ones: [layer, head] counts, printed where above zero."""
    cells = [
        [
            _cell(
                names[i][j],
                float(votes[i, j]),
                level(float(votes[i, j]), most),
                str(int(votes[i, j])),
                marked=votes[i, j] > 0,
                label=f"{names[i][j]}: {int(votes[i, j])} of {most} measures",
            )
            for j in range(votes.shape[1])
        ]
        for i in range(votes.shape[0])
    ]
    return _grid(cells, title, wide=196)


def type_grid(cells: Mapping[tuple[int, int], tuple[str, str, str, str, str]], shape: tuple[int, int], *, title: str) -> str:
    """What each head is, in words: (layer, head) -> head, class, word, letter for narrow cells, accessible name.

    ``shape``: layers, heads. A place without a head is hatched.
    """
    wide = min(WIDTH * 2, 39 * shape[1])
    roomy = wide / shape[1] >= ROOMY
    lines = []
    for i in range(shape[0]):
        found = [cells.get((i, j), (f"L{i}H{j}", "x", "", "", f"L{i}H{j}: no such head")) for j in range(shape[1])]
        lines.append([(head, style, word if roomy else letter, said) for head, style, word, letter, said in found])
    return _grid(lines, title, wide=wide, letters=True)


def cell_label(head: str, value: float, low: float, high: float, q: float, unit: str) -> str:
    """What a cell says: ``L3H2: 1.23 logit difference, 95 % interval [1.01, 1.40], q < 0.001``."""
    if not np.isfinite(value):
        return f"{head}: no value"
    return f"{head}: {number(value)} {unit}, 95 % interval {interval(low, high)}, q {probability(q)}"


def colour_bar(largest: float, unit: str, *, signed: bool = True) -> str:
    """The legend of a grid: the palette from minus ``largest`` (zero, where nothing is negative) to plus ``largest``."""
    names = (
        ([f"n{step}" for step in range(LEVELS, 0, -1)] if signed else [])
        + ["z"]
        + [f"p{step}" for step in range(1, LEVELS + 1)]
    )
    end, least = 42 + 8 * len(names), number(-largest if signed else 0)
    cells = "".join(
        f'<rect class="c {name}" x="{42 + 8 * i}" y="1" width="8.2" height="8"/>' for i, name in enumerate(names)
    )
    return (
        f'<svg class="bar" role="img" aria-label="colour scale from {least} to {number(largest)} {escape(unit)}" '
        f'viewBox="0 0 {end + 42} 11" width="{end + 42}" height="11"><text class="a" text-anchor="end" x="38" '
        f'y="9">{least}</text>'
        f'<text class="a" text-anchor="start" x="{end + 4}" y="9">{number(largest)}</text>{cells}</svg>'
    )


def _cell(name: str, value: float, style: str, text: str, *, marked: bool, label: str) -> tuple[str, str, str, str]:
    """Head, class, printed text (empty: nothing to mark) and accessible name."""
    return name, style, text if marked and np.isfinite(value) else "", label


def _grid(cells: Sequence[Sequence[tuple[str, str, str, str]]], title: str, wide: int = WIDTH, *,
          letters: bool = False) -> str:
    """``letters``: texts are short enough for cells of 12 pixels."""
    layers, heads = len(cells), len(cells[0])
    across = min(39.0 * max(1.0, wide / WIDTH) if letters else 39.0 * wide / WIDTH, wide / heads)
    down = min(across, 24.0)
    left, top, printed = 28, 2, across >= (12 if letters else ROOMY * wide / WIDTH)
    parts: list[str] = []
    nameless: dict[str, list[str]] = {}
    for row, line in enumerate(cells):
        if any(label for *_, label in line):
            parts.append('<g role="row">')
        for column, (name, style, text, label) in enumerate(line):
            x, y = left + column * across, top + row * down
            if not label:
                nameless.setdefault(style, []).append(f"M{x:.4g} {y:.4g}h{across - 1:.3g}v{down - 1:.3g}h{1 - across:.3g}z")
                continue
            parts.append(
                f'<g role="gridcell" data-h="{escape(name)}" aria-label="{escape(label)}">'
                f'<rect class="c {style}" x="{x:.4g}" y="{y:.4g}" width="{across - 1:.4g}" height="{down - 1:.4g}"/>'
            )
            if text and printed:
                parts.append(f'<text x="{x + across / 2 - 0.5:.4g}" y="{y + down / 2 + 3:.4g}">{text}</text>')
            elif text:
                size = min(2.0, down / 6)
                parts.append(f'<circle cx="{x + across / 2 - 0.5:.4g}" cy="{y + down / 2 - 0.5:.4g}" r="{size:.2g}"/>')
            parts.append("</g>")
        if any(label for *_, label in line):
            parts.append("</g>")
    parts = [f'<path class="c {style}" d="{"".join(paths)}"/>' for style, paths in nameless.items()] + parts
    height, width = top + layers * down, left + heads * across + 2
    axis = [
        f'<text class="a" text-anchor="end" x="{left - 5}" y="{top + (row + 0.5) * down + 3:.4g}">{row}</text>'
        for row in range(0, layers, _step(down))
    ]
    axis += [
        f'<text class="a" x="{left + (column + 0.5) * across - 0.5:.4g}" y="{height + 11:.4g}">{column}</text>'
        for column in range(0, heads, _step(across))
    ]
    axis.append(f'<text class="a t" x="{left + heads * across / 2:.4g}" y="{height + 23:.4g}">head</text>')
    axis.append(f'<text class="a t" transform="translate(7 {top + layers * down / 2:.4g}) rotate(-90)">layer</text>')
    return (
        f'<svg class="heat" role="grid" aria-label="{escape(title)}" viewBox="0 0 {width:.5g} {height + 28:.5g}" '
        f'style="max-width:{width * 1.15:.0f}px">{"".join(axis)}{"".join(parts)}</svg>'
    )


def _step(pitch: float) -> int:
    """Every how many-th label is printed so that labels do not touch."""
    return next(step for step in (1, 2, 4, 5, 8, 10, 16, 20, 32, 64, 128, 1024) if pitch * step >= 12 or step == 1024)
