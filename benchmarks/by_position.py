"""Activation patching of every head at every position, on prompts that differ from the first or the sixth token on."""

from functools import partial

from benchmarks.harness.arithmetic import sweep_flops
from benchmarks.harness.limit import RATE, limit_row, rate
from benchmarks.harness.result import Benchmark, Findings, Row, against
from benchmarks.harness.shapes import Setting, bridge, model, pairs
from benchmarks.harness.timing import Contender, in_turn
from benchmarks.peers import transformer_lens
from interp.measures import activation_patching

BAR = 12.0
FIRST = {0: "first", 5: "sixth"}


def measure(setting: Setting) -> Findings:
    """Denoising: z of one head at one position from the clean run in the corrupted one; TransformerLens on one layer."""
    rows: list[Row] = []
    for first in FIRST:
        rows += race(setting, "z", first)
    return Findings(tuple(rows))


def title(what: str, first: int) -> str:
    """The name of a row."""
    return f"{what}: all heads by position, prompts differing from the {FIRST[first]} token on"


def race(setting: Setting, what: str, first: int, parts: int = 1, *, limit: bool = True) -> list[Row]:
    """Our whole sweep by position against a layer of TransformerLens' (a ``parts``-th of its positions), and the limit."""
    used, theirs, given = model(setting.shape), bridge(setting.shape), pairs(setting, first)
    layer, positions = setting.shape.layers // 2, range(parts // 2, setting.length, parts)
    ours = Contender("ours", partial(activation_patching, used, given.batch(used), component=what, direction="denoising",
                                     positions="each"), warm=False)
    peer = transformer_lens.by_position(theirs, given, {"z": "out"}.get(what, what), layer, list(positions))
    times = in_turn([ours, peer, *([rate(setting.shape)] if limit else [])], max(2, setting.repeats - 1))
    effect = times[peer.name].value - transformer_lens.baseline(theirs, given)
    mine = times["ours"].value.mean()[layer][:, list(positions)].T
    rows = [against(title(what, first), times["ours"], times[peer.name], BAR, mine, effect)]
    if limit:
        flops = sweep_flops(setting, what, first, by_position=True)
        rows.append(limit_row(f"{title(what, first)}: part of the limit", times["ours"], flops, times[RATE], None))
    return rows


BENCHMARK = Benchmark("All heads by position", measure, minutes=8, place=2)
