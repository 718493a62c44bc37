"""The heads of a task by path patching, stage by stage, with roles from the stages and the signs alone."""

from math import ceil
from typing import Any

import numpy as np
import pandas as pd

from interp.core.circuit import Circuit, Node
from interp.core.head import Head
from interp.discovery.graph import edges_of
from interp.discovery.method import discover
from interp.discovery.shape import shape_of
from interp.tasks.batch import Batch

STAGES: tuple[tuple[str, tuple[str, ...]], ...] = (("logits", ()), ("queries", ("q",)), ("keys and values", ("k", "v")))
"""What senders are looked for into: the logits, then these inputs of the heads of the stage before."""


def stages_of(model: Any, batch: Batch, name: str, *, share: float = 0.02, at_least: int = 8,
              smallest: float = 0.01, progress: bool | None = None) -> tuple[Circuit, pd.DataFrame]:
    """The heads of one task by path patching stage by stage, with roles, and the table of their effects.

    A stage that finds nobody is passed over: the next one asks about the heads that were found last.
    """
    edges = edges_of(model)
    keep = max(at_least, ceil(share * edges.n_layers * edges.n_heads))
    receivers: tuple[str, ...] = ("logits",)
    roles: dict[Node, str] = {}
    rows: list[dict[str, Any]] = []
    for stage, (into, inputs) in enumerate(STAGES):
        if stage:
            last = [row["head"] for row in rows if row["stage"] == (rows[-1]["stage"] if rows else "")]
            receivers = tuple(f"{head}.{letter}" for head in last for letter in inputs if Head.parse(head).layer > 0)
            if not receivers:
                continue
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
