"""A thousand circuits evaluated on one batch, in units of plain forward passes of as many prompts."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import interp
from benchmarks.harness.result import Benchmark, Findings, Row, agreement
from benchmarks.harness.shapes import Setting, quicker
from benchmarks.harness.timing import Contender, in_turn
from interp.core.circuit import Circuit
from interp.discovery import edges_of, mask_of, random_like
from interp.engine.edge_circuits import open_masks

BAR = 2.0
CIRCUIT = Path(__file__).parents[1] / "circuits" / "organism" / "ioi.json"
CIRCUITS, PART, PROMPTS, TOGETHER = 1000, 100, 6, 50
"""Circuits; of the other rows; prompts that each is evaluated on; circuits in a pass."""
PASSES = "plain forward passes"


def measure(setting: Setting) -> Findings:
    """Random circuits with as many edges of each kind and layers as the shipped one of indirect objects, what is left
    without them, and random halves of all edges; the peer runs as many prompts through the untouched network."""
    quick = setting.shape.layers < 12
    used = interp.load("organism", verify=False)
    batch = interp.tasks.ioi.batch(used, 2 if quick else PROMPTS, 5)
    count, graph = (PART if quick else CIRCUITS), edges_of(used)
    masks = random_like(graph, mask_of(graph, Circuit.load(CIRCUIT)), count)
    rest, halves = ~masks[:PART], np.random.default_rng(0).random((PART, len(graph))) < 0.5
    plain = interp.load("organism", verify=False).backend.network      # its own: the attention is chosen for it below
    given = {name: x.repeat(TOGETHER, *[1] * (x.dim() - 1)) for name, x in batch.clean.inputs.items()}
    attention = quicker(plain, given["input_ids"])
    run = open_masks(used, batch, memory=2**40)      # all that it is given in one pass
    whole = run(np.ones((1, len(graph)), dtype=bool))[0]
    with torch.no_grad():
        last = plain(**batch.clean.inputs, use_cache=False).logits[torch.arange(batch.n), batch.clean.last]
    same, words = agreement(whole, batch.metric(last, batch))
    length = batch.clean.ids.shape[1]
    shared = int((batch.clean.ids != batch.corrupt.ids).any(0).nonzero()[0])
    rows = []
    for what, some, bar in ((f"{count:,} circuits of {int(masks[0].sum())} edges of {len(graph):,}", masks, BAR),
                            (f"what is left without {PART} of them", rest, BAR),
                            (f"{PART} random halves of all edges", halves, None)):
        if not same:
            rows.append(Row(what, rival=PASSES, bar=bar, sense="at most", note=words))
            continue
        passes = Contender(PASSES, partial(_passes, plain, given, len(some) // TOGETHER))
        times = in_turn([Contender("ours", partial(_together, run, some)), passes], setting.repeats)
        ours, peer = times["ours"], times[PASSES]
        note = (f"{batch.n} prompts each, the first {shared} of {length} tokens the same in both runs; {TOGETHER} circuits "
                f"in a pass; with all edges: {words}; {attention} attention")
        rows.append(Row(what, ours.median, PASSES, peer.median, ours.median / peer.median, bar, "at most", note=note,
                        rounds={"ours": ours.seconds, PASSES: peer.seconds}))
    return Findings(tuple(rows))


def _together(run: Any, masks: np.ndarray) -> np.ndarray:
    return np.concatenate([run(some) for some in np.split(masks, len(masks) // TOGETHER)])


def _passes(plain: Any, given: dict[str, torch.Tensor], count: int) -> None:
    with torch.no_grad():
        for _ in range(count):
            plain(**given, use_cache=False)


BENCHMARK = Benchmark("A thousand circuits", measure, minutes=1, place=17)
