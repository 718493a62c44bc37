"""``cascade``: one pass up the layers for many lists of interventions, each of which enters where it first acts.

A row is one list on one prompt. It enters at the first layer where something in its list acts, with the untouched residual
stream of its prompt there, from the pass' first position on; so all layers' interventions share the layers above. What is
changed inside attention only is followed through z (``interp.engine.entering``), and costs the block's MLP at the positions
that it changes; the layer above then makes queries, keys and values at these positions only. In the last layer only the
position is computed at which the answer is read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.engine.effects import Table
from interp.engine.entering import entering, packed_edits
from interp.engine.ground import Ground
from interp.engine.intervention import Intervention

ByLayer = Sequence[Mapping[int, Sequence[Intervention]]]
"""Of each list: layer -> its interventions there."""


@dataclass(frozen=True)
class Rows:
    """The rows of one pass, or of several.

    Attributes:
        lists, prompts: which list, and which of the ground's prompts.
        layer: where they enter.
        first: the first position that anything changes; ``stop``: behind the last one that the entering layer changes.
    """

    lists: np.ndarray
    prompts: np.ndarray
    layer: np.ndarray
    first: np.ndarray
    stop: np.ndarray

    @classmethod
    def of(cls, table: Table, lists: np.ndarray, prompts: np.ndarray) -> "Rows":
        """Those of a table."""
        return cls(lists, prompts, *(x[lists, prompts] for x in (table.layer, table.first, table.stop)))

    @property
    def n(self) -> int:
        """How many rows."""
        return len(self.lists)

    @property
    def start(self) -> int:
        """The first position that a pass with these rows computes."""
        return int(self.first.min())

    def take(self, which: np.ndarray) -> "Rows":
        """Some of the rows."""
        return Rows(*(x[which] for x in (self.lists, self.prompts, self.layer, self.first, self.stop)))


@dataclass(frozen=True)
class Group:
    """Rows that go through a layer in one call.

    Attributes:
        which: their places in the pass.
        hidden: the residual stream that they have, [row, position, d_model].
        changed: how many of its first positions may differ from the untouched run.
    """

    which: np.ndarray
    hidden: Tensor
    changed: int


def cascade(resume: Any, ground: Ground, lists: ByLayer, rows: Rows, read: Tensor | None) -> Tensor:
    """The residual stream behind the last block.

    Args:
        rows: sorted by the layer where they enter.
        read: the position of each row that is wanted, counted from ``rows.start``; None for all.

    Returns:
        [row, 1, d_model], or [row, position from ``rows.start`` on, d_model].
    """
    device = ground.recording.resid(0).device
    prompts = torch.from_numpy(rows.prompts).to(device)
    start, length = rows.start, ground.length - rows.start
    groups: list[Group] = []
    for layer in range(int(rows.layer.min()), resume.n_layers):
        last = read if layer == resume.n_layers - 1 else None
        done: list[Group] = []
        for group in groups:
            edited = np.array([layer in lists[i] for i in rows.lists[group.which]])
            for part in _split(group, edited):
                at = prompts[_index(part[0].which, device)]
                if part[1]:
                    made = packed_edits(ground, lists, layer, rows.lists[part[0].which], at, start)
                    hidden = resume.block(layer, part[0].hidden, at, start, ground.recording, made)
                    hidden = hidden if last is None else _at(hidden, last[_index(part[0].which, device)])
                else:
                    wanted = None if last is None else last[_index(part[0].which, device)]
                    hidden = resume.through(layer, part[0].hidden, at, start, ground.recording, part[0].changed, wanted)
                done.append(Group(part[0].which, hidden, length))
        new = np.flatnonzero(rows.layer == layer)
        done += [Group(new[at], hidden, changed) for at, hidden, changed in
                 entering(resume, ground, lists, layer, rows.take(new), start, prompts[_index(new, device)],
                          None if last is None else last[_index(new, device)])] if len(new) else []
        groups = _joined(done, length)
    return _ordered(groups, device)


def _split(group: Group, edited: np.ndarray) -> list[tuple[Group, bool]]:
    """The rows of a group that no intervention touches in this layer, and those that one does."""
    if edited.all() or not edited.any():
        return [(group, bool(edited[0]))]
    found = []
    for which, is_edited in ((np.flatnonzero(~edited), False), (np.flatnonzero(edited), True)):
        found.append((Group(group.which[which], group.hidden[_index(which, group.hidden.device)], group.changed), is_edited))
    return found


def _joined(groups: list[Group], length: int) -> list[Group]:
    """The groups that are changed everywhere as one, the others as they are."""
    whole = [group for group in groups if group.changed == length]
    others = [group for group in groups if group.changed < length]
    if len(whole) > 1:
        whole = [Group(np.concatenate([g.which for g in whole]), torch.cat([g.hidden for g in whole]), length)]
    return whole + others


def _ordered(groups: list[Group], device: torch.device) -> Tensor:
    hidden = torch.cat([group.hidden for group in groups]) if len(groups) > 1 else groups[0].hidden
    which = np.concatenate([group.which for group in groups])
    return hidden if (np.diff(which) == 1).all() else hidden[_index(which.argsort(), device)]


def _at(hidden: Tensor, read: Tensor) -> Tensor:
    return hidden[torch.arange(len(read), device=read.device), read][:, None]


def _index(which: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(which).to(device)
