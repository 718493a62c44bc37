"""The pure functions of the graphs' script, in node."""

import shutil
import subprocess
from pathlib import Path

import pytest

from interp.views.widgets import sources


def test_the_graphs_of_the_scripts(tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node on the path; the browser tests run the same functions")
    for path in sources.FOLDER.glob("*.js"):
        text = path.read_text(encoding="utf-8").replace('.js";', '.mjs";')
        (tmp_path / f"{path.stem}.mjs").write_text(text, encoding="utf-8")
    shutil.copy(Path(__file__).parent / "graph_checks.mjs", tmp_path)
    done = subprocess.run([node, str(tmp_path / "graph_checks.mjs")], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
