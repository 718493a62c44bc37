"""Patching map: what patching each head does at each token, clean and corrupted prompt above it.

``interp.views.patching_map(scores, model=model, batch=batch)`` draws it; ``payload`` is what is drawn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interp.core.errors import InterpError
from interp.core.head import Head
from interp.core.intervals import bootstrap
from interp.core.registry import unknown
from interp.core.scores import HeadScores
from interp.views.labels import plural
from interp.views.widgets import sources
from interp.views.widgets.packing import numbers
from interp.views.widgets.prompt_pairs import prompt_pairs
from interp.views.widgets.state import HeadState
from interp.views.widgets.view import View, attached

CELLS = 45_000
"""Cells that one map holds; of larger ones the rows with the largest effects."""
AXES = {2: ("layer", "position"), 3: ("layer", "head", "position")}
"""What the axes of a plain array are, if nothing is said."""
READS = {
    "noising": "blue: the metric falls where the corrupted activation is put in (it is needed); red: it rises",
    "denoising": "blue: the metric comes back where the clean activation is put in (it is enough); red: it moves away",
}
ASKED = "draw a patching map"
Parts = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Mean, low and high end of its interval, number of prompts."""


class PatchingMap(View):
    """Effects of patching: rows are heads or layers, columns tokens; or rows layers, columns heads."""

    kind = "patching"
    _esm = sources.script("patching")


@dataclass(frozen=True, eq=False)
class Cells:
    """What is drawn.

    Attributes:
        mean, low, high: [row, column]. counts: prompts of each cell, 0 where it is not known.
        rows, columns: their names. members: heads of each row; of each cell, row by row, where columns are heads (``grid``).
        layers: layer of each row. places: position of each column, None where columns are named.
        axis: what columns are. heads: heads of each layer; ``least``: there may be more (``attached``).
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    counts: np.ndarray
    rows: list[str]
    columns: list[str]
    members: list[list[list[int]]]
    layers: list[int]
    heads: list[int]
    places: list[int] | None = None
    axis: str = "head"
    grid: bool = False
    least: bool = False


def patching_map(scores: Any, *, state: HeadState | None = None, theme: str = "auto", **options: Any) -> PatchingMap:
    """What patching each head does, at each token where the scores have positions; linked with the views of ``state``.

    Blue cells are positive effects, red ones negative, white is zero, with one limit for both signs. Cells whose 95 %
    interval over prompts includes zero are drawn small. Selecting a cell selects its head, and its token as the query (as
    the key, where keys or values were patched), in every view.

    Args:
        scores: one of

            * ``HeadScores`` with a position axis (``activation_patching(..., positions="each")`` or named spans), or without
              one: then rows are layers and columns heads;
            * an array [layer, position], [layer, head, position], or with ``axes`` any of ``layer``, ``head``, ``position``,
              ``prompt`` in another order; along ``prompt`` the mean and its interval are taken;
            * a mapping of these arguments, as ``workbench(..., patching={"scores": ..., "clean": ...})`` takes it.
        clean, corrupt: tokens as texts, one prompt or a list of up to 16; or
        model, batch: to read them from.
        axes: names of the axes of a plain array; ``layer``: which one [head, position] is of.
        normalized: as a fraction of the whole effect of the corruption: 1 = all of it (scores of at least two prompts).
        metric, direction: of a plain array, for the legend; ``direction`` is ``noising`` or ``denoising``.

    Raises:
        InterpError: scores with two further axes; axes, tokens or state do not fit; nothing to normalise by.
    """
    made = payload(scores, **options)
    if state is not None:
        return PatchingMap(attached("patching", made, state))
    alone = attached("patching", made, None, theme=theme)
    alone.sel = _strongest(made)
    return PatchingMap(alone)


def payload(scores: Any, *, clean: Any = None, corrupt: Any = None, model: Any = None, batch: Any = None,
            axes: Sequence[str] | None = None, layer: int | None = None, normalized: bool = False, metric: str = "",
            direction: str | None = None) -> dict[str, Any]:
    """What the script draws, as plain JSON data; arguments as of ``patching_map``."""
    if isinstance(scores, Mapping):
        return payload(**scores)
    if direction is not None and direction not in READS:
        raise unknown("direction", direction, list(READS))
    about: dict[str, Any]
    if isinstance(scores, HeadScores):
        cells, about = _of_scores(scores, normalized)
    else:
        if normalized:
            raise InterpError("normalise a plain array", "it does not say what the whole effect is", "divide it beforehand")
        cells = _of_array(scores, axes, layer)
        about = {"name": "effects", "unit": metric, "reads": READS.get(direction or "", ""), "direction": direction or "",
                 "note": "", "key": False}
    kept = np.flatnonzero(np.isfinite(cells.mean).any(1)) if not cells.grid else np.arange(len(cells.rows))
    empty = len(cells.rows) - len(kept)
    if kept.size * len(cells.columns) > CELLS and not cells.grid:
        most = max(1, CELLS // len(cells.columns))
        size = np.nanmax(np.abs(cells.mean[kept]), axis=1)
        kept = np.sort(kept[np.argsort(-size, kind="stable")[:most]])
    n = int(cells.counts.max(initial=0))
    seen = cells.counts[kept].max(0, initial=0)
    return {
        "heads": cells.heads, "least": cells.least, "grid": cells.grid, "axis": cells.axis,
        "rows": [cells.rows[i] for i in kept], "layers": [cells.layers[i] for i in kept],
        "members": cells.members if cells.grid else [cells.members[i] for i in kept],
        "columns": cells.columns, "places": cells.places,
        **{name: numbers(getattr(cells, name)[kept]) for name in ("mean", "low", "high")},
        "n": n, "counts": [int(count) for count in seen] if (seen != n).any() else None,
        "leftOut": len(cells.rows) - empty - len(kept), "empty": empty,
        "prompts": prompt_pairs(clean, corrupt, model=model, batch=batch, places=cells.places), **about,
    }


def _strongest(made: Mapping[str, Any]) -> list[list[int]]:
    """Heads of the cell with the largest effect."""
    size = [abs(value) if value is not None else -1.0 for value in made["mean"]]
    if not size:
        return []
    at = int(np.argmax(size))
    found: list[list[int]] = made["members"][at if made["grid"] else at // len(made["columns"])]
    return found


def _of_scores(scores: HeadScores, normalized: bool) -> tuple[Cells, dict[str, Any]]:
    if len(scores.dims) > 4:
        axis = scores.dims[4]
        raise InterpError(ASKED, f"the scores have the further axes {', '.join(scores.dims[3:])}",
                          f"choose one label of one of them with scores.at({axis}={scores.labels(axis)[0]!r})")
    if normalized:
        found = scores.normalized()
        mean, low, high = found.values, found.low, found.high
    else:
        mean, (low, high) = scores.mean(), scores.interval()
    whole = scores.provenance
    kind = whole.options.get("component")
    task = whole.task.get("name")
    said = [f"mean of {plural(scores.n_prompts, 'prompt')}" + (f" of {task}" if task else ""), whole.model.get("name"),
            scores.certificate]
    direction = whole.direction or ""
    about = {
        "name": whole.measure.replace("_", " ") + (f" of {kind}" if isinstance(kind, str) else ""),
        "unit": "of the whole effect" if normalized else whole.metric.replace("_", " "),
        "reads": READS.get(direction, "blue is positive: larger matters more"), "direction": direction,
        "note": " · ".join(str(part) for part in said if part), "key": kind in ("k", "v"),
    }
    shared = scores.group if scores.unit == "kv_head" else 1
    members = [[[layer, head * shared + i] for i in range(shared)] for layer in range(scores.n_layers)
               for head in range(scores.n_heads)]
    parts: Parts = (mean, low, high, np.isfinite(scores.values).sum(2))
    heads = [scores.n_heads * shared] * scores.n_layers
    if mean.ndim == 2:
        return _grid(parts, members, heads, "H" if shared == 1 and scores.unit == "head" else "KV"), about
    axis = scores.dims[3]
    labels = scores.labels(axis)
    counted = axis == "position" and all(isinstance(label, int | np.integer) for label in labels)
    return _rows_of(parts, [scores.label(head) for head in scores.heads], members, [row[0][0] for row in members], heads,
                    columns=[str(label) for label in labels], places=list(map(int, labels)) if counted else None,
                    axis=axis), about


def _grid(parts: Parts, members: list[list[list[int]]], heads: list[int], letter: str) -> Cells:
    """Layer by head."""
    mean, low, high, counts = parts
    layers, across = mean.shape
    return Cells(mean, low, high, counts, [f"L{i}" for i in range(layers)], [f"{letter}{i}" for i in range(across)], members,
                 list(range(layers)), heads, grid=True)


def _rows_of(parts: Parts, rows: list[str], members: list[list[list[int]]], layers: list[int],
             heads: list[int], **columns: Any) -> Cells:
    """One row for each head or layer, from arrays whose last axis is the columns."""
    mean, low, high, counts = (part.reshape(-1, part.shape[-1]) for part in parts)
    return Cells(mean, low, high, counts, rows, members=members, layers=layers, heads=heads, **columns)


def _of_array(values: Any, axes: Sequence[str] | None, layer: int | None) -> Cells:
    array = np.asarray(values.detach().float().cpu().numpy() if hasattr(values, "detach") else values, dtype=float)
    named = tuple(axes) if axes is not None else AXES.get(array.ndim, ())
    if len(named) != array.ndim or not set(named) <= {"layer", "head", "position", "prompt"} or len(set(named)) < len(named):
        raise InterpError(ASKED, f"the axes of an array of shape {array.shape} are {', '.join(named) or 'not known'}",
                          "name each once with axes=, of layer, head, position and prompt")
    shown = [name for name in ("layer", "head", "position") if name in named]
    if len(shown) < 2:
        raise InterpError(ASKED, f"{shown[0] if shown else 'no axis'} alone is no map", "give two of layer, head, position")
    if ("layer" in shown) == (layer is not None):
        raise InterpError(ASKED, "it has a layer axis and a layer" if layer is not None else "the heads' layer is not known",
                          "leave layer= out" if layer is not None else "say layer=")
    order = [named.index(name) for name in ["prompt", *shown] if name in named]
    prompts = array.transpose(order) if "prompt" in named else array.transpose(order)[None]
    there = np.isfinite(prompts).sum(0)
    with np.errstate(invalid="ignore"):
        mean = np.where(np.isfinite(prompts), prompts, 0).sum(0) / there
    parts: Parts = (mean, *bootstrap(prompts), there if "prompt" in named else np.zeros_like(there))
    if "position" not in shown:
        members = [[[i, j]] for i in range(mean.shape[0]) for j in range(mean.shape[1])]
        return _grid(parts, members, [mean.shape[1]] * len(mean), "H")
    places = list(range(mean.shape[-1]))
    columns = {"columns": [str(place) for place in places], "places": places, "axis": "position"}
    if "head" not in shown:
        layers = list(range(len(mean)))
        nobody: list[list[list[int]]] = [[] for _ in layers]
        return _rows_of(parts, [f"L{i}" for i in layers], nobody, layers, [1] * len(mean), least=True, **columns)
    across = mean.shape[-2]
    own = list(range(len(mean))) if layer is None else [layer]
    found = [Head(number, head) for number in own for head in range(across)]
    heads = [across] * len(own) if layer is None else [1] * layer + [across]
    return _rows_of(parts, [str(head) for head in found], [[[head.layer, head.head]] for head in found],
                    [head.layer for head in found], heads, least=layer is not None, **columns)
