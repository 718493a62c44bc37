"""The pure functions of the widgets' scripts, in node."""

import shutil
import subprocess
from pathlib import Path

import pytest

from interp.views.widgets import sources


def test_the_core_of_the_scripts(tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node on the path; the browser tests run the same functions")
    (tmp_path / "core.mjs").write_text(sources.module("core"), encoding="utf-8")
    shutil.copy(Path(__file__).parent / "widget_core_checks.mjs", tmp_path)
    done = subprocess.run([node, str(tmp_path / "widget_core_checks.mjs")], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
