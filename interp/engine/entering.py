"""How rows enter a pass: what the first layer in which a list of interventions acts makes of the untouched run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.engine.edits import Edit, Record, applied, edits
from interp.engine.effects import look_key
from interp.engine.ground import Ground, from_position, given
from interp.engine.intervention import Intervention
from interp.models.sites import PER_KV_HEAD, Site

Entered = Iterator[tuple[np.ndarray, Tensor, int]]
"""Some of the rows, their residual stream behind the layer, and how many of its first positions are changed."""


def entering(resume: Any, ground: Ground, lists: Sequence[Mapping[int, Sequence[Intervention]]], layer: int, rows: Any,
             start: int, prompts: Tensor, read: Tensor | None) -> Entered:
    """The rows that enter at a layer, behind it: [row, position from ``start`` on, d_model].

    Args:
        prompts: which of the ground's prompts each row has.
        read: the one position of each row that is wanted (counted from ``start``), in the last layer.
    """
    through_z = np.array([resume.within({item.site for item in lists[i][layer]}) for i in rows.lists])
    for which, within in ((np.flatnonzero(through_z), True), (np.flatnonzero(~through_z), False)):
        if not len(which):
            continue
        at = torch.from_numpy(which).to(prompts.device)
        wanted = None if read is None else read[at]
        make = _through_z if within else _whole
        yield (which, *make(resume, ground, lists, layer, rows.take(which), start, prompts[at], wanted))


def _whole(resume: Any, ground: Ground, lists: Any, layer: int, rows: Any, start: int, prompts: Tensor,
           read: Tensor | None) -> tuple[Tensor, int]:
    """The block run on the untouched residual stream, with the edits in it."""
    made = packed_edits(ground, lists, layer, rows.lists, prompts, start)
    before = ground.recording.resid(layer)[:, start:].index_select(0, prompts)
    hidden = resume.block(layer, before, prompts, start, ground.recording, made)
    if read is not None:
        return hidden[torch.arange(len(read), device=read.device), read][:, None], 1
    return hidden, hidden.shape[1]


def _through_z(resume: Any, ground: Ground, lists: Any, layer: int, rows: Any, start: int, prompts: Tensor,
               read: Tensor | None) -> tuple[Tensor, int]:
    """The change of the attention's output added to it, and the rest of the block run where there is one."""
    first, stop = start, int(rows.stop.max())
    uniform = read is not None and bool((read == read[0]).all())
    if uniform:
        first = start + int(read[0])
        stop = first + 1
    changes = _changes(resume, ground, lists, layer, rows, start, prompts, first, stop)
    change = changes[0] if len(changes) == 1 else torch.cat(changes)
    after = resume.apart[layer].written(layer, change, prompts, first, ground.recording)
    if uniform:
        return after, 1
    untouched = ground.recording.resid(layer + 1)
    if stop < ground.length:
        after = torch.cat([after, untouched[:, stop:].index_select(0, prompts)], 1)
    if read is not None:
        return after[torch.arange(len(read), device=read.device), read][:, None], 1
    return after, stop - first


def _changes(resume: Any, ground: Ground, lists: Any, layer: int, rows: Any, start: int, prompts: Tensor, first: int,
             stop: int) -> list[Tensor]:
    """By how much each list changes the attention's output at the positions [first, stop), in the order of the rows."""
    apart = resume.apart[layer]
    clean = ground.recording.heard[apart.place.core].z
    edges = np.flatnonzero(np.diff(rows.lists)) + 1
    spans = list(zip([0, *edges.tolist()], [*edges.tolist(), rows.n], strict=True))
    simple = {number for number in set(rows.lists.tolist()) if _is_simple(lists[number][layer])}
    followed = np.array([number not in simple for number in rows.lists])
    z, place = None, np.cumsum(followed) - 1
    if followed.any():
        at = torch.from_numpy(np.flatnonzero(followed)).to(prompts.device)
        made = packed_edits(ground, lists, layer, rows.lists[followed], prompts[at], start)
        z = apart.heads(made, prompts[at], start, ground.recording)[:, first - start:stop - start]
    found = []
    for begin, end in spans:
        items, own = lists[rows.lists[begin]][layer], prompts[begin:end]
        if not followed[begin]:
            heads = _run(items[0].heads)
            moved = _moved(ground, items[0], clean)[:, first:stop, heads].index_select(0, own)
        else:
            heads = _heads(items, apart.place.n_heads // apart.place.n_kv_heads)
            new = z[place[begin]:place[end - 1] + 1][:, :, heads]
            moved = new - clean[:, first:stop, heads].index_select(0, own)
        found.append(apart.output(moved, heads))
    return found


def _run(heads: Sequence[int] | None) -> slice | list[int]:
    """Heads as an index: a slice where they follow one another, for which nothing is copied."""
    if heads is None:
        return slice(None)
    found = list(heads)
    return slice(found[0], found[-1] + 1) if found == list(range(found[0], found[-1] + 1)) else found


def _is_simple(items: Sequence[Intervention]) -> bool:
    """One intervention on z, whose value is the same whatever its heads."""
    return len(items) == 1 and items[0].what == "z" and given(items[0]) is None


def _moved(ground: Ground, item: Intervention, clean: Tensor) -> Tensor:
    """By how much the intervention would change z if it had all heads, for all of the ground's prompts."""
    key = ("moved", *look_key(item))
    if key not in ground.kept:
        if len(ground.kept) >= 32:
            ground.kept.clear()
        after, _ = applied(clean, ground.prompts, replace(item, heads=None), ground.source(item))
        ground.kept[key] = after - clean
    return ground.kept[key]


def _heads(items: Sequence[Intervention], group: int) -> Any:
    """The heads whose z these interventions may change."""
    if any(item.heads is None for item in items):
        return slice(None)
    found: set[int] = set()
    for item in items:
        found |= {head * group + i for head in item.heads for i in range(group)} if item.what in PER_KV_HEAD else \
            set(item.heads)
    return _run(sorted(found))


def packed_edits(ground: Ground, lists: Sequence[Mapping[int, Sequence[Intervention]]], layer: int, numbers: np.ndarray,
                 prompts: Tensor, start: int) -> dict[Site, Edit]:
    """The edits of a layer for rows of many lists: each list's interventions on its own rows.

    Args:
        numbers: the list of each row; ``prompts`` its prompt.
    """
    at_site: dict[Site, list[tuple[Any, Edit]]] = {}
    for number in dict.fromkeys(numbers.tolist()):
        where = np.flatnonzero(numbers == number)
        mine: Any = slice(int(where[0]), int(where[-1]) + 1)
        if len(where) != mine.stop - mine.start:
            mine = torch.from_numpy(where).to(prompts.device)
        own = prompts[mine]
        items, sources = zip(*(from_position(item, ground.source(item), own, start) for item in lists[number][layer]),
                             strict=True)
        made = edits(ground.prompts.take(own), items, sources, [Record() for _ in items])
        for site, edit in made.items():
            at_site.setdefault(site, []).append((mine, edit))
    return {site: packed(parts) for site, parts in at_site.items()}


def packed(parts: Sequence[tuple[Any, Edit]]) -> Edit:
    """One edit from several, each on its own rows (a slice or indices) of the tensor."""
    def edit(x: Tensor) -> Tensor:
        after = x.clone()
        for mine, change in parts:
            after[mine] = change(x[mine]).to(x.dtype)
        return after

    return edit
