"""The scripts of the widgets as one text each: the modules of ``js/`` joined, without a bundler.

In the files they are ordinary ES modules, importable as they are; joined, ``import`` lines are dropped and ``export`` is
taken off, so that the same text is an anywidget's ``_esm`` and a page's script. Top-level names are therefore unique over
the files.
"""

import re
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "js"
PANELS = {"grid": "gridPanel", "map": "mapPanel", "strip": "stripPanel", "workbench": "workbenchPanels"}
SHARED = ("core", "base")


def module(name: str) -> str:
    """One file of ``js/`` as it is."""
    return (FOLDER / f"{name}.js").read_text(encoding="utf-8")


def joined(name: str) -> str:
    """One file without ``import`` and ``export``."""
    text = re.sub(r"^import\b.*?;\n", "", module(name), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^export (?=const|function|async|class|let)", "", text, flags=re.MULTILINE)


@cache
def script(view: str) -> str:
    """The script of a view: its panels and what they share, with the widget as the default export."""
    panels = (*SHARED, *(("grid", "map", "strip", "workbench") if view == "workbench" else (view,)))
    return "".join(map(joined, panels)) + f"export default view({PANELS[view]});\n"


@cache
def style() -> str:
    """The style of all views."""
    return (FOLDER / "widgets.css").read_text(encoding="utf-8")
