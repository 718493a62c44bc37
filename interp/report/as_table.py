"""One tidy table of a report: a row for each task, measure and head."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.report.circuits import membership
from interp.report.panels import Panel
from interp.report.results import Findings, TaskResult

NUMBERS = ("value", "low", "high", "p", "q", "fraction", "fraction_low", "fraction_high")


def head_rows(panel: Panel) -> list[dict[str, Any]]:
    """The numbers of one measure, a row per head, layer by layer: ``value`` with its interval ``low`` to ``high``, ``p`` and
    ``q`` of the test, ``n`` prompts, ``rank`` (1 = largest), ``fraction`` of the whole effect; NaN where there is none."""
    ranks, prompts = panel.ranks(), panel.prompts
    nothing = np.full(panel.mean.shape, np.nan)
    arrays = {"value": panel.mean, "low": panel.low, "high": panel.high, "p": panel.p, "q": panel.q,
              **{name: nothing if (found := getattr(panel, name)) is None else found for name in NUMBERS[5:]}}
    rows = []
    for layer, index in np.ndindex(panel.mean.shape):
        rows.append({"head": panel.names[layer][index], "layer": layer, "index": index,
                     **{name: float(array[layer, index]) for name, array in arrays.items()},
                     "significant": bool(panel.significant[layer, index]), "n": int(prompts[layer, index]),
                     "rank": int(ranks[layer, index]) if np.isfinite(ranks[layer, index]) else None})
    return rows


def tidy(findings: Findings, prepared: Sequence[tuple[TaskResult, tuple[Panel, ...]]]) -> pd.DataFrame:
    """The table that ``interp report --csv`` writes.

    Columns: ``model``, ``task``, ``measure``, ``label`` (the measure with what tells it apart), ``direction``, ``metric``,
    ``unit`` (what a row counts: head or kv_head), ``head``, ``layer``, ``index``; ``value``, ``low``, ``high``, ``p``,
    ``q``, ``significant``, ``n``, ``rank``; ``fraction``, ``fraction_low``, ``fraction_high``; ``type`` (empty where heads
    were not typed), ``in_circuit`` (empty where the task has no circuit); ``key`` (of the scores' provenance).
    """
    types: Mapping[str, str] = findings.types.by_head if findings.types else {}
    rows = []
    for result, drawn in prepared:
        circuits = findings.of_task(result.name)
        inside = membership(circuits)
        for panel in drawn:
            record, unit = panel.scores.provenance, panel.scores.unit
            said = {"model": record.model.get("name"), "task": result.name, "measure": record.measure, "label": panel.label,
                    "direction": record.direction, "metric": record.metric, "unit": unit}
            for row in head_rows(panel):
                of_head = unit == "head"
                kept = {"type": types.get(row["head"]) if of_head else None,
                        "in_circuit": row["head"] in inside if circuits and of_head else None}
                rows.append(said | row | kept | {"key": record.key()[:12]})
    order = ("model", "task", "measure", "label", "direction", "metric", "unit", "head", "layer", "index", *NUMBERS[:5],
             "significant", "n", "rank", *NUMBERS[5:], "type", "in_circuit", "key")
    frame = pd.DataFrame(rows, columns=list(order))
    return frame.astype({"rank": "Int64", "in_circuit": "boolean"})
