"""``interp run-notebook``: a notebook executed, with other parameters if wished."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from interp.cli.arguments import check_place
from interp.core.errors import InterpError


def run_notebook(
    path: Annotated[Path, typer.Argument(metavar="NOTEBOOK.ipynb", help="A notebook.", show_default=False)],
    values: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="Parameters, as its first cell names them.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The notebook with its outputs.", show_default=False)
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds that a cell may take.")] = 600,
) -> None:
    """Run a notebook from its first cell to its last, its claims included, and save it with its outputs.

    The notebook itself stays as it is. Parameters are those of its first cell.

    Example: `interp run-notebook notebooks/01_first_look.ipynb MODEL=gpt2 N=16 --out first-look.gpt2.ipynb`
    """
    from interp.cli.notebooks import execute, load, parameters, save, value_of, with_parameters

    notebook = load(path)
    known = parameters(notebook)
    given = {}
    for text in values or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise InterpError(f"read {text!r}", "it sets no parameter", "write NAME=VALUE")
        given[name] = value_of(value, known.get(name))
    changed = with_parameters(notebook, given)
    if out is not None:
        if out.exists() and out.samefile(path):
            raise InterpError(f"write {out}", "it is the notebook that is run", "give another --out")
        check_place(out, "file")
    done = execute(changed, path.parent, timeout=timeout)
    said = f"saved: {save(done, out)}" if out is not None else "give --out FILE.ipynb to keep its outputs"
    sys.stdout.write(f"{path} ran to its end, and its claims hold\n{said}\n")
