"""Are the heads of one task's circuit those of another's? The study of Merullo, Eickhoff and Pavlick 2024, as one function.

    found = interp.discovery.reuse.reuse(model, {"ioi": one_batch, "colored_objects": other_batch})
    found.overlap                      # heads of both circuits that are the same, beside chance
    found.edits                        # attention of the first task's inhibition heads edited in the second: what happens

1. **Stages** (path patching): heads that write to the logits; heads that write to the *queries* of these; heads that write
   to keys and values of those. Of each stage the ``share`` of all heads with the largest effects, at least ``at_least``;
   none with less than ``smallest`` of the whole difference, which may leave a stage empty.
2. **Roles**, from the stages and the signs alone, no head is named in advance: ``mover`` (to the logits, for the answer),
   ``negative mover`` (against it), ``inhibition`` (to the movers' queries, for the answer), ``earlier``.
3. **Overlap** of the two circuits, with the chance of these sizes, also matched by layer.
4. **Edit**: in the second task the last row of attention of the first task's inhibition heads and negative movers is set to
   the wrong answers' places in equal parts, as the paper does it; and, for contrast, to the right one's. *An oracle edit*:
   it is told the answer, so it shows what heads can do, not how to repair a model. If these heads keep movers away from what
   they attend to, the first edit raises the metric and the second lowers it; random heads of the same layers do neither.

Where paper and this differ: heads are counted over all senders below a receiver, not below the lowest alone; receivers of
later stages are read at all tokens; the paper's own stages came from files that were not published.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np
import pandas as pd
import torch

from interp.core.circuit import Circuit, Node
from interp.core.errors import InterpError
from interp.core.head import Head
from interp.core.intervals import bootstrap
from interp.core.overlap import SetOverlap, overlap
from interp.core.universe import universe
from interp.discovery.graph import edges_of
from interp.discovery.method import discover
from interp.discovery.shape import shape_of
from interp.engine.forward import run
from interp.engine.intervention import Intervention, RowEdit
from interp.models.sites import Site
from interp.tasks.batch import Batch
from interp.tasks.metrics import metric_of

STAGES: tuple[tuple[str, tuple[str, ...]], ...] = (("logits", ()), ("queries", ("q",)), ("keys and values", ("k", "v")))
"""What senders are looked for into: the logits, then these inputs of the heads of the stage before."""


@dataclass(frozen=True, eq=False)
class Reuse:
    """What the study found.

    Attributes:
        circuits: task -> its heads with roles. stages: a row per task, stage and head with its effect (share of the whole
            difference between the runs, mean over prompts).
        overlap: of the two circuits' heads.
        edited: the heads whose attention was edited.
        edits: a row per edit (none, to the wrong places, to the right one; of these heads and of random ones) with accuracy
            over the whole vocabulary, the metric, and its mean change with an interval.
        movers: attention of the second task's movers from the last token to right and wrong places, before and after.
    """

    circuits: Mapping[str, Circuit]
    stages: pd.DataFrame
    overlap: SetOverlap
    edited: tuple[Head, ...]
    edits: pd.DataFrame
    movers: pd.DataFrame


def reuse(model: Any, batches: Mapping[str, Batch], *, share: float = 0.02, at_least: int = 2, smallest: float = 0.01,
          n_random: int = 5, test: Batch | None = None, seed: int = 0,
          progress: bool | None = None) -> Reuse:
    """The whole study on two tasks: circuits by stages, overlap, and the edit of the first's heads in the second.

    Args:
        batches: two tasks' prompts, aligned; the heads whose attention is edited come from the first.
        share, at_least, smallest: how many heads each stage keeps, and from which effect on (share of the difference
            between the runs). Without inhibition heads and negative movers there are no edits: the tables are empty.
        n_random: draws of as many random heads of the same layers.
        test: prompts of the second task for the edits; None: those that its circuit was found on.

    Raises:
        InterpError: not two tasks; a second task of which the places of answers are not known.
    """
    if len(batches) != 2:
        raise InterpError(f"study the reuse of heads in {len(batches)} tasks", "it is about one circuit in another task",
                          "give two tasks, the one whose heads are edited first")
    (first, one), (second, other) = batches.items()
    edited_in, spans = _placed(other if test is None else test)
    found = {name: stages_of(model, batch, name, share=share, at_least=at_least, smallest=smallest, progress=progress)
             for name, batch in ((first, one), (second, other))}
    circuits = {name: circuit for name, (circuit, _) in found.items()}
    among = universe(shape_of(edges_of(model)), "heads")
    edited = (*circuits[first].heads("inhibition"), *circuits[first].heads("negative mover"))
    edits = movers = pd.DataFrame()
    if edited:
        edits = edit_table(model, edited_in, spans, edited, n_random=n_random, seed=seed,
                           spared={head for circuit in circuits.values() for head in circuit.heads()})
        movers = _movers(model, edited_in, spans, edited, circuits[second].heads("mover"))
    return Reuse(circuits, pd.concat([table for _, table in found.values()], ignore_index=True),
                 overlap(circuits[first], circuits[second], among), edited, edits, movers)


def stages_of(model: Any, batch: Batch, name: str, *, share: float = 0.02, at_least: int = 2,
              smallest: float = 0.01, progress: bool | None = None) -> tuple[Circuit, pd.DataFrame]:
    """The heads of one task by path patching stage by stage, with roles, and the table of their effects."""
    edges = edges_of(model)
    keep = max(at_least, ceil(share * edges.n_layers * edges.n_heads))
    receivers: tuple[str, ...] = ("logits",)
    roles: dict[Node, str] = {}
    rows: list[dict[str, Any]] = []
    for stage, (into, inputs) in enumerate(STAGES):
        if stage:
            last = [row["head"] for row in rows if row["stage"] == STAGES[stage - 1][0]]
            receivers = tuple(f"{head}.{letter}" for head in last for letter in inputs if Head.parse(head).layer > 0)
            if not receivers:
                break
        scores = discover(model, batch, method="path_patching", receivers=receivers, progress=progress)
        whole = float((scores.baselines["clean"] - scores.baselines["corrupt"]).mean())
        effects = scores.heads().mean(-1) / whole
        order = np.argsort(-np.abs(effects), axis=None, kind="stable")[:keep]
        for place in order:
            layer, head = divmod(int(place), edges.n_heads)
            effect = float(effects[layer, head])
            if abs(effect) < smallest:
                continue
            role = ("mover" if effect > 0 else "negative mover", "inhibition" if effect > 0 else "earlier", "earlier")[stage]
            roles.setdefault(Node("head", layer, head), role)
            rows.append({"task": name, "stage": into, "head": str(Head(layer, head)), "role": role, "effect": effect})
    told = {"method": "path_patching", "stages": [into for into, _ in STAGES], "share": share, "at_least": at_least,
            "smallest": smallest,
            "task": batch.provenance_dict(), "model": model.provenance_dict(), "shape": shape_of(edges).record()}
    citation = "path patching stage by stage, after Merullo, Eickhoff and Pavlick 2024 (arXiv 2310.08744)"
    return Circuit(roles=roles, name=f"{name} in {model.name}", model=model.name, task=name, citation=citation,
                   provenance=told), pd.DataFrame(rows)


def edit_table(model: Any, batch: Batch, spans: Mapping[str, Sequence[str]], heads: Sequence[Head], *, n_random: int = 5,
               seed: int = 0, spared: Collection[Head] = ()) -> pd.DataFrame:
    """Accuracy and metric without an edit, with these heads' last rows edited, and with as many random ones' of the same
    layers (none of ``spared``, as long as there are others)."""
    if not heads:
        raise InterpError("edit the attention of inhibition heads", "no stage gave any", "raise at_least or share")
    stack, random = model.stack(None), np.random.default_rng(seed)
    sets = [("these heads", tuple(heads))]
    for _ in range(n_random):
        drawn: list[Head] = []
        for head in heads:
            free = [Head(head.layer, h) for h in range(stack.n_heads) if Head(head.layer, h) not in {*drawn, *heads}]
            others = [one for one in free if one not in spared] or free
            drawn.append(others[int(random.integers(len(others)))])
        sets.append(("random", tuple(drawn)))
    base = {name: _measured(model, batch, (), name) for name in ("accuracy", batch.metric.name)}
    rows = [{"heads": "none", "edit": "none", "accuracy": base["accuracy"].mean(),
             "metric": base[batch.metric.name].mean(), "change": 0.0, "low": 0.0, "high": 0.0, "who": ""}]
    for kind, chosen in sets:
        for edit, names in spans.items():
            changes = row_edits(chosen, names)
            new = {name: _measured(model, batch, changes, name) for name in base}
            change = new[batch.metric.name] - base[batch.metric.name]
            low, high = bootstrap(change[:, None])
            rows.append({"heads": kind, "edit": f"to the {edit}", "accuracy": new["accuracy"].mean(),
                         "metric": new[batch.metric.name].mean(), "change": change.mean(), "low": low[0], "high": high[0],
                         "who": ", ".join(map(str, chosen))})
    return pd.DataFrame(rows)


def row_edits(heads: Sequence[Head], spans: Sequence[str]) -> list[Intervention]:
    """The last row of each head's pattern set to these spans in equal parts, 0 elsewhere."""
    value = RowEdit({name: 1 / len(spans) for name in spans})
    return [Intervention.at(head, "pattern", value, positions="end") for head in heads]


def _measured(model: Any, batch: Batch, changes: Sequence[Intervention], name: str) -> np.ndarray:
    result = run(model, batch, changes, may_be_identity=True)
    values: np.ndarray = metric_of(name)(result.logits, batch).double().cpu().numpy()
    return values


def _movers(model: Any, batch: Batch, spans: Mapping[str, Sequence[str]], edited: Sequence[Head], movers: Sequence[Head]
            ) -> pd.DataFrame:
    """Attention from the last token to right and wrong places, a row per mover and edit; edited heads are left out."""
    rows = []
    watched = [head for head in movers if head not in edited]
    sites = {head: Site("pattern", head.layer, head.attention) for head in watched}
    end, at = batch.clean.last, torch.arange(batch.n)
    for edit, changes in (("none", ()), *((f"to the {edit}", row_edits(edited, names)) for edit, names in spans.items())):
        found = run(model, batch, changes, set(sites.values()), may_be_identity=True).captured
        for head, site in sites.items():
            row = found[site].cpu()[at, head.head, end]
            places = {kind: sum(row[at, batch.span(name)[:, 0].cpu()] for name in names) for kind, names in spans.items()}
            rows.append({"head": str(head), "edit": edit} | {f"on {kind}": float(x.mean()) for kind, x in places.items()})
    return pd.DataFrame(rows, columns=["head", "edit", *(f"on {kind}" for kind in spans)])


def _placed(batch: Batch) -> tuple[Batch, dict[str, tuple[str, ...]]]:
    """The batch with spans for the places of wrong and right answers, and the names of these."""
    if {"IO", "S1", "S2"} <= set(batch.spans):
        return batch, {"wrong": ("S2",), "right": ("IO",)}
    if {"color", "color_1", "color_2", "color_3"} <= set(batch.spans):
        listed = torch.stack([batch.spans[f"color_{i}"] for i in (1, 2, 3)], dim=1)      # [n, 3, 2]
        other = (listed != batch.spans["color"][:, None]).any(2)
        wrong = listed[other].reshape(batch.n, 2, 2)
        spans = {f"wrong color {i + 1}": wrong[:, i] for i in range(2)}
        placed = replace(batch, spans=dict(batch.spans) | spans, corrupt_spans=dict(batch.corrupt_spans) | spans,
                         moving=(*batch.moving, *spans))
        return placed, {"wrong": tuple(spans), "right": ("color",)}
    raise InterpError(f"edit attention to the answers of {batch.task}", "where these stand in its prompts is not known",
                      "use ioi or colored_objects as the second task")
