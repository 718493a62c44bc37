"""The page: findings become one self-contained HTML text. Every section is a small dictionary for the template."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from interp.core import intervals
from interp.core.errors import InterpError
from interp.core.scores import HeadScores
from interp.report import circuits, shown
from interp.report.agreement import agreement, consensus, shared_heads, votes
from interp.report.caveats import MASTERED, caveats
from interp.report.embedded import packed, workbench
from interp.report.overlaps import overlaps
from interp.report.panels import Panel, panels
from interp.report.ranking import alike, ranked
from interp.report.records import records
from interp.report.results import Findings, TaskResult, gathered
from interp.report.shares import share, top_k
from interp.report.typed import types_section
from interp.views import colours, labels
from interp.views.svg.heatmap import colour_bar, head_heatmap, vote_grid

Detail = tuple[bool, int | None, int]
Prepared = Sequence[tuple[TaskResult, tuple[Panel, ...]]]

LARGEST = 2_000_000
"""Bytes that a page may have."""
DETAIL = ((True, None, 200), (False, None, 60), (False, 2, 40), (False, 0, 40))
"""What is drawn, tried in turn until the page fits: whether every cell of a grid carries its numbers (or significant ones
only), attention patterns of each task (None: all), heads in each table. The saved scores hold everything."""
MANY = 256
"""Above this many heads the first of these is not tried."""
EASY = 1_000_000
"""Bytes that a page has unless even the least detail takes more."""
ROOM = 120_000
"""Bytes of these that are for workbenches, which a page can be read without; they take what else is left, too."""
BENCHES = ((None, 4_000_000), (1, 4_000_000), (1, 400_000), (1, 50_000))
"""Workbenches, tried in turn until they fit: on how many prompts of each task (None: all that are kept), and bytes of
patterns in full, before compression, in each; the strongest heads come first."""
BENCHES_HERE = "<!-- workbenches -->"


def prepare(findings: Findings) -> Prepared:
    """What page, record and table are made of: the panels of each task."""
    return [(result, panels(result.scores)) for result in findings.tasks]


def default_title(findings: Findings) -> str:
    """``Attention heads of gpt2``."""
    return f"Attention heads of {findings.tasks[0].scores[0].provenance.model.get('name')}"


def page(results: Findings | Sequence[TaskResult] | Sequence[HeadScores], title: str | None = None,
         prepared: Prepared | None = None) -> str:
    """The report of these results as HTML text of at most ``LARGEST`` bytes.

    A page of more than ``EASY`` bytes is drawn with less, as ``DETAIL`` says; what is left of these is for workbenches.
    """
    findings = gathered(results)
    prepared = prepare(findings) if prepared is None else prepared
    agreed = [agreement(drawn, top_k(drawn)) for _, drawn in prepared]
    shared = shared_heads(prepared)
    size = 0
    details = DETAIL if prepared[0][1][0].mean.size <= MANY else DETAIL[1:]
    for number, detail in enumerate(details, start=1):
        text = _render(findings, prepared, agreed, shared, title or default_title(findings), detail)
        size = len(text.encode())
        if size <= EASY - ROOM or (number == len(details) and size <= LARGEST):
            return text.replace(BENCHES_HERE, _benches(prepared, EASY - size), 1)
    raise InterpError(
        "write a report",
        f"it would be {size / 1e6:.1f} MB, more than {LARGEST / 1e6:.0f} MB",
        "report fewer measures or tasks on one page",
    )


def _benches(prepared: Prepared, room: int) -> str:
    """The packed workbenches of all tasks, in at most ``room`` bytes; none where not even small ones fit."""
    if not any(result.every_head for result, _ in prepared):
        return ""
    for prompts, largest in BENCHES if room > 0 else ():
        made = [(f"task-{index}", every.prompt + 1, workbench(every, drawn, result.name, largest))
                for index, (result, drawn) in enumerate(prepared) for every in result.every_head[:prompts]]
        shared, own = packed([document for *_, document in made])
        texts = [f'<script type="text/plain" id="benches">{shared}</script>'] + [
            f'<script type="text/plain" data-bench="{anchor}" data-prompt="{prompt}">{text}</script>'
            for (anchor, prompt, _), text in zip(made, own, strict=True)
        ]
        if sum(map(len, texts)) <= room:
            return "\n".join(texts)
    return ""


def _render(findings: Findings, prepared: Prepared, agreed: Sequence[Any], shared: Any, title: str, detail: Detail) -> str:
    environment = Environment(
        loader=PackageLoader("interp.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": labels.number, "percent": labels.percent, "token": labels.token}
    first = prepared[0][1][0]
    tasks = [
        _task(findings, result, drawn, index, detail) | {"agreement": agreed[index]}
        for index, (result, drawn) in enumerate(prepared)
    ]
    source = environment.loader
    assert source is not None
    return environment.get_template("report.html.j2").render(
        title=title,
        model=prepared[0][0].scores[0].provenance.model,
        tasks=tasks,
        shared=shared,
        overlaps=overlaps(findings.circuits, *first.mean.shape),
        types=None if findings.types is None else types_section(findings.types, first.mean.shape, detail[2]),
        caveats=caveats(prepared, findings),
        provenance=records(prepared),
        style=source.get_source(environment, "report.css")[0],
        script=source.get_source(environment, "report.js")[0],
        light=colours.stylesheet(),
        dark=colours.stylesheet(dark=True),
        benches=BENCHES_HERE,
        written=date.today().isoformat(),
        shape=_shape(first),
    )


def _task(findings: Findings, result: TaskResult, drawn: tuple[Panel, ...], index: int, detail: Detail) -> dict[str, Any]:
    labelled, patterns, rows = detail
    first, k = drawn[0].scores, top_k(drawn)
    examples = result.examples if patterns is None else result.examples[:patterns]
    own = findings.of_task(result.name)
    types = findings.types.by_head if findings.types else {}
    agreed = consensus(drawn, k, types)
    return {
        "name": result.name,
        "anchor": f"task-{index}",
        "description": result.description,
        "source": result.source,
        "n": first.n_prompts,
        "unit": drawn[0].unit,
        "accuracy": share(result.correct),
        "beats_wrong": share(result.beats_wrong),
        "metrics": [_baseline(first.baselines[name]) for name in ("clean", "corrupt") if name in first.baselines],
        "gap": None if first.normalizer is None else _baseline(first.normalizer),
        "mastered": result.correct is None or result.correct.mean() >= MASTERED,
        "panels": [_figure(panel, labelled) for panel in drawn],
        "k": k,
        "ranked": ranked(drawn, rows, types, circuits.membership(own), len(own)),
        "consensus": agreed,
        "votes": _votes(drawn, k, result.name),
        "shown": [shown.pair(one) for one in result.shown],
        "patterns": [shown.pattern(example, f"{index}-{i}") for i, example in enumerate(examples)],
        "prompts_kept": len(result.every_head),
        "circuits": [circuits.section(one, drawn[0], first.provenance.task, f"circuit-{index}-{i}")
                     for i, one in enumerate(own)],
        "inside": [sum(head["head"] in circuits.membership([one]) for head in agreed["agreed"]) for one in own],
    }


def _votes(drawn: Sequence[Panel], k: int, name: str) -> str:
    """The task's grid of the overview: by how many measures each head is among the top ``k``."""
    names = drawn[0].names
    counted = votes(alike(drawn), k)
    grid = np.array([[counted[head] for head in row] for row in names], dtype=float)
    return vote_grid(grid, len(alike(drawn)), names=names, title=f"{name}: measures that have the head in their top {k}")


def _shape(panel: Panel) -> str:
    layers, heads = panel.mean.shape
    return f"{labels.plural(layers, 'layer')} of {labels.plural(heads, 'head')}"


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
