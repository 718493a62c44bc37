"""Integrated gradients of edges: along the mask path, the activation path of each group of senders, and the input path.

* ``mask``: every receiver reads m · clean + (1 − m) · corrupt of the residual stream, where the side that is run is live
  (its senders see what their receivers were given) and the other is as it was recorded: every edge has a mask, and all
  masks move from 0 to 1 together. Completeness is an identity: the edges' scores add up to metric(clean) −
  metric(corrupt), for at m = 1 every receiver reads the clean run and at m = 0 the corrupted one (masks as in Miller et
  al. 2024).
* ``activation``: the embedding, the heads of a layer, or the MLP of a layer are moved from corrupt to clean, all else of the
  side that is run recomputed. An identity for each group: its edges add up to the effect of exchanging the group.
  Published code (Hanna et al. 2024) averages the slopes over the paths of all groups instead (``over="all"``), where no
  slope passes through the group that is held on its path: then nothing adds up, and early edges lose most.
* ``input``: the embeddings move from corrupt to clean; an edge scores its sender's recorded difference times the mean slope
  at its receiver (Hanna et al. 2024, EAP-IG inputs). The edges of the embedding add up to metric(clean) − metric(corrupt),
  those of other senders to nothing in particular; the residual is that of the embedding's edges.

At the ends of the mask path the slopes are edge attribution patching's: at m = 1 with the clean side live (noising), at
m = 0 with the corrupted side live (denoising). That holds to the last digit without post-norms; behind one, the mask path
splits what a layer's heads change together by the secant of the norm, as a derivative's parts would not add up.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from interp.core.registry import unknown
from interp.engine.edge_attribution import check_options, places_of, products, provenance
from interp.engine.edge_runs import Graph, Key, Slopes, Written, graph_of, run_graph
from interp.engine.edges import EdgeScores
from interp.engine.edits import Edit
from interp.engine.path_integral import Evaluate, PathIntegral, Point, check, integrate, warn_if_incomplete
from interp.engine.prompts import Prompts, chunks, side, sides
from interp.models.sites import Site
from interp.tasks.metrics import Metric, metric_of

PATHS = ("mask", "activation", "input")
MEMORY = 2**29
"""Bytes that the slopes of all points of the paths may take at once; more prompts are worked on in turn."""


def integrated_edges(model: Any, batch: Any, path: Literal["mask", "activation", "input"] = "mask", *,
                     direction: Literal["noising", "denoising"] = "noising", metric: str | Metric | None = None,
                     steps: int = 8, tolerance: float | None = 0.01, budget: int = 64,
                     rule: Literal["trapezoid", "left", "right"] = "trapezoid", over: Literal["own", "all"] = "own",
                     positions: str | tuple[str, ...] | None = None, batch_size: int | None = None) -> EdgeScores:
    """Integrated gradients of every edge (see the module): ``values[edge, prompt]``, larger = matters more.

    ``notes`` hold per prompt ``difference`` (what the scores of a path should add up to, ``activation``: of all groups),
    ``residual`` (their sum less that; for ``activation`` absolute and summed over groups), ``evaluations`` (gradients spent)
    and ``complete`` (bool).

    Args:
        direction: the side that is run: clean (``noising``) or corrupted (``denoising``). The same for the input path.
        steps, tolerance, budget, rule: as for ``interp.engine.path_integral.integrate``; per path and prompt. A tolerance of
            None takes ``steps`` and no more; a budget that is spent warns.
        over: for ``activation``: slopes along a sender's own path, or the mean over the paths of all groups.
        positions: parts of places besides, as for ``edge_attribution``; the path is that of all tokens.

    Raises:
        InterpError: unaligned prompts; a metric without gradient; an architecture without known reading points.
    """
    if path not in PATHS:
        raise unknown("path of integrated gradients", str(path), list(PATHS))
    if over not in ("own", "all"):
        raise unknown("way of averaging over paths", str(over), ["own", "all"])
    check_options(batch, direction)
    check(steps, tolerance, budget, rule)
    graph, measured = graph_of(model), batch.metric if metric is None else metric_of(metric)
    on = "clean" if direction == "noising" else "corrupt"
    points = steps + 1 if tolerance is None else budget
    tokens = places_of(side(sides(model, batch), on), positions)
    most = max(1, MEMORY // (4 * len(graph.edges) * points * (1 + len(tokens))))
    values, notes = np.empty((1 + len(tokens), len(graph.edges), batch.n)), {}
    baselines = {"clean": np.empty(batch.n), "corrupt": np.empty(batch.n)}
    made: list[PathIntegral] = []
    pieces = chunks(model, side(sides(model, batch), on), batch_size, graph=True)
    for rows in (some for piece in pieces for some in piece.split(most)):
        part = _part(graph, batch.subset(rows.tolist()), measured, on, [mask[rows] for mask in tokens.values()])
        found = [integrate(evaluate, len(rows), steps=steps, tolerance=tolerance, budget=budget, rule=rule,
                           finest=2 * torch.finfo(part.runs["clean"].embed.dtype).eps)
                 for evaluate in part.paths(path, over)]
        made += found
        share = len(found) if path == "activation" and over == "all" else 1
        scored = (part.spread(k, np.moveaxis(one.parts, 0, -1), path, over) for k, one in enumerate(found))
        values[..., rows.numpy()] = sum(scored) / share
        for name, run in part.runs.items():
            baselines[name][rows.numpy()] = run.metric.numpy()
        for name, joined in (("difference", sum(one.difference for one in found)), ("residual", _residual(found)),
                             ("evaluations", sum(one.evaluations for one in found)),
                             ("complete", np.all([one.complete for one in found], axis=0))):
            notes.setdefault(name, np.empty(batch.n, dtype=joined.dtype))[rows.numpy()] = joined
    warn_if_incomplete(_joined(made), tolerance, budget, f"integrated gradients of edges along the {path} path")
    options = {"path": path, "direction": direction, "steps": steps, "tolerance": tolerance, "budget": budget, "rule": rule,
               "over": over}
    options |= {} if positions is None else {"positions": positions}
    asked = provenance(model, batch, "integrated_edges", options, measured, direction, baselines)
    return EdgeScores(graph.edges, values[0], asked, baselines, notes, dict(zip(tokens, values[1:], strict=True)))


@dataclass(frozen=True)
class _Part:
    """Some prompts with both recorded runs."""

    graph: Graph
    batch: Any
    metric: Any
    on: str
    prompts: Mapping[str, Prompts]
    runs: Mapping[str, Written]
    tokens: Sequence[Tensor]

    def paths(self, path: str, over: str) -> Iterator[Evaluate]:
        """What each path of that kind evaluates."""
        if path == "mask":
            yield self.along_mask
        elif path == "input":
            yield self.along(self.groups()[0], everything=True)
        else:
            for group in self.groups():
                yield self.along(group, everything=over == "all")

    def groups(self) -> list[tuple[Site, np.ndarray]]:
        """The embedding, the heads of each layer and the MLP of each layer: where they write, and their edges."""
        edges, found = self.graph.edges, []
        kind, layer = edges.senders.kind[edges.sender], edges.senders.layer[edges.sender]
        found.append((self.graph.site("resid_pre", 0), np.flatnonzero(kind == 0)))
        for at in range(edges.n_layers):
            found.append((self.graph.site("z", at), np.flatnonzero((kind == 1) & (layer == at))))
            if self.graph.readers.mlp[at] is not None:
                found.append((self.graph.site("mlp_write", at), np.flatnonzero((kind == 2) & (layer == at))))
        return found

    def spread(self, k: int, parts: np.ndarray, path: str, over: str) -> np.ndarray:
        """Scores of the k-th path's edges [whole and places, edge, prompt] among those of all edges."""
        if path != "activation" or over == "all":
            return parts
        values = np.zeros((len(parts), len(self.graph.edges), parts.shape[2]))
        values[:, self.groups()[k][1]] = parts
        return values

    def written(self, site: Site, run: Written) -> Tensor:
        """What a group wrote in a run."""
        return {"resid_pre": lambda: run.embed, "z": lambda: run.z[site.layer],
                "mlp_write": lambda: run.mlp[site.layer]}[site.what]()

    def along_mask(self, rows: np.ndarray, at: np.ndarray) -> Point:
        """One point of the mask path."""
        taken, other = torch.from_numpy(rows), "corrupt" if self.on == "clean" else "clean"
        there = _take(self.runs[other], taken)

        def mix(key: Key, live: Tensor) -> Tensor:
            level = torch.as_tensor(at, dtype=live.dtype, device=live.device)[:, None, None]
            clean, corrupt = (live, there.streams[key]) if self.on == "clean" else (there.streams[key], live)
            return level * clean + (1 - level) * corrupt

        here, slopes = run_graph(self.graph, self.prompts[self.on].take(taken), self.batch.subset(rows.tolist()),
                                 self.metric, slopes=True, mix=mix)
        clean, corrupt = (here, there) if self.on == "clean" else (there, here)
        scores = self.scored(taken, clean, corrupt, here, slopes, secant=True)
        return Point(here.metric.numpy(), _kept(scores, here), scores[0].sum(0).numpy())

    def scored(self, rows: Tensor, clean: Written, corrupt: Written, at: Written, slopes: Slopes, *, secant: bool = False
               ) -> Tensor:
        """Products over all tokens, then over those of each place: [whole and places, edge, n]."""
        return torch.stack([products(self.graph, clean, corrupt, at, slopes, secant=secant, tokens=tokens)
                            for tokens in (None, *(mask[rows] for mask in self.tokens))])

    def along(self, group: tuple[Site, np.ndarray], everything: bool) -> Evaluate:
        """What a group wrote moves from corrupt to clean; scores of its edges, or with those slopes of all edges."""
        site, own = group
        clean, corrupt = (self.written(site, self.runs[name]) for name in ("clean", "corrupt"))

        def evaluate(rows: np.ndarray, at: np.ndarray) -> Point:
            taken = torch.from_numpy(rows)

            def enter(x: Tensor) -> Tensor:
                level = torch.as_tensor(at, dtype=x.dtype, device=x.device).reshape(-1, *[1] * (x.dim() - 1))
                return (level * clean[taken] + (1 - level) * corrupt[taken]).reshape(x.shape).to(x.dtype)

            edits: dict[Site, Edit] = {site: enter}
            here, slopes = run_graph(self.graph, self.prompts[self.on].take(taken), self.batch.subset(rows.tolist()),
                                     self.metric, slopes=True, edits=edits)
            ends = (_take(self.runs[name], taken) for name in ("clean", "corrupt"))
            scores = self.scored(taken, *ends, here, slopes)
            rate = scores[0, own].sum(0).numpy()
            return Point(here.metric.numpy(), _kept(scores if everything else scores[:, own], here), rate)

        return evaluate


def _part(graph: Graph, batch: Any, metric: Any, on: str, tokens: Sequence[Tensor]) -> _Part:
    prompts = sides(graph.model, batch)
    runs = {name: run_graph(graph, prompts[name], batch, metric, slopes=False)[0] for name in ("clean", "corrupt")}
    return _Part(graph, batch, metric, on, prompts, runs, tokens)


def _kept(scores: Tensor, of: Written) -> np.ndarray:
    """Scores of one point as they are kept: [prompt, whole and places, edge], as precise as the run was."""
    return scores.movedim(-1, 0).to(torch.promote_types(of.embed.dtype, torch.float32)).numpy()


def _take(run: Written, rows: Tensor) -> Written:
    """Some prompts of a recorded run."""
    def pick(x: Tensor | None) -> Tensor | None:
        return None if x is None else x[rows.to(x.device)]

    return replace(run, metric=pick(run.metric), embed=pick(run.embed), z=tuple(map(pick, run.z)),
                   mlp=tuple(map(pick, run.mlp)), attn_out=tuple(map(pick, run.attn_out)),
                   streams={key: pick(x) for key, x in run.streams.items()})


def _residual(found: Sequence[PathIntegral]) -> np.ndarray:
    return found[0].residual if len(found) == 1 else sum(np.abs(one.residual) for one in found)


def _joined(found: Sequence[PathIntegral]) -> PathIntegral:
    """Paths end to end, for what there is to say of them."""
    rest = (np.concatenate([getattr(one, name) for one in found])
            for name in ("difference", "residual", "evaluations", "complete"))
    return PathIntegral(found[0].parts, *rest)
