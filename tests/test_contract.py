"""The house rules that a machine can check: light imports, no torch below the engine, two commands, clean notebooks."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def fastest(code: str, tries: int = 7) -> float:
    """Seconds of the fastest of ``tries`` fresh interpreters running ``code``, less the bare interpreter's."""

    def once(text: str) -> float:
        start = time.perf_counter()
        python(text)
        return time.perf_counter() - start

    return min(once(code) for _ in range(tries)) - min(once("pass") for _ in range(3))


def test_import_is_light():
    assert fastest("import interp") < 0.3


@pytest.mark.parametrize("package", ["interp", "interp.core.scores", "interp.core.compare", "interp.core.circuit",
                                     "interp.core.store", "interp.views.figures", "interp.report", "interp.cli"])
def test_imports_no_torch(package):
    heavy = "('torch', 'transformers', 'transformer_lens')"
    assert python(f"import sys, {package}; print([m for m in {heavy} if m in sys.modules])") == "[]"


def test_import_leaves_no_trace():
    """No seed is set, no default changed by importing the whole package."""
    out = python("import torch; a = torch.initial_seed(), torch.get_num_threads(), torch.is_grad_enabled()\n"
                 "import interp.models.load, interp.measures, interp.tasks, interp.report\n"
                 "print(a == (torch.initial_seed(), torch.get_num_threads(), torch.is_grad_enabled()))")
    assert out == "True"


def test_notebooks_carry_no_outputs(root: Path):
    for path in (root / "notebooks").rglob("*.ipynb"):
        for cell in json.loads(path.read_text())["cells"]:
            assert not cell.get("outputs"), path


def test_no_room_for_odds_and_ends(root: Path):
    names = {p.stem for p in (root / "interp").rglob("*.py")}
    assert not names & {"utils", "helpers", "common", "misc"}


def test_readme_names_the_two_commands(root: Path):
    text = (root / "README.md").read_text()
    makefile = (root / "Makefile").read_text()
    for command in re.findall(r"^make (\w+)", text, flags=re.M):
        assert re.search(rf"^{command}:", makefile, flags=re.M), command
    assert "make report" in text
    assert "make test" in text


def test_no_two_test_files_share_a_name(root: Path):
    """Test folders are no packages, so pytest would import one of them for both."""
    names = [path.name for path in (root / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert len(names) == len(set(names)), sorted({name for name in names if names.count(name) > 1})
