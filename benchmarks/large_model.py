"""A model of 1.5 billion parameters on the processor: all heads, one pair of prompts, bfloat16, in a process of its own."""

import time

import torch

import interp
from benchmarks.harness.alone import STATUS, alone, peak
from benchmarks.harness.result import Benchmark, Findings, Row
from benchmarks.harness.shapes import GPT2_XL, Setting, every_head, network, pairs
from interp.engine import sweep

GIB = 24


def measure(setting: Setting) -> Findings:
    """Time and highest resident memory, weights included, of one sweep over all heads."""
    shape = GPT2_XL if setting.shape.layers >= 12 else setting.shape
    seconds, parameters, highest = alone(_sweep, Setting(shape, 1, setting.length, setting.threads))
    heads = shape.layers * shape.heads
    what = f"all {heads:,} heads, {parameters / 1e9:.2f}e9 parameters, one pair of {setting.length} tokens"
    rows = [Row(what, seconds, note="bfloat16")]
    if STATUS.exists():
        rows.append(Row("its peak memory, weights included", highest / 2**20, "allowed", GIB * 1024.0,
                        highest / 2**30 / GIB, 1.0, "at most", "MiB", note="highest resident memory of its process"))
    return Findings(tuple(rows))


def _sweep(setting: Setting) -> tuple[float, int, int]:
    torch.set_num_threads(setting.threads)
    used, given = interp.load(network(setting.shape, torch.bfloat16)), pairs(setting)
    batch = given.batch(used)
    heads = every_head(setting.shape)
    sweep(used, batch, heads[-1:], on="corrupt")
    with peak() as found:
        start = time.perf_counter()
        sweep(used, batch, heads, on="corrupt")
        seconds = time.perf_counter() - start
    return seconds, sum(p.numel() for p in used.weights.parameters()), found["peak"]


BENCHMARK = Benchmark("1.5 billion parameters on the processor", measure, minutes=4, place=15, apart=True)
