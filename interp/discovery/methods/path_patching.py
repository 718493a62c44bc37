"""Path patching: what a sender does through the inputs of some receivers, in the three published variants."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.core.head import Head
from interp.discovery.method import method
from interp.discovery.node_scores import NodeScores
from interp.discovery.step_bar import step_bar
from interp.engine.edge_attribution import check_options, provenance
from interp.engine.edge_runs import Graph, graph_of
from interp.engine.edges import SENDERS, Edges
from interp.engine.forward import answer_logits, measured
from interp.engine.prompts import Prompts, chunks, selected, side, sides
from interp.engine.running import Running, running_of
from interp.models.sites import Site
from interp.tasks.metrics import Metric, metric_of

EMBED, HEAD, MLP = range(len(SENDERS))
SITES = {"q": "q_pre", "k": "k_pre", "v": "v"}


@method(
    level="nodes",
    sense="larger = matters more: what the sender takes away (noising) or brings back (denoising) through these receivers",
    formula="noising: metric(clean) − metric(clean, receivers ← what they read when the sender writes what it writes in the "
            "corrupted run and all other heads are frozen); denoising: the same with the runs exchanged, negated",
    source="frozen='outputs': Wang et al. 2022, appendix B; 'qkv': their code (Easy-Transformer); 'position': Merullo et "
           "al. 2024 (circuit_reuse); paths as such: Goldowsky-Dill et al. 2023",
    does_not_show=(
        "Ways over other heads: these are frozen. With MLPs recomputed, which of them a path runs through. What receivers "
        "do to each other: each gets what it read while all of them were frozen."
    ),
    cost="two forward passes for each sender that lies below a receiver (one for the logits) and differs between the runs",
)
def path_patching(model: Any, batch: Any, *, receivers: str | tuple[str, ...] = "logits",
                  frozen: Literal["outputs", "qkv", "position"] = "outputs",
                  mlps: Literal["recomputed", "frozen"] = "recomputed",
                  direction: Literal["noising", "denoising"] = "noising",
                  positions: str | int | tuple[str | int, ...] | None = None,
                  receiver_positions: str | int | tuple[str | int, ...] | None = None, metric: str | Metric | None = None,
                  batch_size: int | None = None, progress: bool | None = None, running: Running | None = None) -> NodeScores:
    """Every head, MLP and the embedding as sender into a set of receivers: [sender, prompt] in units of the metric.

    For each sender: (1) one run of the prompts as they are, in which it writes what it writes in the other run of the pair,
    and heads are frozen; what the receivers read is kept. (2) A plain run in which the receivers read that, with everything
    behind them recomputed. For the logits the first run is the answer.

    What is frozen in the first run, with the values of the untouched run:

    * ``outputs``: z of every other head at every token;
    * ``qkv``: q, k and v of every head at every token. This freezes z too: both give the same numbers, up to rounding;
    * ``position``: z of every other head at ``positions`` alone. Of a decoder's last token it is the same once more; for
      earlier tokens, what the sender writes there may reach later ones through heads.

    The published score normalised to the whole difference is ``scores.mean() / (clean − corrupt)``, of the means of
    ``scores.baselines``. Merullo et al. leave out senders above the lowest receiver's layer, and the receivers themselves;
    here every sender below any receiver is scored, and one without a way has 0.

    Args:
        receivers: ``logits``, or heads: ``L9H9`` (its q, k and v), ``L9H9.q``. Keys and values that heads share are
            replaced for all of them.
        mlps: ``frozen``: at the same places as the heads; ``recomputed`` (all three publications' default): a path may run
            through MLPs.
        positions: where the sender is patched; None: all tokens (``position``: the last). Frozen there too by ``position``.
        receiver_positions: where receivers read what was kept; None: as ``positions``.

    Raises:
        InterpError: receivers that the model does not have, or logits among heads; unaligned prompts; senders that write the
            same in both runs; an architecture whose residual stream is no plain sum.
    """
    check_options(batch, direction)
    graph, how = graph_of(model), running_of(running, batch_size, progress)
    measured_by = batch.metric if metric is None else metric_of(metric)
    positions = "end" if positions is None and frozen == "position" else positions
    into = _receivers(graph, receivers)
    plan = _Plan(graph, into, frozen, mlps == "frozen", positions,
                 positions if receiver_positions is None else receiver_positions)
    on, source = ("clean", "corrupt") if direction == "noising" else ("corrupt", "clean")
    values = np.zeros((len(graph.edges.senders), batch.n))
    baselines, moved = {"clean": np.empty(batch.n), "corrupt": np.empty(batch.n)}, False
    with torch.no_grad(), step_bar("path patching", batch.n, how.progress) as tick:
        for rows in chunks(model, side(sides(model, batch), on), how.batch_size, held=plan.sites()):
            part = batch.subset(rows.tolist())
            runs = sides(model, part)
            ends = {name: model.run(runs[name].inputs, {}, plan.sites()) for name in (on, source)}
            for name, run in ends.items():
                baselines[name][rows.numpy()] = measured(answer_logits(run, runs[name]), part, measured_by)
            work = _Work(plan, runs[on], ends[on].captured, ends[source].captured)
            pairs = work.pairs()
            moved |= len(pairs) > 0
            for some in _split(model, work, pairs, how.batch_size):
                senders, at = some.T
                new = measured(work.patched(senders, at), part.subset(at.tolist()), measured_by)
                change = new - baselines[on][rows.numpy()[at]]
                values[senders, rows.numpy()[at]] = change if direction == "denoising" else -change
            tick(len(rows))
    if not moved:
        raise InterpError(f"patch paths into {', '.join((receivers,) if isinstance(receivers, str) else receivers)}",
                          "no sender below them writes anything else in the other run at a token from which a way leads "
                          "there",
                          "choose later receivers, other positions, or prompts that differ")
    made = provenance(model, batch, "path_patching", {}, measured_by, direction, baselines)
    return NodeScores(graph.edges, values, made, baselines)


def _receivers(graph: Graph, receivers: str | tuple[str, ...]) -> dict[Site, tuple[int, ...]]:
    """Which heads of each site receive; empty for the logits."""
    names = (receivers,) if isinstance(receivers, str) else tuple(receivers)
    if names == ("logits",):
        return {}
    if "logits" in names:
        raise InterpError("patch paths into heads and logits at once", "the logits already have all that heads do to them",
                          "ask for one after the other")
    edges, found = graph.edges, dict[Site, set[int]]()
    for name in names:
        text, _, what = name.partition(".")
        head = Head.parse(text)
        if what not in ("", *SITES) or not (head.layer < edges.n_layers and head.head < edges.n_heads):
            raise InterpError(f"patch paths into {name}", f"the model has {edges.n_layers} layers of {edges.n_heads} heads, "
                              "each with q, k and v", "write receivers as L9H9, L9H9.q or logits")
        for kind in (what,) if what else SITES:
            group = 1 if kind == "q" else edges.n_heads // edges.n_kv_heads
            found.setdefault(graph.site(SITES[kind], head.layer), set()).add(head.head // group)
    return {site: tuple(sorted(heads)) for site, heads in found.items()}


@dataclass(frozen=True, eq=False)
class _Plan:
    """What is asked for, whatever the prompts."""

    graph: Graph
    receivers: dict[Site, tuple[int, ...]]
    frozen: str
    mlps_frozen: bool
    positions: Any
    receiver_positions: Any

    @property
    def edges(self) -> Edges:
        return self.graph.edges

    def sites(self) -> list[Site]:
        """What is kept of the two untouched runs."""
        kinds = ["z", *(SITES.values() if self.frozen == "qkv" else ())]
        found = [self.graph.site(kind, layer) for layer in range(self.edges.n_layers) for kind in kinds]
        found += [self.graph.site("mlp_write", layer) for layer in self.with_mlp()]
        return [self.graph.site("resid_pre", 0), *found]

    def with_mlp(self) -> list[int]:
        """The layers that have an MLP."""
        return [layer for layer, reader in enumerate(self.graph.readers.mlp) if reader is not None]

    def below(self) -> np.ndarray:
        """The senders from which a way leads to a receiver."""
        top = max((site.layer for site in self.receivers), default=self.edges.n_layers)
        return np.flatnonzero(self.edges.senders.layer < top)


@dataclass(frozen=True, eq=False)
class _Work:
    """Some prompts, and what was kept of their two runs: ``here`` of the one that is run, ``there`` of the other."""

    plan: _Plan
    prompts: Prompts
    here: dict[Site, Tensor]
    there: dict[Site, Tensor]

    def _both(self, site: Site) -> tuple[Tensor, Tensor]:
        """[n, position, …] of both runs; MLPs of some networks see all tokens in one row."""
        length = self.prompts.mask.shape[1]
        found = [run[site] for run in (self.here, self.there)]
        here, there = (x if x.shape[:2] == self.prompts.mask.shape else x.reshape(-1, length, x.shape[-1]) for x in found)
        return here, there

    def pairs(self) -> np.ndarray:
        """The senders and prompts that have to be run, [pair, 2]: where the sender writes something else, at a token that
        receivers read. Where heads are frozen everywhere nothing passes from token to token."""
        chosen, senders = selected(self.prompts, self.plan.positions), self.plan.edges.senders
        if self.plan.frozen != "position":
            reads = selected(self.prompts, self.plan.receiver_positions) if self.plan.receivers else (
                torch.arange(chosen.shape[1], device=chosen.device) == self.prompts.answer[:, None])
            chosen = chosen & reads
        found = []
        for sender in self.plan.below():
            kind, layer = int(senders.kind[sender]), int(senders.layer[sender])
            here, there = self._both(self.plan.graph.site(*_written(kind, layer)))
            differs = (here != there)[:, :, senders.head[sender]] if kind == HEAD else here != there
            at = (differs.any(-1) & chosen).any(1).nonzero()[:, 0].cpu().numpy()
            found.append(np.stack([np.full(len(at), sender), at], axis=1))
        return np.concatenate(found)

    def patched(self, senders: np.ndarray, at: np.ndarray) -> Tensor:
        """Logits of the answer with the paths from these senders patched, of these prompts: [pair, vocabulary]."""
        graph, prompts = self.plan.graph, self.prompts.take(torch.from_numpy(at))
        seen: dict[Site, Tensor] = {}
        run = graph.model.run(prompts.inputs, self._first(senders, prompts, torch.from_numpy(at), seen), ())
        if self.plan.receivers:
            chosen = selected(prompts, self.plan.receiver_positions)
            second = {site: _put(chosen[:, :, None] & _one_of(heads, seen[site].shape[2], chosen), seen[site])
                      for site, heads in self.plan.receivers.items()}
            run = graph.model.run(prompts.inputs, second, ())
        return answer_logits(run, prompts)

    def _first(self, senders: np.ndarray, prompts: Prompts, at: Tensor, seen: dict[Site, Tensor]) -> dict[Site, Any]:
        """The edits of the run in which senders are patched and heads frozen; ``seen`` gets what the receivers read."""
        plan, nodes, chosen = self.plan, self.plan.edges.senders, selected(prompts, self.plan.positions)
        everywhere = torch.ones_like(chosen)
        stands = chosen if plan.frozen == "position" else everywhere
        layer, kind, head = (torch.from_numpy(x[senders]).to(chosen.device) for x in (nodes.layer, nodes.kind, nodes.head))
        changes: dict[Site, Any] = {}

        def edit(site: Site, held: Tensor | None, sends: Tensor) -> None:
            """Freeze where ``held``, then let the senders write what they write in the other run."""
            here, there = (x[at.to(x.device)] for x in self._both(site))

            def change(x: Tensor) -> Tensor:
                new = x.reshape(here.shape)
                new = new if held is None else torch.where(_wide(held, new), here, new)
                return torch.where(_wide(sends, new), there, new).reshape(x.shape)

            changes[site] = change

        edit(plan.graph.site("resid_pre", 0), None, chosen & (kind == EMBED)[:, None])
        for i in range(plan.edges.n_layers):
            heads = torch.arange(plan.edges.n_heads, device=chosen.device)
            sends = chosen[:, :, None] & ((kind == HEAD) & (layer == i))[:, None, None] & (head[:, None, None] == heads)
            edit(plan.graph.site("z", i), None if plan.frozen == "qkv" else stands, sends)
        for i in plan.with_mlp():
            edit(plan.graph.site("mlp_write", i), stands if plan.mlps_frozen else None,
                 chosen & ((kind == MLP) & (layer == i))[:, None])
        frozen = {plan.graph.site(what, i) for what in SITES.values() for i in range(plan.edges.n_layers)
                  } if plan.frozen == "qkv" else set()
        for site in frozen | set(plan.receivers):
            changes[site] = _kept(seen, site, self.here[site][at.to(self.here[site].device)] if site in frozen else None)
        return changes


def _written(kind: int, layer: int) -> tuple[str, int]:
    return {EMBED: ("resid_pre", 0), HEAD: ("z", layer), MLP: ("mlp_write", layer)}[kind]


def _kept(seen: dict[Site, Tensor], site: Site, frozen: Tensor | None) -> Callable[[Tensor], Tensor]:
    """An edit that keeps what arrives at a site, and freezes it."""
    def change(x: Tensor) -> Tensor:
        seen[site] = x.clone()
        return x if frozen is None else frozen

    return change


def _put(where: Tensor, new: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: torch.where(_wide(where, x), new, x)


def _wide(where: Tensor, x: Tensor) -> Tensor:
    return where.reshape(*where.shape, *[1] * (x.dim() - where.dim()))


def _one_of(heads: tuple[int, ...], n: int, like: Tensor) -> Tensor:
    """Which of ``n`` heads are among these, bool [head]."""
    found = torch.zeros(n, dtype=torch.bool, device=like.device)
    found[list(heads)] = True
    return found


def _split(model: Any, work: _Work, pairs: np.ndarray, batch_size: int | None) -> list[np.ndarray]:
    """Pairs of sender and prompt that share a pass."""
    if not len(pairs):
        return []
    rows = work.prompts.take(torch.from_numpy(pairs[:, 1]))
    return [pairs[some.numpy()] for some in chunks(model, rows, batch_size)]
