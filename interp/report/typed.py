"""The types of the heads as the page shows them: a grid, a table with the evidence, and what typing cost."""

from typing import Any

import numpy as np
import pandas as pd

from interp.core.head_types import SINK, UNKNOWN
from interp.report.results import Typed
from interp.views import labels
from interp.views.svg.heatmap import type_grid

SHORT = {"previous token": ("prev", "P", 1), "duplicate token": ("dup", "D", 2), "induction": ("ind", "I", 3),
         "self": ("self", "s", 4), "delimiter": ("delim", "d", 5), SINK: ("sink", "S", 6), "retrieval": ("retr", "R", 7)}
"""Role -> how it is written where there is room, where there is little, and which of the eight colours it has."""
MOVES = ("mover", "M", 8)


def types_section(typed: Typed, shape: tuple[int, int], most: int) -> dict[str, Any]:
    """What the page says; ``shape``: layers, heads; ``most``: heads that are listed."""
    if typed.found is None:
        return {"refused": typed.refused}
    table, evidence = typed.found.table, typed.found.evidence
    known = table[table["type"] != UNKNOWN]
    weak = table[table["type"] == UNKNOWN]
    ordered = pd.concat([known.sort_values(["layer", "index"]), weak.sort_values("strength", ascending=False)])
    by_head = dict(iter(evidence.groupby("head", sort=False)))
    rows = [_row(row, by_head.get(row["head"])) for row in ordered.head(most).to_dict("records")]
    found = {role: sum(role in roles for roles in table["roles"]) for role in {r for roles in table["roles"] for r in roles}}
    asked = typed.found.asked
    return {
        "refused": "",
        "svg": _grid(table, shape),
        "legend": [{"role": role, "short": _short(role)[0], "colour": _short(role)[2], "n": count}
                   for role, count in sorted(found.items(), key=lambda item: (_short(item[0])[2], item[0]))],
        "rows": rows,
        "known": len(known),
        "heads": len(table),
        "left_out": len(table) - len(rows),
        "seconds": labels.number(typed.seconds, 2),
        "texts": ", ".join(map(str, asked.get("texts", ()))),
        "prompts": asked.get("prompts", ""),
        "at_least": _thresholds(asked),
        "confidence": labels.percent(float(asked.get("confidence", np.nan))),
        "epsilon": labels.number(float(asked.get("epsilon", np.nan)), 2),
        "missing": [f"{name}: {why}" for name, why in dict(asked.get("left_out", {})).items()],
    }


def _thresholds(asked: Any) -> str:
    values = sorted({float(value) for value in dict(asked.get("at_least", {})).values()})
    return " or ".join(labels.number(value, 2) for value in values)


def _row(row: dict[Any, Any], evidence: pd.DataFrame | None) -> dict[str, Any]:
    role = row["roles"][0] if row["roles"] else row["nearest"]
    said = [] if evidence is None else [
        f"{one['text']} {labels.fixed(one['strength'], 2)} {labels.interval(one['low'], one['high'], 2)}"
        for one in evidence[evidence["role"] == role].to_dict("records")
    ]
    return {
        "head": row["head"],
        "order": row["layer"] * 10_000 + row["index"],
        "type": row["type"],
        "colour": _short(row["roles"][0])[2] if row["roles"] else 0,
        "also": row["also"],
        "nearest": "" if row["roles"] else row["nearest"],
        "strength": labels.fixed(row["strength"], 2),
        "strength_value": row["strength"],
        "reliability": labels.percent(row["reliability"]),
        "reliability_value": row["reliability"],
        "texts": row["texts"],
        "sink": labels.percent(row["sink_rows"]) if "sink_rows" in row else "–",
        "sink_value": row.get("sink_rows", np.nan),
        "evidence": "; ".join(said),
    }


def _grid(table: pd.DataFrame, shape: tuple[int, int]) -> str:
    cells = {}
    for row in table.to_dict("records"):
        role = row["roles"][0] if row["roles"] else ""
        long, brief, colour = _short(role) if role else ("", "", 0)
        said = f"{row['head']}: {row['type']}" + (f", also {row['also']}" if row["also"] else "")
        if not role:
            said += f", nearest {row['nearest']} {labels.fixed(row['strength'], 2)}"
        cells[row["layer"], row["index"]] = (row["head"], f"t{colour}", long, brief, said)
    return type_grid(cells, shape, title="Type of each head: one cell a head, rows are layers")


def _short(role: str) -> tuple[str, str, int]:
    return SHORT.get(role, MOVES)
