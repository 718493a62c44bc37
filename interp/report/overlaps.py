"""What the circuits of a page's tasks share, beside what chance gives: a matrix, its table, and who has what."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from interp.core.circuit import Circuit
from interp.core.errors import InterpError
from interp.core.overlap_many import intersections, pairs
from interp.core.universe import Shape, universe
from interp.report.circuits import name_of, shape_of
from interp.views import colours, labels

UNITS = ("heads", "edges")
SETS = 12
"""Rows of the table of combinations."""


Tables = dict[str, tuple[int, pd.DataFrame, pd.DataFrame]]


def overlap_tables(circuits: Sequence[Circuit], layers: int, heads: int) -> Tables:
    """Unit -> how many there are, ``pairs`` and ``intersections`` (``interp.core.overlap_many``); empty for fewer than two
    circuits. Edges only where every circuit has some and tells the shape of the model."""
    if len(circuits) < 2:
        return {}
    named, shape = by_name(circuits), _common_shape(circuits, layers, heads)
    units = [unit for unit in UNITS if unit == "heads" or all(one.edges and "shape" in one.provenance for one in circuits)]
    return {unit: (len(universe(shape, unit)), pairs(named, universe(shape, unit)),
                   intersections(named, universe(shape, unit))) for unit in units}


def by_name(circuits: Sequence[Circuit]) -> dict[str, Circuit]:
    """Circuits by the task they are of; by their own names too where a task has several."""
    tasks = [one.task for one in circuits]
    found: dict[str, Circuit] = {}
    for one in circuits:
        name = one.task if tasks.count(one.task) == 1 else f"{one.task}: {name_of(one)}"
        found[name if name not in found else f"{name} ({sum(key.startswith(name) for key in found) + 1})"] = one
    return found


def overlaps(circuits: Sequence[Circuit], layers: int, heads: int) -> dict[str, Any] | None:
    """What the page shows; None for fewer than two circuits."""
    tables = overlap_tables(circuits, layers, heads)
    if not tables:
        return None
    names = list(by_name(circuits))
    found = {unit: {(row["a"], row["b"]): row for row in frame.to_dict("records")} for unit, (_, frame, _) in tables.items()}
    rows = []
    for i, one in enumerate(names):
        cells = []
        for j, other in enumerate(names):
            unit, pair = ("heads", (other, one)) if j < i else ("edges", (one, other))
            there = i != j and unit in found
            cells.append(_cell(found[unit][pair]) if there else {"text": "", "small": "", "style": "self"})
        rows.append({"label": one, "cells": cells})
    return {
        "columns": names,
        "rows": rows,
        "edges": "edges" in tables,
        "table": [_row(unit, row) for unit, (_, frame, _) in tables.items() for row in frame.to_dict("records")],
        "among": {unit: n for unit, (n, _, _) in tables.items()},
        "sets": _sets(tables["heads"][2], len(names)),
    }


def _common_shape(circuits: Sequence[Circuit], layers: int, heads: int) -> Shape:
    shapes = {str(shape_of(one, layers, heads)): shape_of(one, layers, heads) for one in circuits
              if "shape" in one.provenance} or {"": Shape(layers, heads)}
    if len(shapes) > 1:
        raise InterpError("compare the circuits of a report", "their files tell different shapes of the model",
                          "find them again in this model")
    return next(iter(shapes.values()))


def _cell(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        "text": labels.fixed(row["jaccard"], 2),
        "small": f"chance {labels.fixed(row['matched'], 2)}, p {labels.probability(row['p_holm'])}",
        "style": colours.level(row["jaccard"], 1.0),
    }


def _row(unit: str, row: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        "unit": unit,
        "pair": f"{row['a']} / {row['b']}",
        "sizes": f"{row['size_a']} / {row['size_b']}",
        "shared": row["shared"],
        **{name: labels.fixed(row[name], 2) for name in ("jaccard", "chance", "matched")},
        **{name: labels.probability(row[name]).removeprefix("= ") for name in ("p", "p_holm")},
        **{f"{name}_value": row[name] for name in ("p", "p_holm")},
    }


def _sets(found: pd.DataFrame, n: int) -> list[dict[str, Any]]:
    """Heads by exactly which circuits have them, those of most circuits first."""
    return [{"names": "all" if row["degree"] == n else " + ".join(row["circuits"]), "degree": row["degree"],
             "count": row["count"], "chance": labels.fixed(row["chance"], 1), "items": ", ".join(row["items"])}
            for row in found.to_dict("records")[:SETS]]
