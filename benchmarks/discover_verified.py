"""``interp discover --method verified`` on the organism, as it is typed: from the process's start to the saved circuit."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.harness.result import Benchmark, Findings, Row
from benchmarks.harness.shapes import Setting

BAR = 120.0
TASK = "ioi"
COMMAND = "import sys; from interp.cli import main; sys.argv[0] = 'interp'; main()"


def measure(setting: Setting) -> Findings:
    """The whole command with its defaults; quick: four prompts and a small share of edges checked."""
    return Findings((_row(setting, ["-n", "4", "--method-share", "0.002"] if setting.shape.layers < 12 else []),))


def _row(setting: Setting, more: list[str]) -> Row:
    what = f"discover --method verified, {TASK}"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "circuit.json"
        words = ["discover", "--model", "organism", "--task", TASK, "--method", "verified", "--out", str(out), *more]
        threads = {name: str(setting.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", COMMAND, *words], env=os.environ | threads, capture_output=True,
                              text=True, check=False)
        seconds = time.perf_counter() - start
        if done.returncode or not out.is_file():
            return Row(what, bar=BAR, sense="at most", note=f"the command failed: {done.stderr.strip()[-200:]}")
        made = json.loads(out.read_text())
    checked = next((line for line in done.stdout.splitlines() if "exactly" in line), "nothing was checked")
    note = f"the ratio is its seconds; {made['provenance']['task']['n']} prompts, {len(made['edges'])} edges kept; {checked}"
    return Row(what, seconds, ratio=seconds, bar=BAR, sense="at most", note=note, rounds={"ours": (seconds,)})


BENCHMARK = Benchmark("Discovery, verified", measure, minutes=0.5, place=18)
