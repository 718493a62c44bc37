"""A page from saved results, and the results from a model and tasks.

``report(results, path)`` draws saved results without torch; ``build(model, tasks, ...)`` computes them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from interp.core.files import write_text
from interp.core.scores import HeadScores


def report(results: Sequence[Any], path: str | Path, *, title: str | None = None) -> Path:
    """Write one self-contained HTML file, at most 2 MB, from saved results: no model is run and torch is not imported.

    Args:
        results: what ``build`` or ``interp.report.results.load`` returned, or ``HeadScores`` alone (answers and attention
            patterns are then not known and left out).
        path: the file; written whole or not at all.
        title: heading; None: named after the model.

    Raises:
        InterpError: no results, scores of two models, a page that would be too large, a disk that refuses.
    """
    from interp.report.page import page
    from interp.report.results import by_task

    alone = [one for one in results if isinstance(one, HeadScores)]
    if alone and len(alone) != len(results):
        raise TypeError("give HeadScores or task results, not both")
    return write_text(path, page(by_task(alone) if alone else results, title))


def build(*args: Any, **options: Any) -> Any:
    """Compute the results of a model on tasks: see ``interp.report.build.build``."""
    from interp.report.compute import build as compute

    return compute(*args, **options)
