"""Patching of queries, keys and values of every head at every position."""

from dataclasses import replace

from benchmarks.by_position import race
from benchmarks.harness.result import Benchmark, Findings
from benchmarks.harness.shapes import Setting

PARTS = 5
"""TransformerLens is measured on a fifth of the positions of a layer: each costs it the same."""


def measure(setting: Setting) -> Findings:
    """Denoising, prompts that differ from the first token on; heads that do not attend to all tokens alike."""
    setting = replace(setting, shape=replace(setting.shape, sharp=True))
    return Findings(tuple(row for what in ("q", "k", "v") for row in race(setting, what, 0, PARTS, limit=False)))


BENCHMARK = Benchmark("q, k and v by position", measure, minutes=9.5, place=4)
