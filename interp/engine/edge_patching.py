"""Exact patching of edges: one receiver reads the residual stream with one sender's part exchanged, all else as it is.

For the edge s -> r the receiver r reads x − s_here + s_there in place of x, nobody else does, and everything downstream of r
is recomputed. Said as interventions that any sweep takes:

* q, k or v of a head: what the head's projection returns of the changed stream, ``Replace`` at ``q_pre``, ``k_pre`` or
  ``v``;
* an MLP: the change is added to ``resid_mid`` and taken off ``resid_post`` again, so that the MLP alone sees it (in a
  parallel block: added to ``resid_pre``, with the attention's output held);
* the output: the change is added to the final residual stream.

The sweep computes what lies above the receiver's layer only; nothing is computed for senders that do not differ, and for
queries of the last layer that no answer is read at.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.edge_attribution import check_options, provenance
from interp.engine.edge_runs import Graph, Written, graph_of, run_graph
from interp.engine.edges import RECEIVERS, Edges, EdgeScores
from interp.engine.intervention import Add, Intervention, Replace, Resample
from interp.engine.prompts import side, sides
from interp.engine.running import Running, running_of
from interp.engine.sweep import sweep_record
from interp.tasks.metrics import Metric, metric_of

MEMORY = 2**27
"""Bytes of replacing tensors that are made at once."""

Chosen = Sequence[int] | Sequence[str] | np.ndarray | None
Chunk = tuple[np.ndarray, list[tuple[Intervention, ...]]]
"""Some edges, and what patches each of them."""


def edge_patching(model: Any, batch: Any, edges: Chosen = None, *, direction: Literal["noising", "denoising"] = "noising",
                  metric: str | Metric | None = None, batch_size: int | None = None, progress: bool | None = None,
                  running: Running | None = None) -> EdgeScores:
    """How much the metric changes when one edge carries what it carries in the other run.

    ``values[edge, prompt]`` in units of the metric; larger = matters more:

    * ``direction="noising"``: metric(clean) − metric(clean, edge ← corrupt);
    * ``direction="denoising"``: metric(corrupt, edge ← clean) − metric(corrupt).

    Behind a post-norm a head's part is what its exchange changes in the norm's output. ``notes`` hold ``seconds``,
    ``edges_per_second`` of those asked for, and ``projected_seconds`` for every edge of the model, counted by the layers
    that each has to recompute.

    Args:
        edges: names (``L5H5->L9H9.k``) or indices into ``Edges``; None for every edge.
        batch_size, progress, running: as for ``sweep``.

    Raises:
        InterpError: unaligned prompts; an edge that the model does not have; an architecture without known reading points.
    """
    check_options(batch, direction)
    graph, measured = graph_of(model), batch.metric if metric is None else metric_of(metric)
    on, source = ("clean", "corrupt") if direction == "noising" else ("corrupt", "clean")
    chosen, how = select(graph.edges, edges), running_of(running, batch_size, progress)
    runs = sides(model, batch)
    here, there = (run_graph(graph, side(runs, name), batch, measured, slopes=False)[0] for name in (on, source))
    baselines = {on: here.metric.numpy(), source: there.metric.numpy()}
    values = np.full((len(graph.edges), batch.n), np.nan)
    values[chosen] = 0.0
    started = time.perf_counter()
    for at, lists in patches(graph, here, there, chosen, on):
        try:
            found = sweep_record(model, batch, lists, on, metric=measured, running=how,
                                 title=f"edges into {graph.edges.names(at[:1])[0].partition('->')[2]}")
        except InterpError as error:
            if not error.asked.startswith("sweep over"):
                raise
            continue      # none of these changes anything: their effect is 0
        change = np.where(found.acted, found.values - baselines[on], 0.0)
        values[at] = change if direction == "denoising" else -change
    seconds = time.perf_counter() - started
    share = layers_to_run(graph.edges)[chosen].sum() / layers_to_run(graph.edges).sum()
    notes = {"seconds": seconds, "edges_per_second": len(chosen) / seconds, "projected_seconds": seconds / share}
    options = {"direction": direction, "edges": "all" if edges is None else len(chosen)}
    made = provenance(model, batch, "edge_patching", options, measured, direction, baselines)
    return EdgeScores(graph.edges, values, made, baselines, notes)


def select(edges: Edges, chosen: Chosen) -> np.ndarray:
    """Indices of edges, in order, from names or indices."""
    if chosen is None:
        return np.arange(len(edges))
    at = np.array([edges.index(name) if isinstance(name, str) else int(name) for name in chosen], dtype=np.int64)
    if not len(at):
        raise InterpError("patch edges", "none is chosen", "choose at least one, or None for all")
    if at.min() < 0 or at.max() >= len(edges):
        raise InterpError(f"patch the edge {int(at.min() if at.min() < 0 else at.max())}",
                          f"edges count from 0 to {len(edges) - 1}", "choose among these")
    return np.unique(at)


def layers_to_run(edges: Edges) -> np.ndarray:
    """How many layers patching each edge recomputes, the output counting as a tenth of one: [edge]."""
    layer = edges.receivers.layer[edges.receiver]
    return np.where(layer < 0, 0.1, edges.n_layers - layer)


def patches(graph: Graph, here: Written, there: Written, chosen: np.ndarray, on: str) -> Iterator[Chunk]:
    """The interventions that patch each of the chosen edges, a bounded number at a time, layer by layer."""
    edges, width = graph.edges, here.embed.shape[-1]
    receiver = edges.receivers.layer[edges.receiver[chosen]]
    kind = edges.receivers.kind[edges.receiver[chosen]]
    size = here.embed[..., 0].numel() * here.embed.element_size()
    for layer in [*range(edges.n_layers), -1]:
        for of_heads in (True, False):
            mine = chosen[(receiver == layer) & ((kind < RECEIVERS.index("mlp")) == of_heads)]
            mine = mine[np.argsort(edges.sender[mine], kind="stable")]
            each = size * (here.z[0].shape[-1] + width // max(1, 3 * edges.n_heads) if of_heads else width)
            for some in np.array_split(mine, -(-len(mine) * each // MEMORY)) if len(mine) else []:
                made = _into_heads(graph, here, there, layer, some) if of_heads else _into_stream(
                    graph, here, there, layer, some, on)
                kept = [(i, entry) for i, entry in zip(some, made, strict=True) if entry]
                if kept:
                    yield np.array([i for i, _ in kept]), [entry for _, entry in kept]


def _into_heads(graph: Graph, here: Written, there: Written, layer: int, some: np.ndarray) -> list[tuple[Intervention, ...]]:
    """Edges into q, k or v of a layer: what the projections return of each sender's changed stream."""
    edges, backend = graph.edges, graph.model.backend
    reader, x = graph.readers.attention[layer], here.streams["attention", layer]
    weights = {"q": (backend.W_Q, backend.b_Q), "k": (backend.W_K, backend.b_K), "v": (backend.W_V, backend.b_V)}
    made: list[tuple[Intervention, ...]] = []
    normed, of = None, -1
    for i in some:
        sender, receiver = int(edges.sender[i]), int(edges.receiver[i])
        what, head = RECEIVERS[edges.receivers.kind[receiver]], int(edges.receivers.head[receiver])
        if sender != of:
            change, of = difference(graph, here, there, sender), sender
            normed = None if change is None else reader.normed(x + change.to(x.dtype))
        if normed is None:
            made.append(())
            continue
        matrix, bias = (take(layer, graph.attention) for take in weights[what])
        new = normed @ matrix[head] + (0 if bias is None else bias[head])
        site = what if what == "v" else f"{what}_pre"
        made.append((Intervention(site, layer, head, None, Replace(new.detach()[:, :, None]), graph.attention),))
    return made


def _into_stream(graph: Graph, here: Written, there: Written, layer: int, some: np.ndarray, on: str
                 ) -> list[tuple[Intervention, ...]]:
    """Edges into the MLP of a layer, or into the output (layer -1)."""
    made: list[tuple[Intervention, ...]] = []
    for i in some:
        change = difference(graph, here, there, int(graph.edges.sender[i]))

        def put(what: str, at: int, moved: Tensor) -> Intervention:
            return Intervention(what, at, None, None, Add(moved), graph.attention)

        if change is None:
            made.append(())
        elif layer < 0:
            made.append((put("resid_post", graph.edges.n_layers - 1, change),))
        elif graph.readers.parallel:
            held = Intervention("attn_out", layer, None, None, Resample(on), graph.attention)
            made.append((put("resid_pre", layer, change), held, put("resid_post", layer, -change)))
        else:
            made.append((put("resid_mid", layer, change), put("resid_post", layer, -change)))
    return made


@torch.no_grad()
def difference(graph: Graph, here: Written, there: Written, sender: int) -> Tensor | None:
    """What the sender's part of the residual stream changes by when its output is that of the other run:
    [n, position, d_model]; None where it is the same in both."""
    nodes = graph.edges.senders
    layer, head = int(nodes.layer[sender]), int(nodes.head[sender])
    if layer < 0:
        change = there.embed - here.embed
    elif head < 0:
        change = there.mlp[layer] - here.mlp[layer]
    else:
        z = there.z[layer][:, :, head] - here.z[layer][:, :, head]
        change = z @ graph.model.W_O(layer, graph.attention)[head]
        norm, total = graph.readers.attn_norms[layer], here.attn_out[layer]
        change = change if norm is None else norm(total + change) - norm(total)
    return change if bool(change.any()) else None
