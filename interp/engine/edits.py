"""Interventions made into the backend's edits, and a record of which of them acted on which prompts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.intervention import (
    Add,
    AttendToFirst,
    Intervention,
    Mean,
    Replace,
    Resample,
    RowEdit,
    Scale,
    Uniform,
    Zero,
)
from interp.engine.prompts import Prompts, selected
from interp.engine.sources import Source
from interp.models.sites import PER_KV_HEAD, SQUARE, Site

ROUNDING = 16 * torch.finfo(torch.float32).eps
"""A change below this part of the largest selected entry is rounding, not an effect (in float64, 16 units of its own)."""
NEVER = -1e8
"""A score at or below this (or below half the least number of the type) is masked: its key is invisible."""

Edit = Callable[[Tensor], Tensor]


@dataclass
class Record:
    """Whether one intervention was reached, and on which prompts it changed something."""

    reached: bool = False
    changed: Tensor | None = None

    def note(self, changed: Tensor) -> None:
        """Count these prompts, [n] bool, as changed."""
        self.reached = True
        self.changed = changed if self.changed is None else self.changed | changed


def check(model: Any, interventions: Sequence[Intervention]) -> None:
    """Refuse an intervention that this model cannot have: unknown site, head out of range, query heads for k or v."""
    sites = model.backend.sites() if interventions else ()
    for item in interventions:
        stack = next((s for s in model.stacks if s.attention == item.attention), None)
        if stack is None or item.layer >= stack.n_layers or item.site not in sites:
            true = f"the model has no {item.attention} attention" if stack is None else f"the model has no {item.site}"
            here = sorted({s.what for s in sites if s.attention == item.attention and s.layer == item.layer})
            todo = (f"layers go from 0 to {stack.n_layers - 1}" if stack is not None and item.layer >= stack.n_layers else
                    "choose one of " + ", ".join(here) if here else "choose another attention")
            raise InterpError(str(item), true, todo)
        if item.what == "pattern" and needs_visible(item) and scores_of(item) not in sites:
            raise InterpError(str(item), "this model shows no scores, which say what a query can see", "use zero or scale")
        _check_heads(stack, item)


def _check_heads(stack: Any, item: Intervention) -> None:
    shared = item.what in PER_KV_HEAD
    count = stack.n_kv_heads if shared else stack.n_heads
    group = stack.n_heads // stack.n_kv_heads
    if item.unit == "kv_head" and not shared:
        raise InterpError(str(item), f"{item.what} has one part per query head", "leave unit out or say unit='head'")
    if shared and group > 1 and item.heads is not None and (item.unit == "head" or max(item.heads) >= count):
        head = max(item.heads)
        owner = f"query head {head} reads kv head {head // group}, which" if head < stack.n_heads else "each kv head"
        raise InterpError(str(item), f"{item.what} has {count} kv heads and {owner} serves a group of {group} query heads",
                          f"name kv heads 0 to {count - 1} (unit='kv_head')")
    if item.heads is not None and max(item.heads) >= count:
        raise InterpError(str(item), f"layer {item.layer} has {count} heads", f"name heads 0 to {count - 1}")


def edits(prompts: Prompts, interventions: Sequence[Intervention], sources: Sequence[Source | None],
          records: Sequence[Record]) -> dict[Site, Edit]:
    """The backend's edits for these interventions, in order at each site; ``records`` is filled as they run."""
    visible: dict[Site, Tensor] = {}
    steps: dict[Site, list[Edit]] = {}
    for item, source, record in zip(interventions, sources, records, strict=True):
        steps.setdefault(item.site, []).append(_step(prompts, item, source, record, visible))
    for scores in {scores_of(item) for item in interventions if item.what == "pattern" and needs_visible(item)}:
        steps.setdefault(scores, []).append(_observer(visible, scores))
    return {site: _chain(chain) for site, chain in steps.items()}


def _chain(chain: Sequence[Edit]) -> Edit:
    def edit(x: Tensor) -> Tensor:
        for step in chain:
            x = step(x)
        return x

    return edit


def scores_of(item: Intervention) -> Site:
    """The scores behind the intervention's pattern."""
    return Site("scores", item.layer, item.attention)


def _observer(visible: dict[Site, Tensor], scores: Site) -> Edit:
    def observe(x: Tensor) -> Tensor:
        visible[scores] = unmasked(x)
        return x

    return observe


def unmasked(scores: Tensor) -> Tensor:
    """Which keys each query can see, from masked scores."""
    return scores.detach() > max(torch.finfo(scores.dtype).min / 2, NEVER)


def needs_visible(item: Intervention) -> bool:
    """Whether the intervention has to know which keys each query can see."""
    return item.what in SQUARE and not isinstance(item.value, (Zero, Scale))


def _step(prompts: Prompts, item: Intervention, source: Source | None, record: Record,
          visible: Mapping[Site, Tensor]) -> Edit:
    def step(x: Tensor) -> Tensor:
        after, entries = applied(x, prompts, item, source, visible.get(scores_of(item)) if item.what == "pattern" else None)
        record.note(_changed(x, after, entries))
        return after

    return step


def applied(x: Tensor, prompts: Prompts, item: Intervention, source: Source | None,
            seen: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The tensor at the intervention's site after it, and which entries were meant (a mask that broadcasts against it).

    ``seen``: which keys each query can see, bool [n, head, query, key]; needed where the value of a pattern depends on it.
    """
    if item.what == "scores":
        seen = unmasked(x)
    elif not (item.what == "pattern" and needs_visible(item)):
        seen = None
    entries = _entries(x, prompts, item, seen)
    return torch.where(entries, _new(x, prompts, item, source, entries, seen).to(x.dtype), x), entries


def rounding(dtype: torch.dtype) -> float:
    """A change below this part of the largest selected entry is rounding in that type."""
    return min(ROUNDING, 16 * torch.finfo(dtype).eps)


def _changed(before: Tensor, after: Tensor, entries: Tensor) -> Tensor:
    """Which prompts have a selected entry that differs by more than rounding, [n] bool."""
    before, after = before.detach(), after.detach()
    moved = torch.where(entries, (after - before).abs(), 0).flatten(1).amax(dim=1)
    size = torch.where(entries, torch.maximum(after.abs(), before.abs()), 0).flatten(1).amax(dim=1)
    return ~(moved <= rounding(size.dtype) * size)


def _entries(x: Tensor, prompts: Prompts, item: Intervention, seen: Tensor | None) -> Tensor:
    """Which entries of the tensor at the site are meant, as a mask that broadcasts against it."""
    length = x.shape[item.site.position_axis]
    rows = selected(prompts, item.positions, item.attention, of_keys=item.what in PER_KV_HEAD, length=length)[:, -length:]
    if item.site.head_axis is None:
        return rows[:, :, None]
    heads = _heads(x, item)
    if item.what not in SQUARE:
        return rows[:, :, None, None] & heads[:, None]
    columns = selected(prompts, item.keys, item.attention, of_keys=True, length=x.shape[3])[:, -x.shape[3]:]
    entries = rows[:, None, :, None] & columns[:, None, None, :] & heads[:, None, None]
    return entries if seen is None else entries & seen


def _heads(x: Tensor, item: Intervention) -> Tensor:
    count = x.shape[item.site.head_axis]
    heads = torch.zeros(count, dtype=torch.bool, device=x.device)
    heads[list(range(count) if item.heads is None else item.heads)] = True
    return heads


def _new(x: Tensor, prompts: Prompts, item: Intervention, source: Source | None, entries: Tensor,
         seen: Tensor | None) -> Tensor:
    """The activation that the intervention puts in place, broadcastable to ``x``."""
    value = item.value
    if isinstance(value, Zero):
        return torch.zeros((), device=x.device)
    if isinstance(value, Scale):
        return x * value.factor
    if isinstance(value, Add):
        return x + _given(value.vector, x, prompts, item)
    if isinstance(value, Replace):
        return _given(value.tensor, x, prompts, item)
    if isinstance(value, Mean | Resample):
        return _from_source(source, x, item)
    if isinstance(value, Uniform):
        return seen / seen.sum(dim=-1, keepdim=True).clamp(min=1)
    if isinstance(value, AttendToFirst):
        return seen & (seen.cumsum(dim=-1) == 1)
    return _row(value, x, prompts, item, entries, seen)


def _row(value: RowEdit, x: Tensor, prompts: Prompts, item: Intervention, entries: Tensor, seen: Tensor) -> Tensor:
    weights = torch.zeros(len(x), x.shape[3], dtype=x.dtype, device=x.device)
    named = torch.zeros(len(x), x.shape[3], dtype=torch.bool, device=x.device)
    for key, weight in value.weights.items():
        chosen = selected(prompts, key if isinstance(key, str) else (key,), item.attention, of_keys=True, length=x.shape[3])
        chosen = chosen[:, -x.shape[3]:]
        if not bool(chosen.any(dim=1).all()):
            row = int(prompts.rows[int((~chosen.any(dim=1)).nonzero()[0])])
            raise InterpError(str(item), f"prompt {row} has no key {key!r}", "name keys that every prompt has")
        weights = weights + weight * chosen / chosen.sum(dim=1, keepdim=True)
        named |= chosen
    meant = entries.any(dim=-1, keepdim=True) & named[:, None, None, :]
    if bool((meant & ~seen).any()):
        row, _, query, key = (meant & ~seen).nonzero()[0].tolist()
        raise InterpError(str(item), f"in prompt {int(prompts.rows[row])} the query at position {query} cannot see "
                          f"the key at position {key}", "choose queries behind all named keys, such as 'end'")
    weights, named = weights[:, None, None, :], named[:, None, None, :]
    if value.rest == "zero":
        return weights.expand_as(x)
    if value.rest == "keep":
        return torch.where(named, weights, x)
    rest = torch.where(named, 0, x)
    left = x.sum(dim=-1, keepdim=True) - weights.sum(dim=-1, keepdim=True)
    total = rest.sum(dim=-1, keepdim=True)
    return torch.where(named, weights, rest * torch.where(total > 0, left / total, 0))


def _from_source(source: Source, x: Tensor, item: Intervention) -> Tensor:
    """The source's activations laid out as ``x``."""
    tensor = source.tensor
    length = x.shape[item.site.position_axis]
    if source.shared and source.index is None:
        return tensor
    if source.shared:
        tensor = tensor[source.index[:, -length:]]
        tensor = tensor.transpose(1, 2) if item.what in SQUARE else tensor
    else:
        if tensor.dim() != x.dim() or len(tensor) != len(x) or (source.index is None and tensor.shape != x.shape):
            raise InterpError(str(item), f"the source has shape {list(tensor.shape)} and the site {list(x.shape)}",
                              "give a tensor in the site's layout over the whole batch")
        if source.index is not None:
            tensor = _take(tensor, source.index[:, -length:], item.site.position_axis)
    return tensor if source.key_index is None else _take(tensor, source.key_index[:, -x.shape[3]:], 3)


def _take(tensor: Tensor, index: Tensor, axis: int) -> Tensor:
    shape = [len(index)] + [1] * (tensor.dim() - 1)
    shape[axis] = index.shape[1]
    sizes = list(tensor.shape)
    sizes[axis] = index.shape[1]
    return tensor.gather(axis, index.view(shape).expand(sizes))


def _given(value: Tensor | float, x: Tensor, prompts: Prompts, item: Intervention) -> Tensor:
    """A given number or tensor laid out as ``x`` (shapes: see ``Add``)."""
    if not isinstance(value, Tensor) or value.dim() == 0:
        return torch.as_tensor(value, dtype=x.dtype, device=x.device)
    value = value.to(x.device, x.dtype)
    axis = item.site.head_axis
    heads = list(range(x.shape[axis])) if axis is not None and item.heads is None else list(item.heads or ())
    if value.dim() == 1 and item.what not in SQUARE and value.shape[0] == x.shape[-1]:
        return value
    if value.dim() == 2 and axis == 2 and value.shape == (len(heads), x.shape[-1]):
        return x.new_zeros(x.shape[2:]).index_copy(0, torch.tensor(heads, device=x.device), value)
    if value.dim() == x.dim() and value.shape[0] > int(prompts.rows.max()):
        value = value[prompts.rows.to(value.device)]
        if value.shape == x.shape:
            return value
        if axis is not None and value.shape == (*x.shape[:axis], len(heads), *x.shape[axis + 1:]):
            return torch.zeros_like(x).index_copy(axis, torch.tensor(heads, device=x.device), value)
    raise InterpError(str(item), f"the tensor does not fit the site, whose shape is {list(x.shape)} for {len(x)} prompts",
                      "give a number, [d], [heads, d], or the site's layout over the whole batch")
