"""A pass of many masks that computes only what a mask changes: receivers that read a mixture, and what is mixed there.

Most receivers of a circuit, or of what is left without it, read all edges or none. All: they read the live stream, as the
network reads it by itself. None: they read the stand-ins' stream, the same for every mask, and what comes of it is known
before the pass. What is left is summed from the nearer of the two streams, Δ_s being what the sender writes now minus its
stand-in::

    stand-ins + Σ_s m_s Δ_s    or    live − Σ_s (1 − m_s) Δ_s        whichever has fewer terms

Mask by mask, so that what is summed fits into the processor's cache; the network's own pass has all masks at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.engine.edge_runs import OUTPUT, Key
from interp.engine.edges import RECEIVERS
from interp.models.readers import Reader

FEW = 4
"""Terms per receiver up to which they are added one by one; more are a product of matrices."""


@dataclass(frozen=True, eq=False)
class _Point:
    """The receivers that read at one point of the stream.

    Attributes:
        of: (q, k, v, mlp or output) -> which of the receivers are of that kind, a slice.
        none, mixed: which masks leave a receiver no edge, and which some, bool [mask, receiver].
        live: which of the mixed are summed from the live stream. weights: of each sender's change, [mask, receiver, sender].
    """

    of: dict[str, slice]
    none: np.ndarray
    mixed: np.ndarray
    live: np.ndarray
    weights: np.ndarray


class SparseRun:
    """One pass of some masks: what senders wrote so far, and what receivers read of it. No gradients, no post-norms."""

    def __init__(self, graph: Any, ground: Any, masks: Tensor):
        self.graph, self.ground, self.count = graph, ground, len(masks)
        self.points = {key: _point(graph, key, masks.numpy()) for key in _keys(graph)}
        needed = np.zeros((len(masks), len(graph.edges.senders)), dtype=bool)
        for point in self.points.values():
            needed[:, : point.weights.shape[2]] |= (point.weights != 0).any(1)
        self.needed, self.place = needed, needed.cumsum(1) - 1
        self.changes = ground.room(int(needed.sum())).split(needed.sum(1).tolist())
        self.written = 0
        self.given: dict[str, Tensor] = {}

    @property
    def readers(self) -> tuple[Reader, ...]:
        """The readers whose streams the pass has to show."""
        return self.graph.readers.all

    def one(self, x: Tensor) -> Tensor:
        """Take up what the embedding or an MLP wrote."""
        there, masks = self.ground.there[self.written], np.flatnonzero(self.needed[:, self.written])
        live = self._by_mask(x)
        for m in masks:
            torch.sub(live[m], there, out=self._change(m, self.written).view(there.shape))
        self.written += 1
        return x

    def heads(self, z: Tensor, layer: int) -> Tensor:
        """Take up what the heads of a layer wrote."""
        weights, live = self.graph.model.W_O(layer, self.graph.attention).to(z.dtype), self._by_mask(z)
        for head, weight in enumerate(weights):
            there = self.ground.there[self.written].flatten(0, 1)
            for m in np.flatnonzero(self.needed[:, self.written]):
                part = live[m, :, :, head].flatten(0, 1)
                torch.addmm(there, part, weight, beta=-1, out=self._change(m, self.written).view(there.shape))
            self.written += 1
        return z

    def read(self, reader: Reader, stream: Tensor, normed: Tensor) -> Tensor:
        """What an MLP reads; for attention, what its projections are to return is kept for ``into_heads``."""
        live, key = self._by_mask(stream), (reader.what, reader.layer)
        if reader.what == "mlp":
            norm = reader.norm.forward if reader.norm is not None else (lambda x: x)      # past the hooks on the norm
            return self._after(normed, key, live, norm, self.ground.read["mlp", reader.layer])
        point, backend = self.points[key], self.graph.model.backend
        for what, some in point.of.items():
            known = self.ground.read[what, reader.layer]
            self.given[what] = known.expand(self.count, *known.shape)
            masks = np.flatnonzero(point.mixed[:, some].any(1))
            if not len(masks):
                continue
            bias = {"q": backend.b_Q, "k": backend.b_K, "v": backend.b_V}[what](reader.layer, self.graph.attention)
            self.given[what] = self.given[what].clone()
            mixed = point.mixed[:, some]
            totals, ends = self._totals(key, some, live), np.cumsum([0, *mixed.sum(0)])
            for head in np.flatnonzero(mixed.any(0)).tolist():
                new = self.ground.projections[what, reader.layer][head](totals[ends[head]:ends[head + 1]])
                at = np.flatnonzero(mixed[:, head])
                self.given[what][at, :, :, head] = new if bias is None else new + bias[head].to(new.dtype)
        return normed

    def into_heads(self, x: Tensor, what: str, layer: int) -> Tensor:
        """What a projection returns: the network's own where a mask keeps all edges."""
        point = self.points["attention", layer]
        some = point.of[what]
        new = torch.from_numpy(point.none[:, some] | point.mixed[:, some])
        if not bool(new.any()):
            return x
        whole = x.reshape(self.count, self.ground.prompts.n, -1, *x.shape[-2:])
        first, mixed = self.ground.offset, torch.empty_like(whole)
        mixed[:, :, :first] = whole[:, :, :first]
        torch.where(new[:, None, None, :, None], self.given.pop(what).to(x.dtype), whole[:, :, first:],
                    out=mixed[:, :, first:])
        return mixed.reshape(x.shape)

    def output(self, x: Tensor) -> Tensor:
        """The stream that the logits are read from."""
        return self._after(x, OUTPUT, self._by_mask(x), lambda read: read, self.ground.streams[OUTPUT])

    def _after(self, whole: Tensor, key: Key, live: Tensor, norm: Any, known: Tensor) -> Tensor:
        """``whole`` with what is read from the first position on at which anything differs."""
        point = self.points[key]
        none, mixed = np.flatnonzero(point.none[:, 0]), np.flatnonzero(point.mixed[:, 0])
        if not len(none) and not len(mixed):
            return whole
        new = whole.reshape(self.count, self.ground.prompts.n, -1, whole.shape[-1]).clone()
        after = new[:, :, self.ground.offset:]
        after[none] = known.to(new.dtype)
        if len(mixed):
            after[mixed] = norm(self._totals(key, slice(0, 1), live)).to(new.dtype)
        return new.reshape(whole.shape)

    def _totals(self, key: Key, some: slice, live: Tensor) -> Tensor:
        """What each of some receivers reads where it has a mixture of edges, receiver by receiver and of each mask by mask:
        [receiver with mask, n, position, d_model]."""
        point, stream = self.points[key], self.ground.streams[key]
        mixed, weights = point.mixed[:, some], point.weights[:, some]
        place = np.cumsum(mixed.T.ravel()).reshape(mixed.T.shape).T - 1
        totals = self.ground.room(int(mixed.sum()), "totals")
        for m in np.flatnonzero(mixed.any(1)):
            bases = {True: live[m].reshape(-1), False: stream.reshape(-1)}
            there = self.needed[m, : weights.shape[2]]
            senders = np.flatnonzero(there)
            for from_live, base in bases.items():
                mine = np.flatnonzero(mixed[m] & (point.live[m, some] == from_live))
                few = (weights[m, mine] != 0).sum(1) <= FEW
                for receiver in mine[few]:
                    total, before = totals[place[m, receiver]], base
                    for sender in np.flatnonzero(weights[m, receiver]):
                        torch.add(before, self._change(m, sender), alpha=float(weights[m, receiver, sender]), out=total)
                        before = total
                if len(many := mine[~few]):
                    chosen = torch.from_numpy(weights[m, many][:, senders]).to(base.dtype)
                    new = torch.addmm(base, chosen, self.changes[m][: len(senders)])
                    totals[torch.from_numpy(place[m, many])] = new
        return totals.view(-1, *stream.shape)

    def _change(self, m: int, sender: int) -> Tensor:
        return self.changes[m][self.place[m, sender]]

    def _by_mask(self, x: Tensor) -> Tensor:
        """[mask · n, position, …] as [mask, n, position from the first change on, …]."""
        n = self.ground.prompts.n
        tail = x.shape[-2:] if x.dim() == 4 else x.shape[-1:]
        return x.reshape(self.count, n, -1, *tail)[:, :, self.ground.offset:]


def _keys(graph: Any) -> Iterator[Key]:
    for layer in range(graph.edges.n_layers):
        yield "attention", layer
        if graph.readers.mlp[layer] is not None:
            yield "mlp", layer
    yield OUTPUT


def _point(graph: Any, key: Key, masks: np.ndarray) -> _Point:
    """The receivers of a point, and what each mask leaves them."""
    edges, (what, layer) = graph.edges, key
    kinds = ("q", "k", "v") if what == "attention" else (what,)
    mine = [np.flatnonzero((edges.receivers.kind == RECEIVERS.index(kind)) & (edges.receivers.layer == layer))
            for kind in kinds]
    ends = np.cumsum([0, *map(len, mine)])
    at = np.concatenate(mine)
    rows = masks[:, edges.start[at][:, None] + np.arange(int(edges.before[at[0]]))]
    off, out = (rows != 0).sum(2), (rows != 1).sum(2)
    mixed, live = (off > 0) & (out > 0), out < off
    weights = np.where(live[:, :, None], rows - 1, rows) * mixed[:, :, None]
    return _Point({kind: slice(int(ends[i]), int(ends[i + 1])) for i, kind in enumerate(kinds)}, off == 0, mixed, live,
                  weights.astype(np.float32))
