"""The intervention of Merullo et al. 2024: attention of inhibition heads and negative movers on the wrong answers.

The last row of attention of these heads is set to the wrong answers' places in equal parts, 0 elsewhere, as the paper does
it; and, for contrast, to the right one's. *An oracle edit*: it is told the answer.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from interp.core.errors import InterpError
from interp.core.head import Head
from interp.core.intervals import bootstrap
from interp.discovery.candidates import candidates, place
from interp.engine.forward import run
from interp.engine.intervention import Intervention, RowEdit
from interp.models.sites import Site
from interp.tasks.batch import Batch
from interp.tasks.metrics import metric_of


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


def movers_table(model: Any, batch: Batch, spans: Mapping[str, Sequence[str]], edited: Sequence[Head], movers: Sequence[Head]
            ) -> pd.DataFrame:
    """Attention from the last token to right and wrong places, a row per mover and edit; edited heads are left out."""
    rows = []
    watched = [head for head in movers if head not in edited]
    sites = {head: Site("pattern", head.layer, head.attention) for head in watched}
    end, at = batch.clean.last.cpu(), torch.arange(batch.n)
    for edit, changes in (("none", ()), *((f"to the {edit}", row_edits(edited, names)) for edit, names in spans.items())):
        found = run(model, batch, changes, set(sites.values()), may_be_identity=True).captured
        for head, site in sites.items():
            row = found[site].cpu()[at, head.head, end]
            places = {kind: sum(row[at, batch.span(name)[:, 0].cpu()] for name in names) for kind, names in spans.items()}
            rows.append({"head": str(head), "edit": edit} | {f"on {kind}": float(x.mean()) for kind, x in places.items()})
    return pd.DataFrame(rows, columns=["head", "edit", *(f"on {kind}" for kind in spans)])


def placed(batch: Batch) -> tuple[Batch, dict[str, tuple[str, ...]]]:
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
    found = candidates(batch)
    spans = {name: found.batch.spans[name] for name in (place("right", 0), place("other", 0))}
    return replace(batch, spans=dict(batch.spans) | spans, corrupt_spans=dict(batch.corrupt_spans) | spans), {
        "wrong": (place("other", 0),), "right": (place("right", 0),)}
