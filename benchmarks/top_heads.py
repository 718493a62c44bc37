"""All of it together: the 20 most important (head, position) pairs, certified, against TransformerLens' full sweep."""

from dataclasses import replace
from functools import partial

from benchmarks.certified_precision import TOP, WEIGHTS, order, spent
from benchmarks.harness.result import Benchmark, Findings, Row, versus
from benchmarks.harness.shapes import Setting, bridge, model, pairs
from benchmarks.harness.timing import Contender, in_turn
from benchmarks.peers import transformer_lens
from interp.measures import activation_patching

BAR, CONFIDENCE, PARTS = 100.0, 0.95, 5


def measure(setting: Setting) -> Findings:
    """Denoising; on plain random weights, where heads are alike, and on uneven ones; checked against the exact sweep."""
    return Findings(tuple(_row(replace(setting, shape=replace(setting.shape, uneven=uneven)), words)
                          for uneven, words in WEIGHTS.items()))


def _row(setting: Setting, words: str) -> Row:
    used, given = model(setting.shape), pairs(setting)
    batch = given.batch(used)
    ask = partial(activation_patching, used, batch, direction="denoising", positions="each")
    ours = Contender("ours", partial(ask, top=TOP, confidence=CONFIDENCE))
    peer = transformer_lens.by_position(bridge(setting.shape), given, "out", setting.shape.layers // 2,
                                        list(range(PARTS // 2, setting.length, PARTS)))
    times = in_turn([ours, peer], setting.repeats)
    right = order(ask())
    found = times["ours"].value
    what = f"top {TOP} (head, position) pairs, {words}"
    if order(found) != right:
        missed = len(set(right) - set(order(found)))
        return Row(what, rival=peer.name, bar=BAR, note=f"not the top {TOP} of the exact sweep: {missed} missed")
    note = f"the top {TOP} of the exact float32 sweep, same order"
    return versus(what, times["ours"], times[peer.name], BAR, "; ".join(x for x in (note, spent(found)) if x))


BENCHMARK = Benchmark("All of it together", measure, minutes=6, place=9)
