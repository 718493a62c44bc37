"""Pages of synthetic results."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``three.html`` (three tasks, types, circuits, workbenches), ``hostile.html`` (hostile tokens) and
    ``scores.html`` (scores alone)."""
    import synthetic

    from interp.report import report

    folder = tmp_path_factory.mktemp("pages")
    report(synthetic.findings("ioi", "colored_objects", "induction"), folder / "three.html")
    report([synthetic.result("ioi", tokens=synthetic.HOSTILE, measures=2, n=12, every=True)], folder / "hostile.html")
    report([synthetic.scores("ioi", i, n=12) for i in range(2)], folder / "scores.html")
    return folder
