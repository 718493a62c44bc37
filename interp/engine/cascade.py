"""``cascade``: one pass up the layers for many lists of interventions, each of which enters where it first acts.

A row is one list on one prompt. It enters at the first layer where something in its list acts, with the untouched residual
stream of its prompt there, from the pass' first position on; so all layers' interventions share the layers above. Rows that
have entered earlier and are not edited in a layer go through it as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from interp.engine.edits import Edit, Record, edits
from interp.engine.ground import Ground, from_position
from interp.engine.intervention import Intervention
from interp.models.sites import Site

ByLayer = Sequence[Mapping[int, Sequence[Intervention]]]
"""Of each list: layer -> its interventions there."""


@dataclass(frozen=True)
class Rows:
    """The rows of one pass, in the order in which they enter (then by list).

    Attributes:
        lists, prompts: which list, and which of the ground's prompts.
        layer: where they enter.
        start: the first position that the pass computes.
    """

    lists: np.ndarray
    prompts: np.ndarray
    layer: np.ndarray
    start: int

    @property
    def n(self) -> int:
        """How many rows."""
        return len(self.lists)


def cascade(resume: object, ground: Ground, lists: ByLayer, rows: Rows) -> Tensor:
    """The residual stream behind the last block, [row, position from ``rows.start`` on, d_model]."""
    device = ground.recording.resid(0).device
    prompts = torch.from_numpy(rows.prompts).to(device)
    hidden = None
    for layer in range(int(rows.layer.min()), resume.n_layers):
        before, now = int((rows.layer < layer).sum()), int((rows.layer <= layer).sum())
        if now > before:
            entering = ground.recording.resid(layer)[:, rows.start:].index_select(0, prompts[before:now])
            hidden = entering if hidden is None else torch.cat([hidden, entering])
        edited = np.array([layer in lists[i] for i in rows.lists[:now]])
        if edited.all() or not edited.any():
            hidden = _through(resume, ground, lists, rows, layer, hidden, np.arange(now), prompts, bool(edited[0]))
            continue
        parts = []
        for which, is_edited in ((np.flatnonzero(~edited), False), (np.flatnonzero(edited), True)):
            at = torch.from_numpy(which).to(device)
            parts.append((at, _through(resume, ground, lists, rows, layer, hidden[at], which, prompts, is_edited)))
        hidden = torch.cat([part for _, part in parts])[torch.cat([at for at, _ in parts]).argsort()]
    return hidden


def _through(resume: object, ground: Ground, lists: ByLayer, rows: Rows, layer: int, hidden: Tensor, which: np.ndarray,
             prompts: Tensor, edited: bool) -> Tensor:
    """Some rows through one block."""
    at = prompts[torch.from_numpy(which).to(prompts.device)]
    made = packed_edits(ground, lists, layer, rows.lists[which], at, rows.start) if edited else None
    return resume.block(layer, hidden, at, rows.start, ground.recording, made)


def packed_edits(ground: Ground, lists: ByLayer, layer: int, numbers: np.ndarray, prompts: Tensor,
                 start: int) -> dict[Site, Edit]:
    """The edits of a layer for rows of many lists: each list's interventions on its own rows.

    Args:
        numbers: the list of each row; ``prompts`` its prompt.
    """
    at_site: dict[Site, list[tuple[Tensor, Edit]]] = {}
    for number in dict.fromkeys(numbers.tolist()):
        mine = torch.from_numpy(np.flatnonzero(numbers == number)).to(prompts.device)
        own = prompts[mine]
        items, sources = zip(*(from_position(item, ground.source(item), own, start) for item in lists[number][layer]),
                             strict=True)
        made = edits(ground.prompts.take(own), items, sources, [Record() for _ in items])
        for site, edit in made.items():
            at_site.setdefault(site, []).append((mine, edit))
    return {site: _packed(parts) for site, parts in at_site.items()}


def _packed(parts: Sequence[tuple[Tensor, Edit]]) -> Edit:
    def edit(x: Tensor) -> Tensor:
        after = x.clone()
        for mine, change in parts:
            after[mine] = change(x[mine]).to(x.dtype)
        return after

    return edit
