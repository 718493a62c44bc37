"""How the time of a sweep grows with heads, layers, positions, prompts and width."""

from dataclasses import replace
from functools import partial

import numpy as np

import interp
from benchmarks.harness.arithmetic import sweep_flops
from benchmarks.harness.result import Benchmark, Findings, Row
from benchmarks.harness.shapes import Setting, Shape, every_head, network, pairs
from benchmarks.harness.timing import Contender, in_turn
from interp.engine import sweep

BASE = Setting(shape=Shape(6, 8, 512, 1000), prompts=4, length=16)
STEPS = (0.5, 1, 2, 4)


def measure(setting: Setting) -> Findings:
    """All heads, all positions, one number doubled at a time; the exponent is the slope of log time over log size."""
    base = replace(BASE, threads=setting.threads, repeats=setting.repeats)
    if setting.shape.width < BASE.shape.width:
        base = replace(base, shape=Shape(2, 4, 64, 200), length=8)
    data, rows = {}, []
    for name in ("heads", "layers", "positions", "prompts", "width"):
        sizes, seconds, flops = [], [], []
        for step in STEPS:
            size, varied = _vary(base, name, step)
            timing = in_turn([_sweep(varied)], setting.repeats)["ours"]
            sizes.append(size)
            seconds.append(timing.median)
            flops.append(sweep_flops(varied))
        exponent, counted = _slope(sizes, seconds), _slope(sizes, flops)
        data[name] = {"sizes": sizes, "seconds": seconds, "flops": flops, "exponent": exponent, "counted": counted}
        rows.append(Row(f"time against {name} ({sizes[0]} to {sizes[-1]})", seconds[-1], "at the smallest", seconds[0],
                        exponent, note=f"the ratio is the fitted exponent; the needed arithmetic grows with {counted:.2f}"))
    return Findings(tuple(rows), data)


def _vary(base: Setting, name: str, step: float) -> tuple[int, Setting]:
    field = {"positions": "length", "prompts": "prompts"}.get(name)
    if field:
        size = int(getattr(base, field) * step)
        return size, replace(base, **{field: size})
    size = int(getattr(base.shape, name) * step)
    return size, replace(base, shape=replace(base.shape, **{name: size}))


def _sweep(setting: Setting) -> Contender:
    used, given = interp.load(network(setting.shape), verify=False), pairs(setting)
    return Contender("ours", partial(sweep, used, given.batch(used), every_head(setting.shape), on="corrupt"))


def _slope(sizes: list[int], values: list[float]) -> float:
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


BENCHMARK = Benchmark("Growth", measure, minutes=2, place=11)
