"""Circuits run as masks over edges: every receiver reads what its edges carry, and outside of the circuit what stands in.

For a mask m [edge] every receiver r (q, k and v of each head, each MLP, the output) reads ::

    Σ_s  m[s→r] · s_live + (1 − m[s→r]) · s_there

with s_live what the sender writes in this very run, whose own inputs were masked too, and s_there its stand-in: what it
writes in the other run of the pair (``resample``), nothing (``zero``), its mean over the real tokens of the batch (``mean``)
or over the prompts at each position (``mean_position``). With all edges the run is untouched; with none and ``resample`` it
is the other run. Many masks share a pass, stacked along the batch. Source of the mask: Miller et al. 2024 (auto-circuit).

Behind a post-norm the sum over heads of a layer is mixed before the norm, as each receiver reads it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.core.registry import unknown
from interp.engine.edge_runs import OUTPUT, Graph, Key, graph_of
from interp.engine.edges import RECEIVERS, SENDERS
from interp.engine.forward import answer_logits
from interp.engine.prompts import Prompts, side, sides
from interp.models.readers import Reader, reading
from interp.models.sites import Site
from interp.tasks.metrics import Metric, metric_of

Ablation = Literal["resample", "zero", "mean", "mean_position"]
ABLATIONS: tuple[str, ...] = get_args(Ablation)
HEAD = SENDERS.index("head")
MEMORY = 2**29
"""Bytes that what the senders of one pass write may take together."""


def run_masks(model: Any, batch: Any, masks: np.ndarray, *, ablation: Ablation = "resample", on: str = "clean",
              metric: str | Metric | None = None, memory: int = MEMORY,
              progress: Callable[[int], None] | None = None) -> np.ndarray:
    """The metric of each prompt under each circuit, [mask, prompt].

    Args:
        masks: [mask, edge] (or [edge]) in the order of ``Edges``: 1 (True) keeps an edge, 0 puts the stand-in in its place;
            values between mix the two.
        on: the side that is run; stand-ins of ``resample`` come from the other one, means from the side itself.
        memory: bytes that the senders of one pass may take: it sets how many masks share a pass, and changes no number
            beyond rounding.
        progress: called with the number of masks done.

    Raises:
        InterpError: masks of another graph; an unknown ablation; ``resample`` or ``mean_position`` of unaligned prompts.
    """
    graph = graph_of(model)
    masks = np.atleast_2d(np.asarray(masks, dtype=np.float32))
    if masks.ndim != 2 or masks.shape[1] != len(graph.edges):
        raise InterpError(f"run masks of shape {masks.shape}", f"the model has {len(graph.edges)} edges",
                          "give an array [mask, edge] in the order of Edges")
    ground = ground_of(graph, batch, ablation, on)
    measured = batch.metric if metric is None else metric_of(metric)
    tensors = len(ground.there) + 3 * graph.edges.n_heads      # written by senders; read by the receivers of one layer
    per_pass = max(1, int(memory // (4 * ground.there[0].numel() * tensors)))
    found = []
    with torch.no_grad():
        for some in np.array_split(masks, -(-len(masks) // per_pass)):
            given = torch.from_numpy(some).to(ground.there[0].device)
            found.append(masked_metric(graph, ground, batch, measured, given).double().cpu().numpy())
            if progress is not None:
                progress(len(some))
    return np.concatenate(found)


@dataclass(frozen=True, eq=False)
class Ground:
    """What masked runs of some prompts stand on.

    Attributes:
        prompts: the side that is run.
        there: the stand-in of each sender, [n, position, d_model] each.
        streams: reading point -> the stream of stand-ins alone, [n, position, d_model].
        sums: layer -> the sum over its heads of stand-ins before a post-norm; empty without post-norms.
    """

    prompts: Prompts
    there: tuple[Tensor, ...]
    streams: dict[Key, Tensor] = field(repr=False)
    sums: dict[int, Tensor] = field(repr=False)


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
        moved = {layer: sums[layer] + sum(new[i] - parts[i] for i in _heads_of(graph, layer)) for layer in sums}
        for key in streams:
            before = graph_before(graph, key)
            for i in range(before):
                layer = int(graph.edges.senders.layer[i])
                if graph.edges.senders.kind[i] != HEAD or layer not in sums:
                    streams[key] = streams[key] + new[i] - parts[i]
            for layer in sums:
                if _heads_of(graph, layer)[0] < before:
                    norm = graph.readers.attn_norms[layer]
                    streams[key] = streams[key] + norm.forward(moved[layer]) - norm.forward(sums[layer])
        parts, sums = new, moved
    return Ground(prompts, parts, streams, sums)


def masked_metric(graph: Graph, ground: Ground, batch: Any, metric: Any, masks: Tensor) -> Tensor:
    """The metric under each of some masks [mask, edge], [mask, prompt]; differentiable by the masks."""
    count, n = len(masks), ground.prompts.n
    prompts = ground.prompts.take(torch.arange(n).repeat(count))
    run = _MaskedRun(graph, ground, masks)
    changes: dict[Site, Any] = {graph.site("resid_pre", 0): run.embed, graph.last: run.output}
    for layer in range(graph.edges.n_layers):
        for what, site in (("q", "q_pre"), ("k", "k_pre"), ("v", "v")):
            changes[graph.site(site, layer)] = lambda x, what=what, layer=layer: run.into_heads(x, what, layer)
        changes[graph.site("z", layer)] = lambda x, layer=layer: run.heads(x, layer)
        if graph.readers.mlp[layer] is not None:
            changes[graph.site("mlp_write", layer)] = run.mlp
    with reading([reader for reader in graph.readers.mlp if reader is not None], run.into_mlp):
        passed = graph.model.run(prompts.inputs, changes, ())
    logits = answer_logits(passed, prompts)
    return torch.stack([metric(part, batch) for part in logits.reshape(count, n, -1)])


def graph_before(graph: Graph, key: Key) -> int:
    """How many senders stand before a reading point."""
    what, layer = key
    kind = {"attention": RECEIVERS.index("q"), "mlp": RECEIVERS.index("mlp"), "output": RECEIVERS.index("output")}[what]
    receivers = graph.edges.receivers
    return int(graph.edges.before[np.flatnonzero((receivers.kind == kind) & (receivers.layer == layer))[0]])


class _MaskedRun:
    """One pass: what senders wrote so far, and what receivers read of it."""

    def __init__(self, graph: Graph, ground: Ground, masks: Tensor):
        self.graph, self.ground, self.masks = graph, ground, masks
        self.changes: list[Tensor] = []      # per sender: live − there, [mask, n · position · d_model]

    def _keep(self, written: Tensor) -> None:
        there = self.ground.there[len(self.changes)]
        change = written.reshape(len(self.masks), *there.shape) - there
        self.changes.append(change.flatten(1))

    def embed(self, x: Tensor) -> Tensor:
        self._keep(x)
        return x

    def heads(self, z: Tensor, layer: int) -> Tensor:
        for part in _heads(self.graph, z, layer).unbind(dim=2):
            self._keep(part)
        return z

    def mlp(self, x: Tensor) -> Tensor:
        self._keep(x)
        return x

    def _read(self, kind: str, layer: int, key: Key) -> Tensor:
        """What the receivers of a kind in a layer read: [mask · n, receiver, position, d_model]."""
        edges = self.graph.edges
        mine = np.flatnonzero((edges.receivers.kind == RECEIVERS.index(kind)) & (edges.receivers.layer == layer))
        before = int(edges.before[mine[0]])
        at = torch.as_tensor(edges.start[mine][:, None] + np.arange(before), device=self.masks.device)
        stream, shape = self.ground.streams[key], (len(self.masks), len(mine), *self.ground.streams[key].shape)
        masks, changes = self.masks[:, at], torch.stack(self.changes[:before], dim=1)   # [mask, sender, …]
        for layer, total in self.ground.sums.items():
            heads = _heads_of(self.graph, layer)
            if heads[0] < before:
                norm = self.graph.readers.attn_norms[layer]
                moved = torch.bmm(masks[:, :, heads].to(changes.dtype), changes[:, heads]).reshape(shape)
                stream = stream + norm.forward(total + moved) - norm.forward(total)
                masks = masks.clone()
                masks[:, :, heads] = 0
        stream = stream + torch.bmm(masks.to(changes.dtype), changes).reshape(shape)
        return stream.transpose(1, 2).flatten(0, 1)

    def into_heads(self, x: Tensor, what: str, layer: int) -> Tensor:
        backend, attention = self.graph.model.backend, self.graph.attention
        weights, biases = {"q": (backend.W_Q, backend.b_Q), "k": (backend.W_K, backend.b_K),
                           "v": (backend.W_V, backend.b_V)}[what]
        normed = _normed(self.graph.readers.attention[layer], self._read(what, layer, ("attention", layer)))
        new = torch.einsum("bhpd,hde->bphe", normed, weights(layer, attention).to(normed.dtype))
        bias = biases(layer, attention)
        return (new if bias is None else new + bias.to(new.dtype)).reshape(x.shape).to(x.dtype)

    def into_mlp(self, reader: Reader, stream: Tensor, normed: Tensor) -> Tensor:
        read = _normed(reader, self._read("mlp", reader.layer, ("mlp", reader.layer))[:, 0])
        return read.reshape(normed.shape).to(normed.dtype)

    def output(self, x: Tensor) -> Tensor:
        return self._read("output", -1, OUTPUT)[:, 0].reshape(x.shape).to(x.dtype)


def _normed(reader: Reader, resid: Tensor) -> Tensor:
    """What is read of a residual stream; past the hooks on the norm, which see the network's own stream alone."""
    return resid if reader.norm is None else reader.norm.forward(resid)


def _heads(graph: Graph, z: Tensor, layer: int) -> Tensor:
    """What each head writes, before a post-norm: [row, position, head, d_model]."""
    return torch.einsum("bphd,hdm->bphm", z, graph.model.W_O(layer, graph.attention).to(z.dtype))


def _heads_of(graph: Graph, layer: int) -> list[int]:
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

    def heads(z: Tensor, layer: int) -> Tensor:
        parts.extend(part.clone() for part in _heads(graph, z, layer).unbind(dim=2))
        return z

    def read(reader: Reader, stream: Tensor, normed: Tensor) -> Tensor:
        streams[reader.what, reader.layer] = stream.reshape(prompts.n, -1, stream.shape[-1]).clone()
        return normed

    def final(x: Tensor) -> Tensor:
        streams[OUTPUT] = x.clone()
        return x

    changes: dict[Site, Any] = {graph.site("resid_pre", 0): keep, graph.last: final}
    for layer in range(graph.edges.n_layers):
        changes[graph.site("z", layer)] = lambda z, layer=layer: heads(z, layer)
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
