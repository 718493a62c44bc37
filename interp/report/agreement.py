"""How far measures agree with each other on one task, and which heads tasks share."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from interp.core import compare
from interp.core.errors import InterpError
from interp.report.panels import Panel
from interp.report.results import TaskResult
from interp.views import colours, labels

MANY = 256
"""Above this many heads, intervals of rank correlations rest on fewer resamples."""


def consensus(drawn: Sequence[Panel], k: int, types: Mapping[str, str]) -> dict[str, Any]:
    """Heads in the top ``k`` of more than half of the measures, and the largest head of the first measure.

    ``types``: head -> what it is.
    """
    counted = votes(drawn, k)
    first = drawn[0]
    place = first.order[0] if first.order else None
    fraction = None if place is None or first.fraction is None else first.fraction[place]
    return {
        "measures": len(drawn),
        "agreed": [
            {"head": head, "votes": count, "type": types.get(head, "").replace(" (", ", ").rstrip(")")}
            for head, count in counted.most_common()
            if count > len(drawn) / 2 and len(drawn) > 1
        ],
        "first": None
        if place is None
        else {
            "measure": first.label[:1].lower() + first.label[1:],
            "head": first.names[place[0]][place[1]],
            "mean": labels.number(float(first.mean[place])),
            "interval": labels.interval(float(first.low[place]), float(first.high[place])),
            "fraction": "" if fraction is None else labels.percent(float(fraction)),
            "passes": bool(first.significant[place]) or not np.isfinite(first.q[place]),
        },
    }


def agreement(drawn: Sequence[Panel], k: int) -> dict[str, Any] | None:
    """The square of measures: Spearman below the diagonal, shared top heads above; None where there are fewer than two."""
    alike = [panel for panel in drawn if panel.names == drawn[0].names]
    if len(alike) < 2:
        return None
    rows = []
    for i, one in enumerate(alike):
        cells = []
        for j, other in enumerate(alike):
            if i == j:
                cells.append({"text": "", "small": "", "style": "self"})
            elif j < i:
                cells.append(_correlation(one, other))
            else:
                cells.append({"text": f"{_shared(one, other, k)} of {k}", "small": "", "style": "up"})
        rows.append({"label": one.label, "cells": cells})
    heads = int(np.isfinite(alike[0].mean).sum())
    return {
        "columns": [panel.label for panel in alike],
        "rows": rows,
        "k": k,
        "heads": heads,
        "chance": labels.number(k * k / heads, 2),
        "line": _line(heads, k),
    }


def _correlation(one: Panel, other: Panel) -> dict[str, str]:
    """A cell below the diagonal; measures may be of different metrics, as only ranks are compared."""
    try:
        found = compare.rank_agreement(one.scores, other.scores, across=("metric",), n_boot=resamples_of(one))
    except InterpError as undefined:  # too few heads, or no order among them: said in place of a number
        return {"text": "–", "small": undefined.true, "style": "self"}
    return {
        "text": labels.fixed(found.value, 2),
        "small": labels.interval(found.low, found.high, 2),
        "style": colours.level(found.value, 1.0),
    }


def shared_heads(prepared: Sequence[tuple[TaskResult, tuple[Panel, ...]]]) -> dict[str, Any] | None:
    """Which heads are in the top by at least two measures (or the only one), task by task; None for a single task."""
    if len(prepared) < 2:
        return None
    k = max(1, min(5, int(np.isfinite(prepared[0][1][0].mean).sum()) // 4))
    counted = [votes(drawn, k) for _, drawn in prepared]
    least = [min(2, len(drawn)) for _, drawn in prepared]
    names = [name for row in prepared[0][1][0].names for name in row]
    rows = []
    for name in names:
        counts = [vote[name] for vote in counted]
        tasks = sum(count >= need for count, need in zip(counts, least, strict=True))
        if tasks:
            cells = [
                {"votes": count, "measures": len(drawn), "radius": 11 * np.sqrt(count / len(drawn))}
                for count, (_, drawn) in zip(counts, prepared, strict=True)
            ]
            rows.append({"head": name, "cells": cells, "tasks": tasks, "total": sum(counts)})
    rows.sort(key=lambda row: (-row["tasks"], -row["total"]))
    pairs = [(i, j) for i in range(len(prepared)) for j in range(i + 1, len(prepared))]
    alike = []
    for panel in prepared[0][1]:
        matched = [
            next((p for p in drawn if p.label == panel.label and p.names == panel.names), None) for _, drawn in prepared
        ]
        if all(matched):
            alike.append({"label": panel.label, "cells": [_pair(matched[i], matched[j], k) for i, j in pairs]})
    heads = len(names)
    return {
        "k": k,
        "tasks": [result.name for result, _ in prepared],
        "rows": rows,
        "alike": alike,
        "chance": labels.number(k * k / heads, 2),
        "pairs": [f"{prepared[i][0].name} / {prepared[j][0].name}" for i, j in pairs] if alike else [],
    }


def _pair(one: Panel, other: Panel, k: int) -> dict[str, Any]:
    try:
        found = compare.rank_agreement(one.scores, other.scores, across=("task", "metric"), n_boot=resamples_of(one))
    except InterpError as undefined:  # too few heads, or no order among them: said in place of a number
        return {"rho": "–", "interval": undefined.true, "overlap": _shared(one, other, k)}
    return {
        "rho": labels.fixed(found.value, 2),
        "interval": labels.interval(found.low, found.high, 2),
        "overlap": _shared(one, other, k),
    }


def votes(drawn: Sequence[Panel], k: int) -> Counter[str]:
    """By how many measures each head is among the top ``k``."""
    return Counter(panel.names[i][j] for panel in drawn for i, j in panel.top(k))


def _shared(one: Panel, other: Panel, k: int) -> int:
    return len(set(one.top(k)) & set(other.top(k)))


def _line(heads: int, k: int) -> int:
    """The smallest overlap of two random choices of ``k`` among ``heads`` that is reached in fewer than 5 % of cases."""
    return next((count for count in range(1, k + 1) if stats.hypergeom.sf(count - 1, heads, k, k) < 0.05), k)


def resamples_of(panel: Panel) -> int:
    """Of a rank correlation."""
    return 1000 if panel.mean.size <= MANY else 200
