"""Exact patching of nodes, in one direction or both."""

from typing import Any, Literal

import numpy as np

from interp.discovery.both import larger
from interp.discovery.graph import edges_of
from interp.discovery.method import method
from interp.discovery.node_scores import NodeScores
from interp.engine.edge_attribution import check_options, provenance
from interp.engine.edges import SENDERS, Edges
from interp.engine.forward import metric_values
from interp.engine.intervention import Intervention, Resample
from interp.engine.running import Running, running_of
from interp.engine.sweep import sweep_record
from interp.tasks.metrics import Metric, metric_of


@method(
    level="nodes",
    sense="larger = matters more: what the node alone takes away (noising) or brings back (denoising)",
    formula="noising: metric(clean) − metric(clean, node's output ← corrupt); denoising: metric(corrupt, output ← clean) − "
            "metric(corrupt); both: of each node the one whose mean over prompts is larger in size",
    source="Vig et al. 2020; Meng et al. 2022; Wang et al. 2022 (activation patching)",
    does_not_show=(
        "Along which edges a node acts; nodes that do each other's work (one direction misses each of two that suffice, the "
        "other each of two that are needed)."
    ),
    cost="for every head and MLP a forward pass from its layer on (twice that with both directions)",
)
def node_patching(model: Any, batch: Any, *, direction: Literal["noising", "denoising", "both"] = "both",
                  metric: str | Metric | None = None, batch_size: int | None = None, progress: bool | None = None,
                  running: Running | None = None) -> NodeScores:
    """The exact effect of every head and MLP by itself; that of the embedding is the whole difference."""
    ways = ("noising", "denoising") if direction == "both" else (direction,)
    check_options(batch, ways[0])
    edges, measured = edges_of(model), batch.metric if metric is None else metric_of(metric)
    how = running_of(running, batch_size, progress)
    baselines = {on: metric_values(model, batch, (), on=on, metric=measured, batch_size=how.batch_size)
                 for on in ("clean", "corrupt")}
    found = [_patched(model, batch, edges, way, measured, baselines, how) for way in ways]
    made = provenance(model, batch, "node_patching", {}, measured, None if direction == "both" else direction, baselines)
    values, notes = larger(*found) if direction == "both" else (found[0], {})
    return NodeScores(edges, values, made, baselines, notes)


def _patched(model: Any, batch: Any, edges: Edges, direction: str, metric: Metric, baselines: dict[str, np.ndarray],
             how: Running) -> np.ndarray:
    on, source = ("clean", "corrupt") if direction == "noising" else ("corrupt", "clean")
    senders, attention = edges.senders, model.stacks[0].attention
    inner = np.flatnonzero(senders.kind != SENDERS.index("embed"))
    lists = [Intervention("z" if senders.head[i] >= 0 else "mlp_write", int(senders.layer[i]),
                          int(senders.head[i]) if senders.head[i] >= 0 else None, None, Resample(source), attention)
             for i in inner]
    record = sweep_record(model, batch, lists, on, metric=metric, running=how, title="nodes")
    values = np.empty((len(senders), batch.n))
    values[0] = baselines["clean"] - baselines["corrupt"]
    change = np.where(record.acted, record.values - baselines[on], 0.0)
    values[inner] = change if direction == "denoising" else -change
    return values
