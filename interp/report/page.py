"""The page: results become one self-contained HTML text. Every section is a small dictionary for the template."""

import json
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from interp.core import intervals
from interp.core.errors import InterpError
from interp.report.agreement import agreement, consensus, shared_heads
from interp.report.caveats import MASTERED, caveats
from interp.report.panels import Panel, panels
from interp.report.records import records
from interp.report.results import Example, Shown, TaskResult
from interp.views import colours, labels
from interp.views.svg.heatmap import colour_bar, head_heatmap, vote_grid
from interp.views.svg.pattern import attention_pattern, colour_limit, pool, sink_mass, token_strip
from interp.views.svg.whisker import whisker

Detail = tuple[bool, int | None, int]
Prepared = Sequence[tuple[TaskResult, tuple[Panel, ...]]]

LARGEST = 2_000_000
"""Bytes that a page may have."""
DETAIL = ((True, None, 200), (False, None, 60), (False, 2, 40), (False, 0, 40))
"""What is drawn, tried in turn until the page fits: whether every cell of a grid carries its numbers (or significant ones
only), attention patterns of each task (None: all), heads in each ranked table. The saved scores hold everything."""


def page(results: Sequence[TaskResult], title: str | None = None) -> str:
    """The report of these results as HTML text of at most ``LARGEST`` bytes.

    A page that would be larger is drawn with less, as ``DETAIL`` says.
    """
    if not results:
        raise InterpError("write a report", "there are no results", "give the scores of at least one task")
    prepared = [(result, panels(result.scores)) for result in results]
    agreed = [agreement(drawn, top_k(drawn)) for _, drawn in prepared]
    shared = shared_heads(prepared)
    size = 0
    for detail in DETAIL:
        text = _render(prepared, agreed, shared, title, detail)
        size = len(text.encode())
        if size <= LARGEST:
            return text
    raise InterpError(
        "write a report",
        f"it would be {size / 1e6:.1f} MB, more than {LARGEST / 1e6:.0f} MB",
        "report fewer measures or tasks on one page",
    )


def _render(prepared: Prepared, agreed: Sequence[Any], shared: Any, title: str | None, detail: Detail) -> str:
    environment = Environment(
        loader=PackageLoader("interp.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": labels.number, "percent": labels.percent, "token": labels.token}
    model = prepared[0][0].scores[0].provenance.model
    tasks = [
        _task(result, drawn, index, detail) | {"agreement": agreed[index]} for index, (result, drawn) in enumerate(prepared)
    ]
    source = environment.loader
    assert source is not None
    style = source.get_source(environment, "report.css")[0]
    script = source.get_source(environment, "report.js")[0]
    return environment.get_template("report.html.j2").render(
        title=title or f"Attention heads of {model.get('name')}",
        model=model,
        tasks=tasks,
        shared=shared,
        caveats=caveats(prepared),
        provenance=records(prepared),
        style=style,
        script=script,
        light=colours.stylesheet(),
        dark=colours.stylesheet(dark=True),
        written=date.today().isoformat(),
        shape=_shape(prepared[0][1][0]),
    )


def _task(result: TaskResult, drawn: tuple[Panel, ...], index: int, detail: Detail) -> dict[str, Any]:
    labelled, patterns, rows = detail
    first = drawn[0].scores
    k = top_k(drawn)
    examples = result.examples if patterns is None else result.examples[:patterns]
    return {
        "name": result.name,
        "anchor": f"task-{index}",
        "description": result.description,
        "source": result.source,
        "n": first.n_prompts,
        "unit": drawn[0].unit,
        "accuracy": _share(result.correct),
        "beats_wrong": _share(result.beats_wrong),
        "metrics": [_baseline(first.baselines[name]) for name in ("clean", "corrupt") if name in first.baselines],
        "gap": None if first.normalizer is None else _baseline(first.normalizer),
        "mastered": result.correct is None or result.correct.mean() >= MASTERED,
        "panels": [_figure(panel, labelled) for panel in drawn],
        "k": k,
        "ranked": _ranked(drawn, rows),
        "consensus": consensus(drawn, k),
        "votes": _votes(drawn, k, result.name),
        "shown": [_shown(one) for one in result.shown],
        "patterns": [_pattern(example, index, i, result.shown) for i, example in enumerate(examples)],
    }


def _votes(drawn: Sequence[Panel], k: int, name: str) -> str:
    """The task's grid of the overview: by how many measures each head is among the top ``k``."""
    alike = [panel for panel in drawn if panel.names == drawn[0].names]
    votes = np.zeros(drawn[0].mean.shape)
    for panel in alike:
        for head in panel.top(k):
            votes[head] += 1
    return vote_grid(votes, len(alike), names=drawn[0].names, title=f"{name}: measures that have the head in their top {k}")


def top_k(drawn: Sequence[Panel]) -> int:
    """How many heads count as the top: five, or fewer where the model has few heads."""
    return max(1, min(5, int(np.isfinite(drawn[0].mean).sum()) // 4))


def _shape(panel: Panel) -> str:
    layers, heads = panel.mean.shape
    return f"{labels.plural(layers, 'layer')} of {labels.plural(heads, 'head')}"


def _share(flags: np.ndarray | None) -> dict[str, Any] | None:
    """A share of prompts with its Wilson interval."""
    if flags is None:
        return None
    from scipy.stats import binomtest

    ends = binomtest(int(flags.sum()), flags.size).proportion_ci(0.95, method="wilson")
    return {"share": float(flags.mean()), "low": ends.low, "high": ends.high, "count": int(flags.sum()), "n": flags.size}


def _baseline(values: np.ndarray) -> dict[str, str]:
    """A metric's mean over prompts with its bootstrap interval."""
    low, high = intervals.bootstrap(np.asarray(values, dtype=np.float64))
    places = min(2, labels.decimals(max(abs(float(values.mean())), 0.1)))
    return {"mean": labels.fixed(float(values.mean()), places), "interval": labels.interval(float(low), float(high), places)}


def _figure(panel: Panel, labelled: bool) -> dict[str, Any]:
    largest = colours.limit(panel.mean)
    return {
        "label": panel.label,
        "significant": int(panel.significant.sum()),
        "heads": int(np.isfinite(panel.mean).sum()),
        "unit": panel.unit,
        "signed": panel.signed,
        "svg": head_heatmap(
            panel.mean,
            panel.low,
            panel.high,
            panel.q,
            panel.significant,
            names=panel.names,
            title=f"{panel.label}: one cell a head, rows are layers",
            unit=panel.unit,
            labelled=labelled,
        ),
        "bar": colour_bar(largest, panel.unit, signed=panel.signed),
    }


def _ranked(drawn: Sequence[Panel], most: int) -> dict[str, Any]:
    """One row per head, by its mean rank over the measures; one column per measure. Measures of other units than the first
    (key-value heads beside heads) have no cell in it."""
    shape = drawn[0].names
    alike = [panel for panel in drawn if panel.names == shape]
    ranks = (
        np.nanmean(np.stack([np.where(np.isfinite(p.ranks()), p.ranks(), np.nan) for p in alike]), axis=0)
        if alike
        else np.array([])
    )
    ends = [
        (float(np.nanmin([np.nanmin(p.mean), _least(p.low)])), float(np.nanmax([np.nanmax(p.mean), _most(p.high)])))
        for p in alike
    ]
    order = sorted(
        (ranks[i, j], i, j) for i in range(ranks.shape[0]) for j in range(ranks.shape[1]) if np.isfinite(ranks[i, j])
    )
    places = [labels.decimals(colours.limit(panel.mean)) for panel in alike]
    rows = []
    for rank, i, j in order[:most]:
        cells = []
        for panel, scale, digits in zip(alike, ends, places, strict=True):
            value, low, high = float(panel.mean[i, j]), float(panel.low[i, j]), float(panel.high[i, j])
            cells.append(
                {
                    "value": value,
                    "text": labels.fixed(value, digits),
                    "interval": labels.interval(low, high, digits),
                    "significant": bool(panel.significant[i, j]),
                    "fraction": "" if panel.fraction is None else labels.percent(float(panel.fraction[i, j])),
                    "whisker": whisker(value, low, high, scale),
                }
            )
        rows.append({"head": shape[i][j], "order": i * len(shape[0]) + j, "rank": float(rank), "cells": cells})
    return {
        "columns": [panel.label for panel in alike],
        "rows": rows,
        "left_out": len(order) - len(rows),
        "elsewhere": [panel.label for panel in drawn if panel.names != shape],
    }


def _least(values: np.ndarray) -> float:
    return float(np.nanmin(values)) if np.isfinite(values).any() else float("nan")


def _most(values: np.ndarray) -> float:
    return float(np.nanmax(values)) if np.isfinite(values).any() else float("nan")


def _shown(one: Shown) -> dict[str, Any]:
    return {
        "clean": _tokens(one.clean, one.corrupt, one.spans),
        "corrupt": _tokens(one.corrupt, one.clean, one.spans),
        "answer": one.answer,
        "wrong": one.wrong,
        "said": one.said,
        "clean_metric": labels.number(one.clean_metric),
        "corrupt_metric": labels.number(one.corrupt_metric),
    }


def _tokens(tokens: Sequence[str], other: Sequence[str], spans: Mapping[str, tuple[int, int]]) -> list[dict[str, Any]]:
    """Tokens with the name of the position they start, and whether the other prompt has another token there."""
    starts = {start: name for name, (start, _) in spans.items()}
    inside = {index for start, stop in spans.values() for index in range(start, stop)}
    aligned = len(tokens) == len(other)
    return [
        {
            "text": labels.token(text),
            "span": starts.get(index, ""),
            "inside": index in inside,
            "differs": aligned and text != other[index],
            "line": "\n" in text,
        }
        for index, text in enumerate(tokens)
    ]


def _pattern(example: Example, task: int, index: int, shown: Sequence[Shown]) -> dict[str, Any]:
    pattern, visible = example.pattern, example.visible
    last = len(example.queries) - 1
    row = np.where(visible[last], pattern[last], -1.0)
    best = [int(i) for i in np.argsort(-row, kind="stable")[:4] if row[i] > 0.0005]
    reads = ", ".join(
        f"{labels.token(example.keys[i], 16)}{labels.subscript(i)} {labels.weight(float(row[i]))}" for i in best
    )
    sink, rest = sink_mass(pattern, visible), float((1 - np.where(visible, pattern, 0).sum(1)).mean())
    title = f"Attention of {example.head} on prompt {example.prompt + 1}; the last token attends to {reads}"
    return {
        "head": str(example.head),
        "prompt": example.prompt + 1,
        "reads": reads,
        "last": labels.token(example.queries[last], 16),
        "sink": labels.weight(sink) if np.isfinite(sink) else "–",
        "limit": labels.weight(colour_limit(pattern, visible)),
        "rest": labels.weight(rest) if rest > 0.005 else "",
        "block": pool(pattern, visible).block,
        "svg": attention_pattern(
            pattern, visible, example.queries, example.keys, title=title, identifier=f"{task}-{index}", spans=example.spans
        ),
        "strip": token_strip(np.where(visible[last], pattern[last], 0.0), example.keys, query=len(example.keys) - 1),
        "query_tokens": json.dumps([labels.token(t) for t in example.queries]),
        "key_tokens": "" if example.keys == example.queries else json.dumps([labels.token(t) for t in example.keys]),
    }
