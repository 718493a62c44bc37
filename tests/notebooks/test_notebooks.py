"""The notebooks that ship: executed from first cell to last on what the repository has, in one form, and kept clean."""

import ast
import re
from pathlib import Path

import pytest

from interp.cli.notebooks import PARAMETERS, cleaned, execute, load, parameters, save, with_parameters
from interp.core.errors import InterpError

ROOT = Path(__file__).resolve().parent.parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TIMEOUT = 300
MACHINE = re.compile(r"(?<![\w.])/(?:work|home|root|Users|tmp|mnt|opt|var)/|[A-Z]:\\\\")
HEAD = re.compile(r"\bL\d+H\d+\b")

pytest.importorskip("nbclient", reason="needs interp[notebook]")
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def source(cell):
    return "".join(cell["source"])


def codes(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run(notebook):
    return execute(notebook, ROOT / "notebooks", timeout=TIMEOUT)


def test_there_are_some():
    assert NOTEBOOKS


@each
def test_it_runs_to_its_end(path):
    """Every claim of its last cell holds; it warns of nothing, draws something and leaves no file behind."""
    before = sorted(path.parent.iterdir())
    outputs = [output for cell in codes(run(load(path))) for output in cell["outputs"]]
    assert sorted(path.parent.iterdir()) == before
    assert [output["text"] for output in outputs if output.get("name") == "stderr"] == []
    shown = {kind for output in outputs for kind in output.get("data", {})}
    assert "application/vnd.plotly.v1+json" in shown
    assert "text/markdown" in shown


@each
def test_it_is_kept_clean(path, tmp_path):
    """No outputs, counts or metadata but tags; the text that ``save`` writes; no path of a machine."""
    notebook = load(path)
    assert cleaned(notebook) == notebook, f"clean it: python notebooks/clean.py {path.name}"
    assert save(notebook, tmp_path / path.name).read_text() == path.read_text()
    assert MACHINE.findall(path.read_text()) == []
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])


@each
def test_it_has_the_form(path):
    """Question, finding, limit and claims; parameters first, and nothing after them names the model or its heads."""
    notebook = load(path)
    text = "\n".join(source(cell) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    for part in ("**Question.**", "## Finding", "## Limit", "## What this notebook claims"):
        assert part in text, part
    first, *rest = codes(notebook)
    assert first["metadata"] == {"tags": [PARAMETERS]}
    known = parameters(notebook)
    assert {"MODEL", "SEED"} <= set(known)
    model = known["MODEL"]
    for cell in rest:
        code = re.sub(rf"MODEL == ['\"]{model}['\"]", "", source(cell))
        assert not isinstance(model, str) or f'"{model}"' not in code, code
        assert not HEAD.search(code), code
    assert not HEAD.search(text)
    claims = list(ast.walk(ast.parse(source(rest[-1]))))
    assert sum(isinstance(node, ast.Assert) for node in claims) >= 3


def test_a_claim_that_does_not_hold_fails():
    """On a copy of the first notebook: what its first claim needs, and this claim turned round."""
    notebook = with_parameters(load(NOTEBOOKS[0]), {"N": 6})
    *needed, last = [*codes(notebook)[:4], codes(notebook)[-1]]
    claim, turned = "assert clean.mean() > corrupt.mean()", "assert clean.mean() < corrupt.mean()"
    first = source(last).splitlines()[0]
    assert first.startswith(claim)
    run({**notebook, "cells": [*needed, last | {"source": [first]}]})
    with pytest.raises(InterpError, match="AssertionError: the corruption takes nothing away"):
        run({**notebook, "cells": [*needed, last | {"source": [first.replace(claim, turned)]}]})
