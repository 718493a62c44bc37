"""Edge attribution patching of every edge: against TransformerLens, and in units of a forward pass."""

from functools import partial
from typing import Any

import torch

from benchmarks.harness.result import Benchmark, Findings, Row, against, scaled
from benchmarks.harness.shapes import Setting, bridge, model, network, pairs
from benchmarks.harness.timing import Contender, in_turn
from benchmarks.peers import edges, transformer_lens
from interp.engine.edge_attribution import edge_attribution

BAR, FORWARDS, SAME = 100.0, 6.0, 1e-6


def measure(setting: Setting) -> Findings:
    """Every sender into every receiver, denoising; ours on all pairs, TransformerLens on one, both per pair."""
    used, theirs, given = model(setting.shape), bridge(setting.shape), pairs(setting)
    plain = network(setting.shape)
    ours = Contender("ours", partial(edge_attribution, used, given.batch(used), direction="denoising"))
    peer = edges.attribution(theirs, given)
    forward = Contender("one forward pass", partial(_forward, plain, given.corrupt))
    times = in_turn([ours, forward], 2 * setting.repeats - 1)
    times |= {peer.name: in_turn([peer], max(2, setting.repeats - 1))[peer.name]}
    scores = times["ours"].value
    one = scaled(times["ours"], 1 / setting.prompts)
    note = f"{len(scores.edges):,} edges"
    rows = [against("edge attribution, per pair of prompts", one, times[peer.name], BAR, scores.values[:, 0],
                    edges.summed(times[peer.name].value, scores.edges), note, SAME)]
    whole, pass_ = times["ours"], times["one forward pass"]
    rows.append(Row("edge attribution in forward passes", whole.median, "one forward pass", pass_.median,
                    whole.median / pass_.median, FORWARDS, "at most",
                    rounds={"ours": whole.seconds, pass_.name: pass_.seconds}))
    return Findings(tuple(rows))


def _forward(plain: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return plain(ids, use_cache=False).logits


BENCHMARK = Benchmark(f"Edge attribution ({transformer_lens.VERSION}: attribution_patch)", measure, minutes=0.5, place=7)
