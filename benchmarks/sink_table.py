"""The table of all statistics of attention sinks of a long text, in units of a plain forward pass."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

import interp
from benchmarks.harness.result import Benchmark, Findings, Row, agreement
from benchmarks.harness.shapes import Setting, network, quicker
from benchmarks.harness.timing import Contender, in_turn
from interp.measures.sink_table import sink_table

BAR, LENGTH, SHORT = 3.0, 4096, 256
"""Most forward passes; tokens of the text, and of its beginning on which the numbers are compared."""
FORWARDS = {"plain forward pass": {}, "plain forward pass, last position's logits": {"logits_to_keep": 1}}


def measure(setting: Setting) -> Findings:
    """One text of random tokens, against the transformers model with its faster attention and without a cache."""
    length = LENGTH if setting.shape.layers >= 12 else 8 * setting.length
    shape = replace(setting.shape, context=length)
    plain, used = network(shape), interp.load(network(shape))
    ids = torch.randint(shape.vocabulary, (1, length), generator=torch.Generator().manual_seed(1))
    what = f"sink table of {length:,} tokens, {shape.layers} layers of {shape.heads} heads"
    short = ids[:, :SHORT]
    mine = sink_table(used, _texts(used, short), horizon=None)
    same, said = agreement(mine[["first_weight", "sink_free"]].to_numpy(), by_whole_patterns(plain, short))
    if not same:
        return Findings((Row(what, rival="whole patterns", bar=BAR, sense="at most", note=said),))
    attention = quicker(plain, ids)
    times = in_turn([Contender("ours", partial(sink_table, used, _texts(used, ids), horizon=None)),
                     *(Contender(name, partial(_forward, plain, ids, keep)) for name, keep in FORWARDS.items())],
                    setting.repeats)
    ours = times["ours"]
    note = f"{attention} attention; {said} on the first {short.shape[1]} tokens"
    return Findings(tuple(Row(what, ours.median, name, times[name].median, ours.median / times[name].median, BAR, "at most",
                              note=note, rounds={"ours": ours.seconds, name: times[name].seconds}) for name in FORWARDS))


def by_whole_patterns(plain: Any, ids: Tensor) -> np.ndarray:
    """Mean weight on the first token, and share of attention on the others, of eager attention's own patterns: [head, 2]."""
    plain.set_attn_implementation("eager")
    with torch.no_grad():
        patterns = torch.cat(plain(ids, use_cache=False, output_attentions=True).attentions).double()
    first = patterns[..., 0].mean(dim=-1)
    others = patterns[..., 1:, 1:].sum(dim=(-2, -1)) / (ids.shape[1] - 1)
    return torch.stack([first.flatten(), others.flatten()], dim=-1).numpy()


def _texts(used: Any, ids: Tensor) -> Any:
    return interp.tasks.from_texts(used, ids)


def _forward(plain: Any, ids: Tensor, keep: dict[str, int]) -> None:
    with torch.no_grad():
        plain(ids, use_cache=False, **keep)


BENCHMARK = Benchmark("Sink table of a long text", measure, minutes=4, place=13)
