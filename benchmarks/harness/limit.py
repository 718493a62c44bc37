"""How near a sweep comes to the least time: the arithmetic that exactness needs over the machine's matrix-product rate."""

import statistics

import torch

from benchmarks.harness.machine import gflops
from benchmarks.harness.result import Row
from benchmarks.harness.shapes import Shape
from benchmarks.harness.timing import Contender, Timing

ROWS = 4096
RATE = "matrix product"


def rate(shape: Shape, dtype: torch.dtype = torch.float32) -> Contender:
    """Measures the rate, in 1e9 operations a second, of a layer's four products on many tokens, weighted as they occur."""
    products = [(shape.width, 3 * shape.width), (shape.width, shape.width), (shape.width, 4 * shape.width),
                (4 * shape.width, shape.width)]

    def run() -> float:
        work = sum(inner * outer for inner, outer in products)
        return work / sum(inner * outer / gflops(ROWS, inner, outer, dtype) for inner, outer in products)

    return Contender(RATE, run)


def limit_row(what: str, ours: Timing, flops: float, rates: Timing, bar: float | None) -> Row:
    """Needed arithmetic at that rate against the time that was taken; the ratio is the part of the limit that is reached."""
    speed = statistics.median(rates.values)
    least = flops / (speed * 1e9)
    note = f"{flops / 1e12:.2f}e12 operations needed; products of [{ROWS}, width] run at {speed:.0f}e9 a second"
    return Row(what, ours.median, "arithmetic at the matrix rate", least, least / ours.median, bar, note=note,
               rounds={"ours": ours.seconds, "1e9 operations a second": rates.values})
