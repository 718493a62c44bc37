"""Ctrl-C in the middle of a report: it stops at once, says so without a stack, and leaves nothing half-written."""

import signal
import subprocess
import sys

WAITING = """
import signal, sys, time
from interp.cli import main
from interp.engine.passes import Passes

run, units = Passes.run, []

def in_the_middle(self, unit):
    units.append(unit)
    if len(units) == 3:
        print("in the middle of a sweep", file=sys.stderr, flush=True)
        time.sleep(60)
    return run(self, unit)

Passes.run = in_the_middle
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""
"""The command line, which waits in its third unit of work: the interruption cannot come too late. It listens even where the
tests were started in the background, whose children ignore interruptions."""


def test_a_report_that_is_interrupted_leaves_nothing(tmp_path):
    out = tmp_path / "pages" / "organism.html"
    asked = ["report", "--model", "organism", "--task", "colored_objects", "-n", "8", "--out", str(out)]
    command = [sys.executable, "-c", WAITING, *asked]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        said = ""
        while "in the middle of a sweep" not in said:
            line = running.stderr.readline()
            assert line, said
            said += line
        running.send_signal(signal.SIGINT)
        said += running.stderr.read()
        running.wait(300)
    assert running.returncode not in (0, 2)
    assert "Traceback" not in said
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
