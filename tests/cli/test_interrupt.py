"""Ctrl-C in the middle of a report: it stops at once, says so without a stack, and leaves nothing half-written."""

import signal
import subprocess
import sys


def test_a_report_that_is_interrupted_leaves_nothing(tmp_path):
    out = tmp_path / "pages" / "organism.html"
    asked = ["report", "--model", "organism", "--task", "colored_objects", "-n", "64", "--out", str(out)]
    command = [sys.executable, "-c", "from interp.cli import main; main()", *asked]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        said = ""
        while "ablation zero" not in said:
            line = running.stderr.readline()
            assert line, said
            said += line
        running.send_signal(signal.SIGINT)
        said += running.stderr.read()
        running.wait(60)
    assert running.returncode not in (0, 2)
    assert "Traceback" not in said
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
