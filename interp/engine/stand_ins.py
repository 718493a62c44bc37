"""What stands in for senders outside of a circuit, and the streams that stand-ins alone make: computed once for a batch."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.core.registry import unknown
from interp.engine.edge_runs import OUTPUT, Graph, Key
from interp.engine.edges import RECEIVERS, SENDERS
from interp.engine.forward import answer_logits
from interp.engine.prompts import Prompts, side, sides
from interp.engine.streaming import blockwise
from interp.models.norm_projection import project
from interp.models.readers import Reader, reading
from interp.models.sites import Site
from interp.models.verify import tolerance

Ablation = Literal["resample", "zero", "mean", "mean_position"]
ABLATIONS: tuple[str, ...] = get_args(Ablation)
HEAD = SENDERS.index("head")
PROBED = 8
"""Logits by which passes that go on from a prefix are compared with whole ones."""


@dataclass(frozen=True, eq=False)
class Ground:
    """What masked runs of some prompts stand on.

    Attributes:
        prompts: the side that is run.
        there: the stand-in of each sender, [n, position, d_model] each.
        streams: reading point -> the stream of stand-ins alone, [n, position, d_model].
        sums: layer -> the sum over its heads of stand-ins before a post-norm; empty without post-norms.
        projections: (q, k or v, layer) -> for each of its receivers, a residual stream read through the norm.
        read: (q, k, v or mlp, layer) -> what is read of stand-ins alone: [n, position, head, d], [n, position, d_model].
        first: position before which all stand-ins are what is written anyway. Stand-ins and streams begin there.
        prefix: the key-value cache of the positions before ``first``, from which passes go on; None where they begin at the
            prompt's first token.
        kept: memory that passes use one after another.
    """

    prompts: Prompts
    there: tuple[Tensor, ...]
    streams: dict[Key, Tensor] = field(repr=False)
    sums: dict[int, Tensor] = field(repr=False)
    projections: dict[tuple[str, int], list[Callable[[Tensor], Tensor]]] = field(repr=False)
    read: dict[tuple[str, int], Tensor] = field(repr=False)
    first: int = 0
    prefix: Any = field(default=None, repr=False)
    kept: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @property
    def bytes_of_prefix(self) -> int:
        """What the cache takes of one mask: once as it is, once joined with the keys and values of a pass."""
        if self.prefix is None:
            return 0
        return 2 * sum(x.numel() * x.element_size() for layer in self.prefix.layers for x in (layer.keys, layer.values))

    def room(self, count: int, what: str = "changes") -> Tensor:
        """Memory for so many streams, [count, size]: the same for every pass, as fresh memory takes its time."""
        if what not in self.kept or len(self.kept[what]) < count:
            self.kept[what] = self.there[0].new_empty(count, self.there[0].numel())
        return self.kept[what][:count]

    @property
    def offset(self) -> int:
        """``first``, counted from the first position of a pass."""
        return self.first if self.prefix is None else 0

    def passed(self, count: int) -> tuple[Prompts, Any]:
        """The prompts of a pass of ``count`` masks, all prompts in turn, and the cache that it goes on from (or None)."""
        rows = torch.arange(self.prompts.n, device=self.prompts.mask.device).repeat(count)
        prompts = self.prompts.take(rows)
        if self.prefix is None:
            return prompts, None
        cache = deepcopy(self.prefix)
        cache.batch_select_indices(rows)
        return _rest(prompts, self.first), cache


def _rest(prompts: Prompts, first: int) -> Prompts:
    """Prompts from a position on, as a pass takes them that has the earlier ones in its cache."""
    inputs = {"input_ids": prompts.inputs["input_ids"][:, first:], "attention_mask": prompts.mask.long()}
    return replace(prompts, inputs=inputs, answer=prompts.answer - first)


@torch.no_grad()
def _prefix(graph: Graph, prompts: Prompts, first: int) -> Any:
    """The cache of the tokens before ``first``; None where passes cannot go on from it, which is tried."""
    model = graph.model
    if not first or not blockwise(model, model.stacks[0], prompts.inputs) or bool((prompts.answer < first).any()):
        return None
    begin = {"input_ids": prompts.inputs["input_ids"][:, :first], "attention_mask": prompts.mask.long()[:, :first]}
    rest = _rest(prompts, first)
    reading = nullcontext() if isinstance(model.resuming, str) else model.resuming.reading(
        torch.arange(min(PROBED, model.vocab_size)))
    try:
        with reading:
            cache = model.run(begin, use_cache=True).cache
            whole = answer_logits(model.run(prompts.inputs), prompts)
            again = answer_logits(model.run(rest.inputs, cache=deepcopy(cache), use_cache=True), rest)
    except InterpError:      # a prompt whose tokens all come later looks like one padded on the wrong side
        return None
    size = tolerance(whole.dtype) * float(whole.abs().max())
    fits = hasattr(cache, "batch_select_indices") and bool(((again - whole).abs() <= size).all())
    return cache if fits else None


def ground_of(graph: Graph, batch: Any, ablation: str = "resample", on: str = "clean") -> Ground:
    """The stand-ins of every sender under an ablation, and the streams that they make."""
    if ablation not in ABLATIONS:
        raise unknown("ablation", str(ablation), list(ABLATIONS))
    runs = sides(graph.model, batch)
    prompts = side(runs, on)
    if ablation in ("resample", "mean_position") and not prompts.aligned:
        raise InterpError(f"ablate edges by {ablation}", "clean and corrupted prompts have different lengths or places",
                          "use ablation='mean' or 'zero', or aligned prompts")
    other = side(runs, "corrupt" if on == "clean" else "clean") if ablation == "resample" else prompts
    parts, streams, sums = _written(graph, other)
    if ablation != "resample":
        new = tuple(_stand_in(part, prompts.mask, ablation) for part in parts)
        moved = {layer: sums[layer] + sum(new[i] - parts[i] for i in heads_of(graph, layer)) for layer in sums}
        for key in streams:
            before = graph_before(graph, key)
            for i in range(before):
                layer = int(graph.edges.senders.layer[i])
                if graph.edges.senders.kind[i] != HEAD or layer not in sums:
                    streams[key] = streams[key] + new[i] - parts[i]
            for layer in sums:
                if heads_of(graph, layer)[0] < before:
                    norm = graph.readers.attn_norms[layer]
                    streams[key] = streams[key] + norm.forward(moved[layer]) - norm.forward(sums[layer])
        parts, sums = new, moved
    first = _first_change(graph, prompts, other)
    parts, (streams, sums) = tuple(part[:, first:] for part in parts), (
        {key: x[:, first:] for key, x in some.items()} for some in (streams, sums))
    projections = _projections(graph)
    return Ground(prompts, parts, streams, sums, projections, _read(graph, streams, projections), first,
                  _prefix(graph, prompts, first))


def graph_before(graph: Graph, key: Key) -> int:
    """How many senders stand before a reading point."""
    what, layer = key
    kind = {"attention": RECEIVERS.index("q"), "mlp": RECEIVERS.index("mlp"), "output": RECEIVERS.index("output")}[what]
    receivers = graph.edges.receivers
    return int(graph.edges.before[np.flatnonzero((receivers.kind == kind) & (receivers.layer == layer))[0]])


def read_through(reader: Reader, resid: Tensor) -> Tensor:
    """What is read of a residual stream; past the hooks on the norm, which see the network's own stream alone."""
    return resid if reader.norm is None else reader.norm.forward(resid)


def head_writes(graph: Graph, z: Tensor, layer: int) -> Tensor:
    """What each head writes, before a post-norm: [row, position, head, d_model]."""
    return torch.einsum("bphd,hdm->bphm", z, graph.model.W_O(layer, graph.attention).to(z.dtype))


def _first_change(graph: Graph, prompts: Prompts, other: Prompts) -> int:
    """The first position whose tokens differ; 0 where later tokens reach earlier ones, or means stand in."""
    ids, others = (some.inputs.get("input_ids") for some in (prompts, other))
    if other is prompts or graph.attention != "self" or ids is None or others is None:
        return 0
    differ = (ids != others).any(dim=0).nonzero()
    return int(differ[0]) if len(differ) else 0


@torch.no_grad()
def _projections(graph: Graph) -> dict[tuple[str, int], list[Callable[[Tensor], Tensor]]]:
    backend, found = graph.model.backend, {}
    for what, weights in (("q", backend.W_Q), ("k", backend.W_K), ("v", backend.W_V)):
        for layer in range(graph.edges.n_layers):
            norm = graph.readers.attention[layer].norm
            found[what, layer] = [project(norm, matrix) for matrix in weights(layer, graph.attention)]
    return found


@torch.no_grad()
def _read(graph: Graph, streams: dict[Key, Tensor], projections: dict[tuple[str, int], list[Callable[[Tensor], Tensor]]]
          ) -> dict[tuple[str, int], Tensor]:
    """What the receivers read of some streams."""
    backend, found = graph.model.backend, {}
    for (what, layer), each in projections.items():
        bias = {"q": backend.b_Q, "k": backend.b_K, "v": backend.b_V}[what](layer, graph.attention)
        read = torch.stack([one(streams["attention", layer]) for one in each], dim=2)
        found[what, layer] = read if bias is None else read + bias.to(read.dtype)
    for reader in graph.readers.mlp:
        if reader is not None:
            found["mlp", reader.layer] = read_through(reader, streams["mlp", reader.layer])
    return found


def heads_of(graph: Graph, layer: int) -> list[int]:
    """The senders that are heads of a layer."""
    senders = graph.edges.senders
    return np.flatnonzero((senders.kind == HEAD) & (senders.layer == layer)).tolist()


@torch.no_grad()
def _written(graph: Graph, prompts: Prompts) -> tuple[tuple[Tensor, ...], dict[Key, Tensor], dict[int, Tensor]]:
    """What each sender writes in a plain run, the streams that receivers read, and sums over heads before post-norms."""
    parts: list[Tensor] = []
    post = [graph.site("attn_out", layer) for layer in range(graph.edges.n_layers) if graph.readers.attn_norms[layer]]
    streams: dict[Key, Tensor] = {}

    def keep(x: Tensor) -> Tensor:
        parts.append(x.reshape(prompts.n, -1, x.shape[-1]).clone())
        return x

    def take(z: Tensor, layer: int) -> Tensor:
        parts.extend(part.clone() for part in head_writes(graph, z, layer).unbind(dim=2))
        return z

    def read(reader: Reader, stream: Tensor, given: Tensor) -> Tensor:
        streams[reader.what, reader.layer] = stream.reshape(prompts.n, -1, stream.shape[-1]).clone()
        return given

    def final(x: Tensor) -> Tensor:
        streams[OUTPUT] = x.clone()
        return x

    changes: dict[Site, Any] = {graph.site("resid_pre", 0): keep, graph.last: final}
    for layer in range(graph.edges.n_layers):
        changes[graph.site("z", layer)] = lambda z, layer=layer: take(z, layer)
        if graph.readers.mlp[layer] is not None:
            changes[graph.site("mlp_write", layer)] = keep
    with reading(graph.readers.all, read):
        passed = graph.model.run(prompts.inputs, changes, post)
    sums = {site.layer: passed.captured[site].reshape(parts[0].shape).clone() for site in post}
    return tuple(parts), streams, sums


def _stand_in(part: Tensor, mask: Tensor, ablation: str) -> Tensor:
    """Nothing, or means over real tokens, in place of what a sender writes [n, position, d_model]."""
    if ablation == "zero":
        return torch.zeros_like(part)
    real = mask.to(part.dtype)[..., None]
    axes: Sequence[int] = (0, 1) if ablation == "mean" else (0,)
    mean = (part * real).sum(dim=tuple(axes), keepdim=True) / real.sum(dim=tuple(axes), keepdim=True).clamp(min=1)
    return mean.expand_as(part).clone()
