"""Circuits run as masks over edges: every receiver reads what its edges carry, and outside of the circuit what stands in.

For a mask m [edge] every receiver r (q, k and v of each head, each MLP, the output) reads ::

    Σ_s  m[s→r] · s_live + (1 − m[s→r]) · s_there

with s_live what the sender writes in this very run, whose own inputs were masked too, and s_there its stand-in: what it
writes in the other run of the pair (``resample``), nothing (``zero``), its mean over the real tokens of the batch (``mean``)
or over the prompts at each position (``mean_position``). With all edges the run is untouched; with none and ``resample`` it
is the other run. Many masks share a pass, stacked along the batch. Source of the mask: Miller et al. 2024 (auto-circuit).

Behind a post-norm the sum over heads of a layer is mixed before the norm, as each receiver reads it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.edge_runs import OUTPUT, Graph, Key, graph_of
from interp.engine.edges import RECEIVERS
from interp.engine.forward import answer_logits
from interp.engine.sparse_masks import SparseRun
from interp.engine.stand_ins import Ablation, Ground, ground_of, head_writes, heads_of, read_through
from interp.engine.untouched import reading_answers
from interp.models.readers import Reader, reading
from interp.models.sites import Site
from interp.tasks.metrics import Metric, metric_of

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
    return open_masks(model, batch, ablation=ablation, on=on, metric=metric, memory=memory)(masks, progress)


def open_masks(model: Any, batch: Any, *, ablation: Ablation = "resample", on: str = "clean",
               metric: str | Metric | None = None, memory: int = MEMORY) -> Callable[..., np.ndarray]:
    """``run_masks`` for one batch, to be called many times: the stand-ins are computed once."""
    graph = graph_of(model)
    ground = ground_of(graph, batch, ablation, on)
    measured = batch.metric if metric is None else metric_of(metric)
    tensors = len(ground.there) + 3 * graph.edges.n_heads      # written by senders; read by the receivers of one layer
    per_pass = max(1, int(memory // (4 * ground.there[0].numel() * tensors + ground.bytes_of_prefix)))

    def run(masks: np.ndarray, progress: Callable[[int], None] | None = None) -> np.ndarray:
        masks = np.atleast_2d(np.asarray(masks, dtype=np.float32))
        if masks.ndim != 2 or masks.shape[1] != len(graph.edges):
            raise InterpError(f"run masks of shape {masks.shape}", f"the model has {len(graph.edges)} edges",
                              "give an array [mask, edge] in the order of Edges")
        found = []
        with torch.no_grad():
            for some in np.array_split(masks, -(-len(masks) // per_pass)):
                given = torch.from_numpy(some).to(ground.there[0].device)
                found.append(masked_metric(graph, ground, batch, measured, given).double().cpu().numpy())
                if progress is not None:
                    progress(len(some))
        return np.concatenate(found)

    return run


def masked_metric(graph: Graph, ground: Ground, batch: Any, metric: Any, masks: Tensor) -> Tensor:
    """The metric under each of some masks [mask, edge], [mask, prompt]; differentiable by the masks."""
    count, n = len(masks), ground.prompts.n
    prompts, cache = ground.passed(count)
    alone = masks.requires_grad or ground.sums or masks.device.type != "cpu"      # elsewhere many small steps cost more
    run = _MaskedRun(graph, ground, masks) if alone else SparseRun(graph, ground, masks)
    changes: dict[Site, Any] = {graph.site("resid_pre", 0): run.one, graph.last: run.output}
    for layer in range(graph.edges.n_layers):
        for what, site in (("q", "q_pre"), ("k", "k_pre"), ("v", "v")):
            changes[graph.site(site, layer)] = lambda x, what=what, layer=layer: run.into_heads(x, what, layer)
        changes[graph.site("z", layer)] = lambda x, layer=layer: run.heads(x, layer)
        if graph.readers.mlp[layer] is not None:
            changes[graph.site("mlp_write", layer)] = run.one
    with reading_answers(graph.model, batch, metric) as asked, reading(run.readers, run.read):
        passed = graph.model.run(prompts.inputs, changes, (), cache=cache, use_cache=cache is not None)
    logits = answer_logits(passed, prompts)
    return torch.stack([metric(part, asked) for part in logits.reshape(count, n, -1)])


class _MaskedRun:
    """One pass: what senders wrote so far, and what receivers read of it."""

    def __init__(self, graph: Graph, ground: Ground, masks: Tensor):
        self.graph, self.ground, self.masks = graph, ground, masks
        shape = len(masks), len(graph.edges.senders), ground.there[0].numel()
        learning = masks.requires_grad and torch.is_grad_enabled()
        self.changes = [] if learning else ground.there[0].new_empty(shape)      # live − there: [mask, sender, …]
        self.written = 0

    def _keep(self, parts: Tensor) -> None:
        """Take up what senders wrote, [mask · n, position, sender, d_model]."""
        for part in parts.unbind(dim=2):
            there = self.ground.there[self.written]
            live = part[:, self.ground.offset:].reshape(len(self.masks), *there.shape)
            if isinstance(self.changes, list):
                self.changes.append((live - there).flatten(1))
            else:
                torch.sub(live, there, out=self.changes[:, self.written].view(live.shape))
            self.written += 1

    def one(self, x: Tensor) -> Tensor:
        self._keep(x.reshape(len(self.masks) * self.ground.prompts.n, -1, 1, x.shape[-1]))
        return x

    def heads(self, z: Tensor, layer: int) -> Tensor:
        self._keep(head_writes(self.graph, z, layer))
        return z

    def _read(self, kind: str, layer: int, key: Key) -> Tensor:
        """What the receivers of a kind in a layer read: [mask, receiver, n, position, d_model]."""
        edges = self.graph.edges
        mine = np.flatnonzero((edges.receivers.kind == RECEIVERS.index(kind)) & (edges.receivers.layer == layer))
        before = int(edges.before[mine[0]])
        at = torch.as_tensor(edges.start[mine][:, None] + np.arange(before), device=self.masks.device)
        stream, shape = self.ground.streams[key], (len(self.masks), len(mine), *self.ground.streams[key].shape)
        changes = self.changes[:before]
        changes = torch.stack(changes, dim=1) if isinstance(changes, list) else self.changes[:, :before]
        masks = self.masks[:, at].to(changes.dtype)
        for layer_of, total in self.ground.sums.items():
            heads = heads_of(self.graph, layer_of)
            if heads[0] < before:
                norm = self.graph.readers.attn_norms[layer_of]
                moved = torch.bmm(masks[:, :, heads], changes[:, heads]).reshape(shape)
                stream = stream + norm.forward(total + moved) - norm.forward(total)
                masks = masks.clone()
                masks[:, :, heads] = 0
        stream = stream.expand(shape).flatten(2)
        return torch.baddbmm(stream, masks, changes).reshape(shape)

    def into_heads(self, x: Tensor, what: str, layer: int) -> Tensor:
        read = self._read(what, layer, ("attention", layer))
        new = [project(part) for project, part in zip(self.ground.projections[what, layer], read.unbind(dim=1), strict=True)]
        bias = {"q": self.graph.model.backend.b_Q, "k": self.graph.model.backend.b_K,
                "v": self.graph.model.backend.b_V}[what](layer, self.graph.attention)
        heads = torch.stack(new, dim=3).flatten(0, 1)
        return self._after(x, heads if bias is None else heads + bias.to(heads.dtype))

    @property
    def readers(self) -> tuple[Reader, ...]:
        """The readers whose streams the pass has to show."""
        return tuple(reader for reader in self.graph.readers.mlp if reader is not None)

    def read(self, reader: Reader, stream: Tensor, normed: Tensor) -> Tensor:
        read = read_through(reader, self._read("mlp", reader.layer, ("mlp", reader.layer))[:, 0].flatten(0, 1))
        return self._after(normed, read)

    def output(self, x: Tensor) -> Tensor:
        return self._after(x, self._read("output", -1, OUTPUT)[:, 0].flatten(0, 1))

    def _after(self, whole: Tensor, new: Tensor) -> Tensor:
        """``whole`` with ``new`` from the first position on at which anything differs."""
        first, rows = self.ground.offset, len(self.masks) * self.ground.prompts.n
        if not first:
            return new.reshape(whole.shape).to(whole.dtype)
        before = whole.reshape(rows, -1, *whole.shape[whole.dim() - new.dim() + 2:])[:, :first]      # OPT: end to end
        return torch.cat([before, new.to(whole.dtype)], dim=1).reshape(whole.shape)
