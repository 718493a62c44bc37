"""Peak memory of a sweep against the budget it was given."""

import time
from dataclasses import replace

import torch

import interp
from benchmarks.harness.alone import STATUS, alone, peak
from benchmarks.harness.result import Benchmark, Findings, Row
from benchmarks.harness.shapes import Setting, every_head, network, pairs
from interp.engine import sweep
from interp.engine.running import Running

MIB = 2**20
BUDGETS = (128, 256, 512, 1024)
PROMPTS = 32


def measure(setting: Setting) -> Findings:
    """One layer's heads on many prompts, so that every budget is filled; resident memory above that of the loaded model."""
    if not STATUS.exists():
        return Findings((Row("peak memory", bar=1.0, sense="at most", note="measured on Linux only"),))
    rows = []
    for budget in BUDGETS:
        used, seconds = alone(_used, replace(setting, prompts=PROMPTS), budget * MIB)
        rows.append(Row("peak of a sweep", used / MIB, "its budget", budget, used / MIB / budget, 1.0, "at most", "MiB",
                        note=f"resident memory above the loaded model's; {seconds:.1f} s",
                        rounds={"bytes": (used,)}))
    return Findings(tuple(rows))


def _used(setting: Setting, budget: int) -> tuple[int, float]:
    torch.set_num_threads(setting.threads)
    used, given = interp.load(network(setting.shape)), pairs(setting)
    batch = given.batch(used)
    layer = setting.shape.layers // 2
    heads = every_head(setting.shape)[layer * setting.shape.heads:][:setting.shape.heads]
    sweep(used, batch.subset([0]), heads[:1], on="corrupt", running=Running(memory=budget))
    with peak() as found:
        start = time.perf_counter()
        sweep(used, batch, heads, on="corrupt", running=Running(memory=budget))
        seconds = time.perf_counter() - start
    return found["peak"] - found["before"], seconds


BENCHMARK = Benchmark("Memory", measure, minutes=1, place=12)
