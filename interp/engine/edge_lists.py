"""Edges as interventions: entries for a sweep of one's own, beside heads, positions and circuits."""

from typing import Any, Literal

import torch

from interp.engine.edge_attribution import check_options
from interp.engine.edge_patching import Chosen, patches, select
from interp.engine.edge_runs import graph_of, run_graph
from interp.engine.intervention import Intervention
from interp.engine.prompts import side, sides


def edge_interventions(model: Any, batch: Any, edges: Chosen, *,
                       direction: Literal["noising", "denoising"] = "noising") -> list[tuple[Intervention, ...]]:
    """What patches each edge: one entry of a sweep per edge, in the order in which they are named.

    The receiver reads the residual stream with the sender's part taken from the other run (see ``edge_patching``, which
    sweeps over many edges in bounded memory; here all are held at once, one tensor [prompt, position, d] per edge). An entry
    is () where the sender is the same in both runs: the edge has no effect.

    Args:
        edges: names (``L5H5->L9H9.k``, ``mlp2->logits.out``) or indices into ``Edges``.
        direction: ``noising``: for a sweep on the clean side; ``denoising``: on the corrupted one (``on="corrupt"``).

    Raises:
        InterpError: as ``edge_patching``.
    """
    check_options(batch, direction)
    graph, runs = graph_of(model), sides(model, batch)
    on, source = ("clean", "corrupt") if direction == "noising" else ("corrupt", "clean")
    asked = [graph.edges.index(edge) if isinstance(edge, str) else int(edge) for edge in (() if edges is None else edges)]
    chosen = select(graph.edges, edges)
    here, there = (run_graph(graph, side(runs, name), batch, batch.metric, slopes=False)[0] for name in (on, source))
    found: dict[int, tuple[Intervention, ...]] = {}
    with torch.no_grad():
        for at, lists in patches(graph, here, there, chosen, on):
            found.update(zip(at.tolist(), lists, strict=True))
    return [found.get(int(i), ()) for i in (chosen if edges is None else asked)]
