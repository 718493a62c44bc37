"""Exact patching of edges: every sender into every receiver's q, k, v, MLP input and the output, one at a time."""

from functools import partial

import numpy as np

from benchmarks.harness.result import Benchmark, Findings, against
from benchmarks.harness.shapes import Setting, model, network, pairs
from benchmarks.harness.timing import Contender, in_turn
from benchmarks.peers import edges
from interp.engine.edge_attribution import edge_attribution
from interp.engine.edge_patching import edge_patching, layers_to_run

BAR = 50.0
OURS, THEIRS = 600, 25
"""About how many edges are patched, evenly spaced among those into the two layers; theirs are among ours."""
DEPTHS = (0.4, 0.75)
TITLE = "all {:,} edges, exact (projected)"


def measure(setting: Setting) -> Findings:
    """Denoising, all pairs; both on edges into two layers, projected to every edge by the layers that each recomputes.

    Into two layers, because a sweep has a cost of its own (its untouched runs), which thousands of edges into a layer share
    and a few into every layer would not.
    """
    used, given, plain = model(setting.shape), pairs(setting), network(setting.shape)
    batch = given.batch(used)
    graph = edge_attribution(used, batch.subset([0]), direction="denoising").edges
    layers = sorted({int(depth * setting.shape.layers) for depth in DEPTHS})
    into = np.flatnonzero(np.isin(graph.receivers.layer[graph.receiver], layers))
    ours = into[:: max(1, len(into) // OURS)]
    theirs = ours[:: max(1, len(ours) // THEIRS)]
    work = layers_to_run(graph)
    mine = Contender("ours", partial(edge_patching, used, batch, ours, direction="denoising"),
                     times=float(work.sum() / work[ours].sum()))
    peer = edges.loop(plain, given, graph.names(theirs), len(graph))
    times = in_turn([mine, peer], setting.repeats)
    found = times["ours"].value
    effect = times[peer.name].value.numpy() - found.baselines["corrupt"].mean()
    rate = len(graph) / times["ours"].median
    where = " and ".join(str(layer) for layer in layers)
    note = f"ours: {len(ours)} into layers {where} measured, {rate:.0f} edges a second on {setting.prompts} pairs"
    return Findings((against(TITLE.format(len(graph)), times["ours"], times[peer.name], BAR,
                             found.mean()[theirs], effect, note),))


BENCHMARK = Benchmark("Exact patching of edges", measure, minutes=2, place=8)
