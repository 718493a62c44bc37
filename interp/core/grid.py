"""A grid of needles: where in contexts of which length they stand, and how often they were found there."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interp.core.errors import InterpError
from interp.core.intervals import Floats
from interp.core.proportions import wilson

_CELL = re.compile(r"length (\d+), depth (\d+), (.+?)(?:, placed (\d+\.\d))?")


@dataclass(frozen=True)
class Cell:
    """One needle in one context: the context's length in tokens, the depth in percent that was asked for (0: first), the
    needle's name, and the depth at which it came to stand, to a tenth of a percent (None: not recorded).

    ``str`` gives ``length 1000, depth 50, harbour, placed 47.3``, the label of the prompt.
    """

    length: int
    depth: int
    needle: str
    placed: float | None = None

    def __str__(self) -> str:
        placed = "" if self.placed is None else f", placed {self.placed:.1f}"
        return f"length {self.length}, depth {self.depth}, {self.needle}{placed}"

    @classmethod
    def parse(cls, text: str) -> "Cell":
        """Read what ``str`` gives."""
        if match := _CELL.fullmatch(text):
            return cls(int(match[1]), int(match[2]), match[3], float(match[4]) if match[4] else None)
        raise InterpError(f"read {text!r} as a cell of a grid", "it is not of the form 'length 1000, depth 50, name'",
                          "use prompts of the task needle")


@dataclass(frozen=True)
class Grid:
    """A share per cell.

    Attributes:
        lengths, depths: the coordinates, ascending.
        share: mean over the prompts of a cell [depth, length]; NaN where there is none.
        low, high: 95 % Wilson intervals of the same shape.
        n: prompts in each cell.
    """

    lengths: tuple[int, ...]
    depths: tuple[int, ...]
    share: Floats
    low: Floats
    high: Floats
    n: Floats


def labels(batch: Any) -> dict[str, tuple[str, ...]]:
    """Coordinates for the prompts of a batch: the labels of its cells; {} where the prompts are not those of a grid."""
    frames = tuple(str(getattr(pair, "frame", "")) for pair in getattr(batch, "prompts", ()))
    return {"prompt": frames} if frames and all(_CELL.fullmatch(frame) for frame in frames) else {}


def grid(cells: Sequence[str | Cell], values: Sequence[float], confidence: float = 0.95) -> Grid:
    """The mean of ``values`` (one per prompt, 0 to 1) in each cell: ``grid(scores.labels("prompt"),
    scores.baselines["answered"])``.

    Raises ``InterpError`` for labels of prompts that are not those of a grid.
    """
    known = [Cell.parse(cell) if isinstance(cell, str) else cell for cell in cells]
    if len(known) != len(values):
        raise InterpError("make a grid", f"there are {len(known)} cells and {len(values)} values",
                          "give one for each prompt")
    lengths, depths = (tuple(sorted({getattr(cell, axis) for cell in known})) for axis in ("length", "depth"))
    total, n = np.zeros((len(depths), len(lengths))), np.zeros((len(depths), len(lengths)))
    for cell, value in zip(known, values, strict=True):
        if np.isfinite(value):
            at = depths.index(cell.depth), lengths.index(cell.length)
            total[at] += value
            n[at] += 1
    with np.errstate(invalid="ignore"):
        share = total / n
    low, high = wilson(share, n, confidence)
    return Grid(lengths, depths, share, low, high, n)
