"""Patching of whole attention patterns, head by head."""

from functools import partial

from benchmarks.harness.result import Benchmark, Findings, against
from benchmarks.harness.shapes import Setting, bridge, model, pairs
from benchmarks.harness.timing import Contender, in_turn
from benchmarks.peers import transformer_lens
from interp.measures import activation_patching

BAR = 6.0
TITLE = "patterns of all heads"


def measure(setting: Setting) -> Findings:
    """Denoising: the pattern of one head from the clean run in the corrupted one, for every head."""
    used, theirs, given = model(setting.shape), bridge(setting.shape), pairs(setting)
    ours = Contender("ours", partial(activation_patching, used, given.batch(used), component="pattern",
                                     direction="denoising"))
    peer = transformer_lens.all_positions(theirs, given, "pattern")
    times = in_turn([ours, peer], setting.repeats)
    effect = times[peer.name].value - transformer_lens.baseline(theirs, given)
    mine = times["ours"].value.mean()
    return Findings((against(TITLE, times["ours"], times[peer.name], BAR, mine, effect),))


BENCHMARK = Benchmark("Patterns by head", measure, minutes=2, place=3)
