"""``interp freeze``: an executed notebook whose views draw without a kernel, without a network, and after export to HTML."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.cli.arguments import check_place
from interp.cli.notebooks import load, save
from interp.core.errors import InterpError

WIDGET = "application/vnd.jupyter.widget-view+json"
STILL = ("text/html", "image/svg+xml", "image/png")
"""What draws by itself, the best first."""


def freeze(
    notebook: Annotated[
        Path, typer.Argument(metavar="NOTEBOOK.ipynb", help="A notebook with its outputs.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The frozen notebook.  [default: NOTEBOOK.frozen.ipynb]", show_default=False),
    ] = None,
    in_place: Annotated[bool, typer.Option("--in-place", help="Overwrite the notebook itself.")] = False,
) -> None:
    """Make the views of an executed notebook draw anywhere: kernel gone, offline, exported to HTML.

    Of each output that is a widget the picture beside it is kept (for the views of interp the view itself, in a frame, still
    interactive) and the reference to the kernel's widget dropped, with the widgets' state that the notebook holds.

    Example: `interp freeze analysis.ipynb && jupyter nbconvert --to html analysis.frozen.ipynb`
    """
    place = notebook if in_place else out or notebook.with_suffix(".frozen.ipynb")
    asked = f"freeze {notebook}"
    if in_place and out is not None:
        raise InterpError(asked, "both --out and --in-place were given", "give one of them")
    if not in_place and place.resolve() == notebook.resolve():
        raise InterpError(asked, "--out is the notebook itself", "give another name, or --in-place")
    book = load(notebook)
    check_place(place, "file")
    if not all(isinstance(cell, dict) and isinstance(cell.get("outputs", []), list) for cell in book["cells"]):
        raise InterpError(asked, "one of its cells is none", "open it in Jupyter and save it again")
    if not any(cell.get("outputs") for cell in book["cells"]):
        raise InterpError(asked, "it has no outputs", "run it first, in Jupyter or by jupyter execute --inplace")
    still, kept, bare = frozen(book)
    save(still, place)
    rest = f", {bare} other widgets that draw only with a kernel are text now" if bare else ""
    sys.stdout.write(f"{place}: {kept} views drawn without a kernel{rest}\n")


def frozen(notebook: Mapping[str, Any]) -> tuple[dict[str, Any], int, int]:
    """The notebook without references to widgets and without their state; how many of them kept a picture; how many did not.

    Nothing else changes: other outputs, sources, counts and metadata are the same.
    """
    kept = bare = 0
    cells = []
    for cell in notebook["cells"]:
        outputs = []
        for output in cell.get("outputs", ()):
            data = output.get("data")
            if isinstance(data, dict) and WIDGET in data:
                rest = {kind: value for kind, value in data.items() if kind != WIDGET}
                drawn = any(kind in rest for kind in STILL)
                kept, bare = kept + drawn, bare + (not drawn)
                metadata = {kind: value for kind, value in output.get("metadata", {}).items() if kind != WIDGET}
                output = {**output, "data": rest or {"text/plain": "a widget, not drawn without its kernel"},
                          "metadata": metadata}
            outputs.append(output)
        cells.append({**cell, "outputs": outputs} if "outputs" in cell else cell)
    metadata = {name: value for name, value in notebook.get("metadata", {}).items() if name != "widgets"}
    return {**notebook, "cells": cells, "metadata": metadata}, kept, bare
