"""A page from saved results, and the results from a model and tasks.

    found = interp.report.build(model, [interp.tasks.ioi], n=64, seed=0)
    interp.report.report(found, "ioi.html")
    interp.report.write(found, json="ioi.json", csv="ioi.csv")

``report`` and ``write`` draw findings (also saved ones, also ``HeadScores`` alone) without torch; ``build`` computes them.
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from interp.core.errors import InterpError
from interp.core.files import write_text
from interp.core.scores import HeadScores
from interp.report.folder import load, save
from interp.report.results import Findings, TaskResult, by_task, gathered, with_circuits

__all__ = ["Findings", "TaskResult", "add_circuits", "build", "by_task", "load", "report", "save", "write"]

Results = Findings | Sequence[TaskResult] | Sequence[HeadScores]


def report(results: Results, path: str | Path, *, title: str | None = None) -> Path:
    """Write one self-contained HTML file, at most 2 MB, from results: no model is run and torch is not imported.

    Args:
        results: what ``build`` or ``load`` returned, or ``HeadScores`` alone (answers and attention patterns are
            then not known and left out).
        path: the file; written whole or not at all.
        title: heading; None: named after the model.

    Raises:
        InterpError: no results, scores of two models, a page that would be too large, a disk that refuses.
    """
    return write(results, html=path, title=title)[0]


def write(results: Results, *, html: str | Path | None = None, json: str | Path | None = None, csv: str | Path | None = None,
          title: str | None = None) -> list[Path]:
    """Write a report as a page, as data (``docs/report.md`` has the schema), as one tidy table, or several of these.

    All hold the same numbers. Returns the files in this order; each is written whole or not at all.
    """
    from interp.report.as_json import to_json
    from interp.report.as_table import tidy
    from interp.report.page import default_title, page, prepare

    if html is json is csv is None:
        raise InterpError("write a report", "no place for it was given", "give html, json or csv")
    findings = gathered(results)
    prepared = prepare(findings)
    texts: list[tuple[str | Path, str]] = []
    if html is not None:
        texts.append((html, page(findings, title, prepared)))
    if json is not None:
        texts.append((json, to_json(findings, prepared, title or default_title(findings))))
    if csv is not None:
        texts.append((csv, tidy(findings, prepared).to_csv(index=False, lineterminator="\n")))
    return [write_text(path, text) for path, text in texts]


def add_circuits(findings: Findings, circuits: Sequence[Any]) -> Findings:
    """Findings with further circuits, each checked to be of the model and of a task of these findings; those of a task that
    are there already give way."""
    from interp.report.circuits import check_fit

    first = findings.tasks[0].scores[0]
    for circuit in circuits:
        check_fit(circuit, first.provenance.model, [task.name for task in findings.tasks], (first.n_layers, first.n_heads))
    return with_circuits(findings, circuits)


def __getattr__(name: str) -> Any:
    if name == "build":  # loads torch
        return import_module("interp.report.compute").build
    raise AttributeError(f"module 'interp.report' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
