"""Pages of synthetic results, and a Chromium to open them in."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="session")
def chromium() -> Iterator[object]:
    """A browser; skipped with its reason where there is none."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium on the path")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with sync_api.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``three.html`` (three tasks), ``hostile.html`` (hostile tokens) and ``scores.html`` (scores alone)."""
    import synthetic

    from interp.report import report

    folder = tmp_path_factory.mktemp("pages")
    report([synthetic.result(name, n=24) for name in ("ioi", "colored_objects", "induction")], folder / "three.html")
    report([synthetic.result("ioi", tokens=synthetic.HOSTILE, measures=2, n=12)], folder / "hostile.html")
    report([synthetic.scores("ioi", i, n=12) for i in range(2)], folder / "scores.html")
    return folder
