"""Exact patching of edges: every sender into every receiver's q, k, v, MLP input and the output, one at a time."""

from functools import partial

import numpy as np

from benchmarks.harness.result import Benchmark, Findings, against
from benchmarks.harness.shapes import Setting, model, network, pairs
from benchmarks.harness.timing import Contender, in_turn
from benchmarks.peers import edges
from interp.engine.edge_attribution import edge_attribution
from interp.engine.edge_patching import edge_patching

BAR = 50.0
OURS, THEIRS = 300, 25
"""About how many edges are patched, evenly spaced in the order of receivers and senders; theirs are among ours."""


def measure(setting: Setting) -> Findings:
    """Denoising, all pairs; both on a sample, projected to every edge of the shape."""
    used, given, plain = model(setting.shape), pairs(setting), network(setting.shape)
    batch = given.batch(used)
    graph = edge_attribution(used, batch.subset([0]), direction="denoising").edges
    ours = np.arange(0, len(graph), max(1, len(graph) // OURS))
    theirs = ours[:: max(1, len(ours) // THEIRS)]
    mine = Contender("ours", partial(edge_patching, used, batch, ours, direction="denoising"), times=len(graph) / len(ours))
    peer = edges.loop(plain, given, graph.names(theirs), len(graph))
    times = in_turn([mine, peer], setting.repeats)
    found = times["ours"].value
    effect = times[peer.name].value.numpy() - found.baselines["corrupt"].mean()
    rate = len(graph) / times["ours"].median
    note = f"ours: {len(ours)} measured, {rate:.0f} edges a second on {setting.prompts} pairs"
    return Findings((against(f"all {len(graph):,} edges, exact (projected)", times["ours"], times[peer.name], BAR,
                             found.mean()[theirs], effect, note),))


BENCHMARK = Benchmark("Exact patching of edges", measure, minutes=2, place=8)
