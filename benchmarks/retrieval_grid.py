"""A cell of the retrieval grid (what each head copies while the model answers) in units of plain generation."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

import interp
from benchmarks.harness.result import Benchmark, Findings, Row, agreement, scaled
from benchmarks.harness.shapes import Setting, network, quicker
from benchmarks.harness.timing import Contender, in_turn
from interp.engine.long_generation import generate_long
from interp.measures import retrieval_score

BAR, NEEDLE = 1.5, 12
LENGTHS, DEPTHS, NEW = (512, 1024, 2048), (0, 50, 100), 50
"""Tokens of the contexts, percent of the needle's depth, generated tokens (as published)."""
GENERATE = "transformers' generate"


def measure(setting: Setting) -> Findings:
    """Greedy generation after random tokens; ours on all cells together, theirs length by length, both per cell."""
    full = setting.shape.layers >= 12
    lengths, new = (LENGTHS, NEW) if full else (tuple(4 * n // 128 * 4 for n in LENGTHS), 8)
    shape = replace(setting.shape, context=max(lengths) + new)
    plain, used = network(shape), interp.load(network(shape))
    batch = grid(used, lengths)
    by_length = [batch.clean.ids[[i for i in range(batch.n) if int(batch.clean.lengths[i]) == n]][:, :n] for n in lengths]
    attention = quicker(plain, by_length[-1])
    what = f"retrieval score, per cell ({len(lengths)} lengths to {max(lengths):,} tokens, {len(DEPTHS)} depths)"
    times = in_turn([Contender("ours", partial(retrieval_score, used, batch, new_tokens=new)),
                     Contender(GENERATE, partial(generate, plain, by_length, new))], setting.repeats)
    said = generate_long(used, batch, new).ids.numpy()
    theirs = np.concatenate([x.numpy() for x in times[GENERATE].value])
    same, words = agreement(said, theirs, 0.0)
    if not same:
        return Findings((Row(what, rival=GENERATE, bar=BAR, sense="at most",
                             note=f"{int((said != theirs).any(1).sum())} of {batch.n} cells say something else: {words}"),))
    ours, peer = (scaled(times[name], 1 / batch.n) for name in ("ours", GENERATE))
    note = f"{attention} attention; {new} new tokens, the same ones in all {batch.n} cells"
    return Findings((Row(what, ours.median, GENERATE, peer.median, ours.median / peer.median, BAR, "at most", note=note,
                         rounds={"ours": ours.seconds, GENERATE: peer.seconds}),))


def grid(used: Any, lengths: tuple[int, ...]) -> Any:
    """A batch of random tokens, a cell for each length and depth, sorted by length; ``needle`` and ``answer`` are marked."""
    generator, cells = torch.Generator().manual_seed(1), [(n, depth) for n in lengths for depth in DEPTHS]
    clean = [torch.randint(used.vocab_size, (n,), generator=generator).tolist() for n, _ in cells]
    other = [[(token + 1) % used.vocab_size for token in row] for row in clean]
    starts = [depth * (n - NEEDLE) // 100 for n, depth in cells]
    spans = {"needle": [(start, start + NEEDLE) for start in starts],
             "answer": [(start + NEEDLE // 2, start + NEEDLE) for start in starts]}
    return interp.tasks.from_tokens(clean, other, 0, 1, positions=spans, model=used)


def generate(plain: Any, by_length: list[Tensor], new: int) -> list[Tensor]:
    """Greedy continuations, prompts of one length in one batch, so that nothing is padded: [prompt, new] for each."""
    with torch.no_grad():
        return [plain.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, min_new_tokens=new,
                               do_sample=False, pad_token_id=0)[:, ids.shape[1]:] for ids in by_length]


BENCHMARK = Benchmark("Retrieval grid", measure, minutes=7.5, place=14)
