"""How much of the machine's matrix-product rate a sweep turns into answers."""

from functools import partial

from benchmarks.harness.arithmetic import sweep_flops
from benchmarks.harness.limit import RATE, limit_row, rate
from benchmarks.harness.result import Benchmark, Findings
from benchmarks.harness.shapes import Setting, every_head, model, pairs
from benchmarks.harness.timing import Contender, in_turn
from interp.engine import sweep

BAR = 0.7


def measure(setting: Setting) -> Findings:
    """The sweep over all heads, all positions, denoising, in turn with products of the same shapes."""
    used, given = model(setting.shape), pairs(setting)
    ours = Contender("ours", partial(sweep, used, given.batch(used), every_head(setting.shape), on="corrupt"))
    times = in_turn([ours, rate(setting.shape)], 2 * setting.repeats - 1)
    return Findings((limit_row("sweep over all heads", times["ours"], sweep_flops(setting), times[RATE], BAR),))


BENCHMARK = Benchmark("Distance to the limit", measure, minutes=1, place=5)
