"""Notebooks as files: made of text, cleaned, with other parameters, executed.

The first code cell of a notebook is tagged ``parameters`` and holds nothing but names and plain values::

    MODEL = "organism"      # a built-in model, a folder, an id of the Hugging Face Hub
    N = 32

so that the same notebook runs on another model: ``with_parameters(notebook, {"MODEL": "gpt2"})`` puts a cell behind it that
sets the names anew (tagged ``injected-parameters``, as papermill does). Nothing here imports torch.
"""

import ast
import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from interp.core.errors import InterpError
from interp.core.files import write_text
from interp.core.registry import unknown

PARAMETERS, INJECTED = "parameters", "injected-parameters"
METADATA = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"}}
TIMEOUT = 600
"""Seconds that a notebook may take if nobody says otherwise."""

_MARK = re.compile(r"^# %%(?: \[(markdown)\])?(?: (\w+))?$", flags=re.M)


def from_text(text: str) -> dict[str, Any]:
    """A notebook from text in cells: ``# %%`` begins a code cell, ``# %% [markdown]`` one of text (each line behind ``# ``),
    and a word after it is the cell's tag."""
    marks = list(_MARK.finditer(text))
    cells = []
    for i, mark in enumerate(marks):
        stop = marks[i + 1].start() if i + 1 < len(marks) else len(text)
        body = text[mark.end():stop].strip("\n")
        if mark[1]:
            body = "\n".join(line[2:] if line.startswith("# ") else line.removeprefix("#") for line in body.split("\n"))
        cells.append(cell("markdown" if mark[1] else "code", body, f"cell-{i}", tags=[mark[2]] if mark[2] else []))
    return {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}


def cell(kind: str, source: str, name: str, tags: Sequence[str] = ()) -> dict[str, Any]:
    """A cell without outputs; its keys in the order in which they are written."""
    empty: dict[str, Any] = {"execution_count": None, "outputs": []} if kind == "code" else {}
    made = {"cell_type": kind, "id": name, "metadata": {"tags": list(tags)} if tags else {},
            "source": source.splitlines(keepends=True)} | empty
    return dict(sorted(made.items()))


def cleaned(notebook: Mapping[str, Any]) -> dict[str, Any]:
    """The notebook as it is kept: no outputs, no counts, no injected cell; of the metadata the kernel and cells' tags."""
    kept = [one for one in notebook["cells"] if INJECTED not in _tags(one) and _source(one).strip()]
    cells = [cell(one["cell_type"], _source(one), one.get("id", f"cell-{i}"), _tags(one)) for i, one in enumerate(kept)]
    return {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}


def load(path: str | Path) -> dict[str, Any]:
    """Read a notebook."""
    asked = f"read the notebook {path}"
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InterpError(asked, (error.strerror or str(error)).lower(), "check the path") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InterpError(asked, "it is not JSON", "give a file that Jupyter wrote") from error
    if not isinstance(found, dict) or found.get("nbformat") != 4 or not isinstance(found.get("cells"), list):
        raise InterpError(asked, "it is no notebook of format 4", "open it in Jupyter and save it again")
    return found


def save(notebook: Mapping[str, Any], path: str | Path) -> Path:
    """Write a notebook, whole or not at all."""
    return write_text(path, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


def parameters(notebook: Mapping[str, Any]) -> dict[str, Any]:
    """Name -> value of the cell tagged ``parameters``; {} where there is none.

    Raises:
        InterpError: the cell holds anything but assignments of plain values.
    """
    at = _parameter_cell(notebook)
    if at is None:
        return {}
    found = {}
    for line in ast.parse(_source(notebook["cells"][at])).body:
        try:
            if not isinstance(line, ast.Assign) or len(line.targets) != 1 or not isinstance(line.targets[0], ast.Name):
                raise ValueError(line)
            found[line.targets[0].id] = ast.literal_eval(line.value)
        except ValueError as error:
            raise InterpError("read the parameters of a notebook", f"{ast.unparse(line)!r} sets no name to a plain value",
                              "move it to another cell") from error
    return found


def with_parameters(notebook: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The notebook with a cell behind its parameters that sets some of them anew.

    Raises:
        InterpError: a name that is no parameter; a value of another kind than the notebook's own.
    """
    known = parameters(notebook)
    for name, value in given.items():
        if name not in known:
            raise unknown("parameter of the notebook", name, list(known))
        own = known[name]
        if own is not None and value is not None and type(value) is not type(own):
            raise InterpError(f"set {name} to {value!r}", f"it is {own!r} in the notebook, which is of another kind",
                              "give a value like that")
    at = _parameter_cell(notebook)
    cells = [one for one in notebook["cells"] if INJECTED not in _tags(one)]
    if given and at is not None:
        lines = "\n".join(f"{name} = {value!r}" for name, value in given.items())
        cells.insert(at + 1, cell("code", lines, INJECTED, [INJECTED]))
    return {**notebook, "cells": cells}


def value_of(text: str, own: Any) -> Any:
    """A parameter as written in a shell, where the notebook has ``own``: text stays text, all else is read as Python."""
    if isinstance(own, str):
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def execute(notebook: Mapping[str, Any], folder: str | Path = ".", *, timeout: float = TIMEOUT) -> dict[str, Any]:
    """The notebook with its outputs, run from ``folder`` in a kernel of this interpreter.

    Raises:
        InterpError: nbclient is not installed; a cell fails (its last line of error is told) or ``timeout`` seconds pass.
    """
    asked = "run a notebook"
    try:
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError, CellTimeoutError
    except ImportError as error:
        raise InterpError(asked, f"{error.name} is not installed", "install interp[notebook]") from error
    book = nbformat.reads(json.dumps(notebook), as_version=4)
    client = NotebookClient(book, timeout=timeout, kernel_name="python3", extra_arguments=["--log-level=ERROR"],
                            resources={"metadata": {"path": str(folder)}})
    try:
        client.execute()
    except CellTimeoutError as error:
        raise InterpError(asked, f"a cell takes more than {timeout:g} seconds", "ask for fewer prompts, or wait longer"
                          ) from error
    except CellExecutionError as error:
        at, source = next((i, _source(one)) for i, one in enumerate(book.cells) if _failed(one))
        what = f"{error.ename}: {error.evalue}".rstrip(": \n")
        where = textwrap.shorten(source, 60, placeholder=" ...")
        raise InterpError(asked, f"its cell {at + 1} ({where}) fails with {what}", "run it in Jupyter and look there"
                          ) from error
    return json.loads(nbformat.writes(book))


def _failed(one: Mapping[str, Any]) -> bool:
    return any(output.get("output_type") == "error" for output in one.get("outputs", ()))


def _parameter_cell(notebook: Mapping[str, Any]) -> int | None:
    return next((i for i, one in enumerate(notebook["cells"]) if PARAMETERS in _tags(one)), None)


def _tags(one: Mapping[str, Any]) -> list[str]:
    return list(one.get("metadata", {}).get("tags", ()))


def _source(one: Mapping[str, Any]) -> str:
    source = one.get("source", "")
    return source if isinstance(source, str) else "".join(source)
