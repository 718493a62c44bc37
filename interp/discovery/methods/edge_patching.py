"""Exact patching of edges, in one direction or both."""

from dataclasses import replace
from typing import Any, Literal

from interp.discovery.both import larger
from interp.discovery.method import method
from interp.engine.edge_patching import edge_patching as patched
from interp.engine.edges import EdgeScores
from interp.engine.running import Running
from interp.tasks.metrics import Metric


@method(
    sense="larger = matters more: what the edge alone takes away (noising) or brings back (denoising)",
    formula="noising: metric(clean) − metric(clean, edge ← corrupt); denoising: metric(corrupt, edge ← clean) − "
            "metric(corrupt); both: of each edge the one whose mean over prompts is larger in size",
    source="Goldowsky-Dill et al. 2023 (path patching); Conmy et al. 2023 patch one edge at a time",
    does_not_show=(
        "Edges that do each other's work: noising misses each of two that suffice (or), denoising each of two that are "
        "needed (and); both directions together miss neither. What sets of edges do."
    ),
    cost="for every edge a forward pass from its receiver's layer on (twice that with both directions)",
)
def edge_patching(model: Any, batch: Any, *, direction: Literal["noising", "denoising", "both"] = "both",
                  edges: list | tuple | None = None, metric: str | Metric | None = None, batch_size: int | None = None,
                  progress: bool | None = None, running: Running | None = None) -> EdgeScores:
    """The exact effect of every edge (or of those named) by itself."""
    options = {"metric": metric, "batch_size": batch_size, "progress": progress, "running": running}
    if direction != "both":
        return patched(model, batch, edges, direction=direction, **options)
    one, other = (patched(model, batch, edges, direction=way, **options) for way in ("noising", "denoising"))
    values, notes = larger(one.values, other.values)
    return replace(one, values=values, notes=notes, provenance=replace(one.provenance, direction=None))
