"""A page from saved results, and the results from a model and tasks.

    results = interp.report.build(model, [interp.tasks.ioi], n=64, seed=0)
    interp.report.report(results, "ioi.html")

``report`` draws results (also saved ones, also ``HeadScores`` alone) without torch; ``build`` computes them.
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from interp.core.files import write_text
from interp.core.scores import HeadScores
from interp.report.results import TaskResult, by_task, load, save

__all__ = ["TaskResult", "build", "load", "report", "save"]


def report(results: Sequence[TaskResult] | Sequence[HeadScores], path: str | Path, *, title: str | None = None) -> Path:
    """Write one self-contained HTML file, at most 2 MB, from results: no model is run and torch is not imported.

    Args:
        results: what ``build`` or ``load`` returned, or ``HeadScores`` alone (answers and attention patterns are
            then not known and left out).
        path: the file; written whole or not at all.
        title: heading; None: named after the model.

    Raises:
        InterpError: no results, scores of two models, a page that would be too large, a disk that refuses.
    """
    from interp.report.page import page

    alone = [one for one in results if isinstance(one, HeadScores)]
    if alone and len(alone) != len(results):
        raise TypeError("give HeadScores or task results, not both")
    return write_text(
        path, page(by_task(alone) if alone else [one for one in results if isinstance(one, TaskResult)], title)
    )


def __getattr__(name: str) -> Any:
    if name == "build":  # loads torch
        return import_module("interp.report.compute").build
    raise AttributeError(f"module 'interp.report' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
