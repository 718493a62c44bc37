"""A report as data: every number of the page with its interval, the number of prompts, how it was made, and provenance."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

import numpy as np

from interp.core import compare, intervals
from interp.core.circuit import Circuit
from interp.core.errors import InterpError
from interp.core.provenance import plain
from interp.report.agreement import resamples_of, votes
from interp.report.as_table import head_rows
from interp.report.caveats import caveats
from interp.report.circuits import judged, membership, name_of, scores_of
from interp.report.overlaps import UNITS, overlap_tables
from interp.report.panels import Panel
from interp.report.ranking import alike, mean_rank
from interp.report.results import Findings, TaskResult, Typed
from interp.report.shares import share, top_k

SCHEMA = "interp-report"
VERSION = 1
INTERVAL = "bootstrap over prompts, bias-corrected and accelerated, 2000 resamples, seed 0"
TEST = "paired t test against zero; q: Benjamini and Hochberg over the heads of one measure"
RANK = "percentile bootstrap over prompts, all measures resampled together"
CORRELATION = "Spearman; basic bootstrap interval over prompts"
Prepared = Sequence[tuple[TaskResult, tuple[Panel, ...]]]


def to_json(findings: Findings, prepared: Prepared, title: str) -> str:
    """The record as JSON text; NaN and infinite numbers are null."""
    return json.dumps(_known(record(findings, prepared, title)), indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def record(findings: Findings, prepared: Prepared, title: str) -> dict[str, Any]:
    """The whole report as plain data; ``docs/report.md`` says what each field is."""
    first = prepared[0][1][0]
    provenance = first.scores.provenance
    layers, heads = first.mean.shape
    said = caveats(prepared, findings)
    return {
        "format": SCHEMA,
        "version": VERSION,
        "title": title,
        "written": date.today().isoformat(),
        "model": dict(provenance.model) | {"layers": layers, "heads": heads},
        "methods": {"confidence": 0.95, "interval": INTERVAL, "share": "Wilson interval", "test": TEST,
                    "false_discovery_rate": 0.05, "mean_rank": RANK, "correlation": CORRELATION},
        "tasks": [_task(findings, result, drawn) for result, drawn in prepared],
        "across_tasks": _across(prepared),
        "types": None if findings.types is None else _types(findings.types),
        "circuits": [_circuit(circuit) for circuit in findings.circuits],
        "overlaps": _overlaps(findings.circuits, layers, heads),
        "caveats": {"general": said["general"], "tasks": {one["task"]: one["said"] for one in said["here"]},
                    "measures": {one["name"]: one["does_not_show"] for one in said["measures"]}},
    }


def _task(findings: Findings, result: TaskResult, drawn: tuple[Panel, ...]) -> dict[str, Any]:
    first, k = drawn[0].scores, top_k(drawn)
    circuits = findings.of_task(result.name)
    metrics = dict(first.baselines) | ({} if first.normalizer is None else {"whole_effect": first.normalizer})
    return {
        "name": result.name,
        "description": result.description,
        "source": result.source,
        "n": first.n_prompts,
        "metric": first.provenance.metric,
        "right": share(result.correct),
        "above_wrong": share(result.beats_wrong),
        "baselines": {name: _mean(values) for name, values in metrics.items()},
        "top_k": k,
        "measures": [_measure(panel) for panel in drawn],
        "ranking": _ranking(findings, circuits, drawn, k),
        "agreement": _agreement(drawn, k),
        "circuits": [name_of(circuit) for circuit in circuits],
        "words_left_out": list(result.dropped),
    }


def _measure(panel: Panel) -> dict[str, Any]:
    one = panel.scores
    return {
        "label": panel.label,
        "measure": one.provenance.measure,
        "direction": one.provenance.direction,
        "metric": one.provenance.metric,
        "unit": one.unit,
        "signed": panel.signed,
        "n": one.n_prompts,
        "no_fraction_because": panel.refused,
        "not_computed_in_full": one.certificate,
        "heads": head_rows(panel),
        "provenance": asdict(one.provenance) | {"key": one.provenance.key()},
    }


def _ranking(findings: Findings, circuits: Sequence[Circuit], drawn: tuple[Panel, ...], k: int) -> list[dict[str, Any]]:
    """Heads by mean rank over the measures, best first."""
    mean, low, high = mean_rank(drawn)
    types = findings.types.by_head if findings.types else {}
    inside, counted = membership(circuits), votes(drawn, k)
    rows = []
    for rank, i, j in sorted((mean[at], *at) for at in np.ndindex(mean.shape) if np.isfinite(mean[at])):
        head = drawn[0].names[i][j]
        rows.append({"head": head, "mean_rank": rank, "low": low[i, j], "high": high[i, j], "measures": len(alike(drawn)),
                     "n": drawn[0].scores.n_prompts, "in_top_k_of": counted[head], "type": types.get(head),
                     "in_circuits": inside.get(head, []) if circuits else None})
    return rows


def _agreement(drawn: tuple[Panel, ...], k: int) -> list[dict[str, Any]]:
    panels = alike(drawn)
    return [_pair(a, b, k, ("metric",)) | {"a": a.label, "b": b.label} for i, a in enumerate(panels) for b in panels[i + 1:]]


def _across(prepared: Prepared) -> list[dict[str, Any]]:
    """The same measure on two tasks: does it rank the heads alike?"""
    found = []
    for i, (one, drawn) in enumerate(prepared):
        for other, theirs in prepared[i + 1:]:
            k = min(top_k(drawn), top_k(theirs))
            for panel in drawn:
                match = next((p for p in theirs if p.label == panel.label and p.names == panel.names), None)
                if match is not None:
                    found.append({"measure": panel.label, "a": one.name, "b": other.name}
                                 | _pair(panel, match, k, ("task", "metric")))
    return found


def _pair(a: Panel, b: Panel, k: int, across: tuple[str, ...]) -> dict[str, Any]:
    told: dict[str, Any] = {"correlation": None, "low": None, "high": None,
                            "n_a": a.scores.n_prompts, "n_b": b.scores.n_prompts}
    try:
        found = compare.rank_agreement(a.scores, b.scores, across=across, n_boot=resamples_of(a))
        told |= {"correlation": found.value, "low": found.low, "high": found.high, "heads": found.n_heads,
                 "paired": found.paired}
    except InterpError as undefined:  # too few heads, or no order among them
        told["no_correlation_because"] = undefined.true
    shared = set(a.top(k)) & set(b.top(k))
    n = int(np.isfinite(a.mean).sum())
    return told | {"top_k": k, "shared_top": len(shared), "shared_by_chance": k * k / n if n else None}


def _types(typed: Typed) -> dict[str, Any]:
    if typed.found is None:
        return {"refused": typed.refused, "seconds": typed.seconds}
    table = typed.found.table.drop(columns="roles").to_dict("records")
    return {"seconds": typed.seconds, "asked": dict(typed.found.asked), "heads": table,
            "evidence": typed.found.evidence.to_dict("records")}


def _circuit(circuit: Circuit) -> dict[str, Any]:
    scores = {str(edge): value for edge, value in scores_of(circuit).items()}
    return {
        "name": name_of(circuit),
        "task": circuit.task,
        "citation": circuit.citation,
        "heads": [str(head) for head in circuit.heads()],
        "nodes": [{"node": str(node), "role": circuit.roles.get(node)} for node in circuit.nodes],
        "edges": [{"edge": str(edge), "score": scores.get(str(edge))} for edge in circuit.edges],
        "judged": judged(circuit),
        "provenance": {key: value for key, value in circuit.provenance.items() if key not in ("scores", "judged")},
    }


def _overlaps(circuits: Sequence[Circuit], layers: int, heads: int) -> list[dict[str, Any]]:
    found = overlap_tables(circuits, layers, heads)
    return [{"unit": unit, "n": found[unit][0], "pairs": found[unit][1].to_dict("records"),
             "intersections": found[unit][2].to_dict("records") if unit == "heads" else None}
            for unit in UNITS if unit in found]


def _mean(values: np.ndarray) -> dict[str, Any]:
    low, high = intervals.bootstrap(np.asarray(values, dtype=np.float64))
    return {"value": float(np.mean(values)), "low": float(low), "high": float(high), "n": len(values)}


def _known(value: Any) -> Any:
    """Plain data in which a number that is none is null."""
    if isinstance(value, Mapping):
        return {str(key): _known(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_known(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return plain(value, "report")
