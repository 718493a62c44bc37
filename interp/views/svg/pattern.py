"""An attention pattern: rows are queries (destinations), columns keys (sources), masked cells hatched."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from interp.views.labels import token, weight
from interp.views.svg.png import grey

LONGEST = 96
"""Above this many tokens on a side, cells are pooled by their maximum."""


LOWER = 'data-lower="" '
"""Says that the weights above the diagonal, which are masked, are left out of ``data-v``."""
FAINT = 0.005
"""Weights below this are not written at a token."""


@dataclass(frozen=True)
class Pooled:
    """A pattern of at most ``LONGEST`` rows and columns: a cell is the largest weight of ``block`` x ``block`` tokens."""

    values: np.ndarray
    visible: np.ndarray
    block: int


def pool(pattern: np.ndarray, visible: np.ndarray, longest: int = LONGEST) -> Pooled:
    """Pool by the maximum (a mean would wash out a diagonal); a pooled cell is visible if any of its cells is."""
    block = max(1, -(-max(pattern.shape) // longest))
    if block == 1:
        return Pooled(np.where(visible, pattern, 0.0), visible, 1)
    pad = [(0, -size % block) for size in pattern.shape]
    values, seen = np.pad(np.where(visible, pattern, 0.0), pad), np.pad(visible, pad)
    shape = (values.shape[0] // block, block, values.shape[1] // block, block)
    return Pooled(values.reshape(shape).max((1, 3)), np.asarray(seen.reshape(shape).any((1, 3))), block)


def sink_mass(pattern: np.ndarray, visible: np.ndarray) -> float:
    """Mean attention to the first key, over the queries that see at least one other key; NaN if there is none."""
    rows = visible.sum(1) > 1
    return float(pattern[rows, 0].mean()) if rows.any() else float("nan")


def colour_limit(pattern: np.ndarray, visible: np.ndarray) -> float:
    """The largest visible weight outside the first key's column; 1 where there is none."""
    rest = pattern[:, 1:][visible[:, 1:]]
    return float(rest.max()) if rest.size and rest.max() > 0 else 1.0


def attention_pattern(
    pattern: np.ndarray,
    visible: np.ndarray,
    queries: Sequence[str],
    keys: Sequence[str],
    *,
    title: str,
    identifier: str,
    spans: Mapping[str, tuple[int, int]] | None = None,
) -> str:
    """One head's pattern on one prompt as ``<svg>``.

    Args:
        pattern: [query, key], rows sum to one over the visible keys (less under a learned sink).
        visible: [query, key] bool; what the mask forbids is hatched and never drawn as zero.
        queries, keys: the tokens, as decoded. identifier: unique in the page.
        spans: named positions, shown beside the labels.

    The colour runs from the page (0) to full ink at ``colour_limit``. The first key's column, where heads park attention, is
    left out of the limit and drawn in grey on a scale of its own (full at 1).
    """
    small = pool(pattern, visible)
    rows, columns = small.values.shape
    pitch = 300 / max(rows, columns) if max(rows, columns) > 20 else 15.0
    largest = colour_limit(pattern, visible)
    gap, wide, high = 3, columns * pitch, rows * pitch
    names = {index: name for name, (start, stop) in (spans or {}).items() for index in range(start, stop)}
    row_ticks, column_ticks = _ticks(rows, pitch, names, small.block), _ticks(columns, pitch, names, small.block)
    left = 18 + _room(queries, names, row_ticks, small.block)
    below = 16 + _room(keys, names, column_ticks, small.block)
    ink = np.concatenate([small.values[:, :1], small.values[:, 1:] / largest], axis=1)
    parts = [
        f'<defs><mask id="m{identifier}"><image href="{grey(ink)}" x="{left}" y="0" width="{wide:.5g}" height="{high:.5g}" '
        'preserveAspectRatio="none" style="image-rendering:pixelated"/></mask></defs>',
        f'<path class="hatch" d="{_runs(~small.visible, left, pitch)}"/>',
        f'<g mask="url(#m{identifier})"><rect class="sink" x="{left}" y="0" width="{pitch:.5g}" height="{high:.5g}"/>'
        f'<rect class="ink" x="{left + pitch:.5g}" y="0" width="{wide - pitch:.5g}" height="{high:.5g}"/></g>',
        f'<path class="frame" d="M{left + pitch:.5g} 0v{high:.5g}"/>',
        f'<rect class="frame" x="{left}" y="0" width="{wide:.5g}" height="{high:.5g}"/>',
    ]
    for index in row_ticks:
        parts.append(
            f'<text class="tok" text-anchor="end" x="{left - gap}" '
            f'y="{(index + 0.5) * pitch + 3:.4g}">{_mark(queries, names, index * small.block)}</text>'
        )
    for index in column_ticks:
        parts.append(
            f'<text class="tok" text-anchor="end" transform="translate({left + (index + 0.5) * pitch + 3:.4g} '
            f'{high + gap:.4g}) rotate(-90)">'
            f"{_mark(keys, names, index * small.block)}</text>"
        )
    parts.append(f'<text class="a t" transform="translate(9 {high / 2:.4g}) rotate(-90)">query / destination</text>')
    parts.append(f'<text class="a t" x="{left + wide / 2:.4g}" y="{high + below - 3:.4g}">key / source</text>')
    data = base64.b64encode(_codes(small).tobytes()).decode()
    lower = rows == columns and not np.triu(small.visible, 1).any()
    return (
        f'<svg class="pattern" tabindex="0" role="img" aria-label="{escape(title)}" viewBox="0 0 '
        f'{left + wide + 4:.5g} {high + below:.5g}" '
        f'style="max-width:{(left + wide + 4) * 1.1:.0f}px" data-rows="{rows}" data-columns="{columns}" '
        f'data-left="{left}" data-pitch="{pitch:.5g}" data-block="{small.block}" '
        f'{LOWER if lower else ""}data-v="{data}">{"".join(parts)}'
        '<rect class="cross" x="0" y="0" width="0" height="0"/></svg>'
    )


def token_strip(weights: np.ndarray, tokens: Sequence[str], *, query: int) -> str:
    """The prompt as text with each token shaded by how much the ``query`` attends to it (the first token outside the scale).

    ``weights`` [key]; tokens after the query are left out. A token's weight is in its ``title``, from ``FAINT`` on.
    """
    rest = weights[1 : query + 1]
    largest = float(rest.max()) if rest.size and rest.max() > 0 else 1.0
    cells = []
    for index, text in enumerate(tokens[: query + 1]):
        share = min(1.0, float(weights[index]) / largest)
        line = "<br>" if "\n" in text else ""
        strong = ' class="hi"' if share > 0.55 else ""
        style = f' style="--a:{share:.2f}"' if share >= 0.01 else ""
        said = f' title="{index} {escape(token(text))}: {weight(float(weights[index]))}"' if weights[index] >= FAINT else ""
        cells.append(f"<bdi{strong}{style}{said}>{escape(token(text))}</bdi>{line}<wbr>")
    return f'<p class="strip">{"".join(cells)}</p>'


def _codes(small: Pooled) -> np.ndarray:
    """Weights as little-endian 16-bit numbers, 0 to 65534; 65535 where masked. Row by row; where all above the diagonal is
    masked, what is at or below it alone."""
    found = np.where(small.visible, np.round(np.clip(small.values, 0, 1) * 65534), 65535).astype("<u2")
    square = found.shape[0] == found.shape[1] and not np.triu(small.visible, 1).any()
    return found[np.tril_indices(len(found))] if square else found.ravel()


def _runs(cells: np.ndarray, left: float, pitch: float) -> str:
    """The marked cells as one path, a rectangle for each run of a row; equal runs of following rows are joined."""
    open_: dict[tuple[int, int], int] = {}
    path = []
    for row in range(len(cells) + 1):
        runs = set()
        if row < len(cells):
            edges = np.flatnonzero(np.diff(np.concatenate([[0], cells[row].astype(int), [0]])))
            runs = {(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)}
        for run, start in list(open_.items()):
            if run not in runs:
                path.append(
                    f"M{left + run[0] * pitch:.5g} "
                    f"{start * pitch:.5g}h{(run[1] - run[0]) * pitch:.5g}v{(row - start) * pitch:.5g}"
                    f"h{-(run[1] - run[0]) * pitch:.5g}z"
                )
                del open_[run]
        for run in runs:
            open_.setdefault(run, row)
    return "".join(path)


def _ticks(count: int, pitch: float, names: Mapping[int, str], block: int) -> list[int]:
    """Which rows are labelled so that labels do not overlap: named positions first, then evenly."""
    room = max(1, int(np.ceil(10 / pitch)))
    chosen: list[int] = []
    for index in [*sorted({name // block for name in names}), *range(0, count, room)]:
        if index < count and all(abs(index - other) >= room for other in chosen):
            chosen.append(index)
    return sorted(chosen)


def _room(tokens: Sequence[str], names: Mapping[int, str], ticks: Sequence[int], block: int) -> int:
    """Pixels that the longest label takes."""
    return (
        round(
            max(
                6.0 * len(token(tokens[i * block], 10 if i * block in names else 13))
                + 5.2 * len(names.get(i * block, "")[:8])
                for i in ticks
            )
        )
        + 6
    )


def _mark(tokens: Sequence[str], names: Mapping[int, str], index: int) -> str:
    name = names.get(index, "")
    prefix = f'<tspan class="span">{escape(name[:8])}\u2002</tspan>' if name else ""
    return prefix + escape(token(tokens[index], 10 if name else 13))
