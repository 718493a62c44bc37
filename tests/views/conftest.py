"""How tests of the views open saved pages in a browser, and run the widgets' scripts in node."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from interp.views.widgets import sources

SIZE = {"width": 1180, "height": 1000}


@pytest.fixture(scope="module")
def show(offline_tab) -> Iterator[Callable[[Path], Any]]:
    """Open a saved page in the module's one tab, once it is drawn: it asked for itself alone and nothing went wrong."""
    with offline_tab(viewport=SIZE) as page:
        def open_(path: Path) -> Any:
            page.asked.clear()
            page.wrong.clear()
            page.goto(path.as_uri())
            page.wait_for_selector(".iw-voice", state="attached")
            assert page.asked == [path.as_uri()]
            assert page.wrong == []
            return page

        yield open_


@pytest.fixture(scope="module")
def tab(show, folder: Path) -> Callable[[str], Any]:
    """The same by the page's name in the module's ``folder``."""
    return lambda name: show(folder / f"{name}.html")


@pytest.fixture
def blank(offline_tab) -> Iterator[Any]:
    """A tab for one test, with nothing open yet."""
    with offline_tab(viewport=SIZE) as page:
        yield page


@pytest.fixture
def in_node(tmp_path: Path) -> Callable[[str], str]:
    """Run a script in node, beside the widgets' scripts as ``.mjs``; gives what it printed."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node on the path; the browser tests run the same functions")
    for path in sources.FOLDER.glob("*.js"):
        text = path.read_text(encoding="utf-8").replace('.js";', '.mjs";')
        (tmp_path / f"{path.stem}.mjs").write_text(text, encoding="utf-8")

    def run(script: str) -> str:
        (tmp_path / "script.mjs").write_text(script, encoding="utf-8")
        done = subprocess.run([node, str(tmp_path / "script.mjs")], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run
