"""Benchmarks are found by existing: every file in ``benchmarks/`` that defines ``BENCHMARK``."""

from importlib import import_module
from pathlib import Path

from benchmarks.harness.result import Benchmark

FOLDER = Path(__file__).parents[1]
COMMANDS = ("__init__", "__main__", "page")


def benchmarks() -> dict[str, Benchmark]:
    """Name (of the file) -> benchmark, in the order of their places."""
    names = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in COMMANDS)
    found = {name: import_module(f"benchmarks.{name}").BENCHMARK for name in names}
    return dict(sorted(found.items(), key=lambda entry: entry[1].place))
