"""The views where notebooks are open: JupyterLab, marimo, and a page that nbconvert makes of a frozen notebook."""

import json
import textwrap
from pathlib import Path

import numpy as np
import pytest
from attention_examples import patterns
from notebook_hosts import TOKEN, served
from saved_page import DRAWN

from interp.cli import notebooks
from interp.cli.freezing import WIDGET, frozen

pytestmark = pytest.mark.browser

FIRST = """\
import pathlib
import numpy as np
import interp.views as views

tokens = [f" w{i}" for i in range(12)]
state = views.head_state(np.load("patterns.npy"), tokens=tokens, scores={"effect": np.load("effect.npy")})
state.observe(lambda change: pathlib.Path("chosen.txt").write_text(" ".join(map(str, state.selected))), "sel")
"""
GRID, MAP, CHOICE = "views.head_grid(state=state)", "views.attention_map(state=state)", 'state.selected = "L0H2"'
MARIMO = f"""\
import marimo

app = marimo.App()


@app.cell
def _():
{textwrap.indent(FIRST, "    ")}    return state, views


@app.cell
def _(state, views):
    {GRID}


@app.cell
def _(state, views):
    {MAP}
"""
KERNEL = "globalThis.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel"
CELL = {"x": 34 + 2.5 * 64, "y": 20 + 1.5 * 64}
"""The middle of L1H2 in a head grid of three heads a layer."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a notebook of cells that share a state, the same for marimo, and their data."""
    place = tmp_path_factory.mktemp("hosts")
    np.save(place / "patterns.npy", patterns())
    np.save(place / "effect.npy", np.array([[0.1, -2.0, 0.3], [0.0, 0.5, 1.0]]))
    cells = [notebooks.cell("code", source, f"cell-{i}") for i, source in enumerate((FIRST + GRID, MAP, CHOICE))]
    book = {"cells": cells, "metadata": notebooks.METADATA, "nbformat": 4, "nbformat_minor": 5}
    notebooks.save(book, place / "linked.ipynb")
    (place / "linked.py").write_text(MARIMO)
    return place


@pytest.fixture
def tab(chromium):
    """A tab; ``outside`` notes what it asks of anywhere but this machine (which is refused), ``wrong`` what goes wrong."""
    context = chromium.new_context(viewport={"width": 1300, "height": 1500})
    page = context.new_page()
    page.outside, page.wrong = [], []

    def ask(route):
        if route.request.url.startswith("http://127.0.0.1:"):
            route.continue_()
        else:
            page.outside.append(route.request.url)
            route.abort()

    page.route("**/*", ask)
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.set_default_timeout(60_000)
    yield page
    context.close()


def chosen(page, folder: Path, expected: str) -> None:
    """Wait until Python has written that these heads are selected."""
    told = folder / "chosen.txt"
    for _ in range(100):
        if told.exists() and told.read_text() == expected:
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"Python saw {told.read_text() if told.exists() else 'nothing'}, not {expected}")


def test_jupyterlab(tab, folder):
    """Two cells share a state: a click in one shows in the other and in Python, Python's choice shows in both, the host's
    shortcuts stay out, a restarted kernel leaves the drawing, nothing is asked of the network."""
    pytest.importorskip("jupyterlab", reason="needs jupyterlab")
    pytest.importorskip("ipykernel", reason="needs ipykernel")
    words = ["jupyterlab", "--no-browser", "--allow-root", "--port=PORT", "--ServerApp.port_retries=0",
             f"--IdentityProvider.token={TOKEN}", "--expose-app-in-browser",
             "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    (folder / "chosen.txt").unlink(missing_ok=True)
    with served(words, folder, f"/api/status?token={TOKEN}") as address:
        tab.goto(f"{address}/lab/tree/linked.ipynb?token={TOKEN}")
        cells = tab.locator(".jp-Notebook .jp-CodeCell")
        tab.wait_for_function(f"{KERNEL}?.status === 'idle'")
        tab.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells'); }")
        grid, attention = cells.nth(0).locator(".iw"), cells.nth(1).locator(".iw")
        stage = grid.locator(".iw-stage")
        attention.locator("strong", has_text="L0H2").wait_for()
        assert grid.locator("canvas").first.evaluate(DRAWN)
        chosen(tab, folder, "L0H2")

        stage.click(position=CELL)
        attention.locator("strong", has_text="L1H2").wait_for()
        chosen(tab, folder, "L1H2")

        stage.focus()
        for key in ("b", "x", "a", "d", "d", "y", "0", "0", "ArrowUp", "Enter"):
            tab.keyboard.press(key)
        chosen(tab, folder, "L0H2")
        assert cells.count() == 3
        assert tab.locator(".jp-Dialog").count() == 0
        cells.nth(2).locator(".jp-InputPrompt").click()
        tab.keyboard.press("b")
        cells.nth(3).wait_for()

        tab.evaluate(f"{KERNEL}.restart()")
        tab.wait_for_timeout(1500)
        assert grid.locator("canvas").first.evaluate(DRAWN)
        stage.click(position=CELL)
        attention.locator("strong", has_text="L1H2").wait_for()
        assert tab.outside == []
        assert [text for text in tab.wrong if "iw" in text or "anywidget" in text] == []


def test_marimo(tab, folder):
    """The same two views in marimo: drawn, linked, heard by Python."""
    pytest.importorskip("marimo", reason="needs marimo")
    (folder / "chosen.txt").unlink(missing_ok=True)
    words = ["marimo", "run", "linked.py", "--headless", "--no-token", "--port", "PORT"]
    with served(words, folder, "/health") as address:
        tab.goto(address)
        grid, attention = tab.locator(".iw").nth(0), tab.locator(".iw").nth(1)
        attention.locator("strong", has_text="L0H1").wait_for()
        assert grid.locator("canvas").first.evaluate(DRAWN)
        grid.locator(".iw-stage").click(position=CELL)
        attention.locator("strong", has_text="L1H2").wait_for()
        chosen(tab, folder, "L1H2")


def test_a_frozen_notebook_exported_to_html_draws_without_a_network(chromium, folder):
    """Executed, frozen and exported: both views draw and react in a page that may ask for nothing."""
    pytest.importorskip("nbclient", reason="needs nbclient")
    nbconvert = pytest.importorskip("nbconvert", reason="needs nbconvert")
    nbformat = pytest.importorskip("nbformat", reason="needs nbformat")
    done = notebooks.execute(notebooks.load(folder / "linked.ipynb"), folder)
    assert WIDGET in json.dumps(done)
    still, kept, bare = frozen(done)
    assert (kept, bare) == (2, 0)
    assert len(json.dumps(still)) < 1_000_000
    text, _ = nbconvert.HTMLExporter().from_notebook_node(nbformat.reads(json.dumps(still), as_version=4))
    path = folder / "linked.html"
    path.write_text(text)
    context = chromium.new_context(offline=True, accept_downloads=True)
    page = context.new_page()
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(path.as_uri(), wait_until="domcontentloaded")
    grid = page.frame_locator("iframe").nth(0)
    grid.locator(".iw-stage").wait_for()
    assert grid.locator("canvas").first.evaluate(DRAWN)
    grid.locator(".iw-stage").click(position=CELL)
    assert grid.locator(".iw-voice").inner_text().startswith("L1H2; effect 1.00")
    grid.locator("button", has_text="Export").click()
    with page.expect_download() as download:
        grid.locator("[role=menuitem]", has_text="CSV").click()
    assert download.value.path().read_text().splitlines()[6].startswith("L1H2,1,2,1,")
    assert page.frame_locator("iframe").nth(1).locator("strong").inner_text() == "L0H1"
    assert [text for text in wrong if "require" not in text] == []
    context.close()
