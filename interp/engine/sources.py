"""What other runs contribute to interventions: activations to resample from, and means over reference sets.

Everything here is captured from untouched runs. Means are formed once per batch (float64), activations once per chunk of
prompts, both shared by all interventions that ask for them.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.intervention import Intervention, Mean, Resample
from interp.engine.prompts import Prompts, chunks, places, selected, side, sides
from interp.models.sites import PER_KV_HEAD, SQUARE, Site

Spec = str | tuple[str | int, ...] | None
MeanKey = tuple[Any, str, Site, str, Spec]
RunKey = tuple[str, tuple[int, ...] | None]


@dataclass(frozen=True)
class Source:
    """A tensor to take activations from, and where the target's tokens stand in it.

    Attributes:
        tensor: [n, position, ...] or [n, head, query, key]; for a mean [k, ...] ([k, head, key]), shared by all prompts, or
            [...] without a position axis.
        index: for each target position the source's position, or k [n, position]; None where they are the same.
        key_index: the same for key columns.
        shared: whether the tensor is a mean.
    """

    tensor: Tensor
    index: Tensor | None = None
    key_index: Tensor | None = None
    shared: bool = False


@dataclass(frozen=True)
class References:
    """Means by key, and shuffled partners (rows of the whole batch) by (source, seed, selection)."""

    means: Mapping[MeanKey, Tensor]
    partners: Mapping[tuple, Tensor]


def references(model: Any, runs: Mapping[str, Prompts], on: str, interventions: Iterable[Intervention],
               batch_size: int | None = None) -> References:
    """Means over reference sets and shuffled partners that these interventions ask for; one pass per reference set."""
    wanted: dict[Any, tuple[Prompts, dict[MeanKey, None]]] = {}
    partners: dict[tuple, Tensor] = {}
    for item in interventions:
        if isinstance(item.value, Mean):
            key = _mean_key(item)
            if key[:2] not in wanted:
                reference, named = item.value.reference, isinstance(item.value.reference, str)
                of = _named(runs, reference, item) if named else side(sides(model, reference), item.value.on)
                wanted[key[:2]] = (of, {})
            wanted[key[:2]][1][key] = None
        elif isinstance(item.value, Resample) and item.value.shuffle is not None:
            key = _partner_key(item)
            if key not in partners:
                partners[key] = _partners(_named(runs, item.value.source, item), item)
    means: dict[MeanKey, Tensor] = {}
    for prompts, keys in wanted.values():
        means.update(zip(keys, mean_over(model, prompts, [key[2:] for key in keys], batch_size), strict=True))
    return References(means, partners)


def captured(model: Any, runs: Mapping[str, Prompts], found: References, rows: Tensor,
             interventions: Iterable[Intervention], narrow: bool = False
             ) -> dict[RunKey, tuple[Prompts, Mapping[Site, Tensor]]]:
    """Activations of the runs that these prompts resample from: run -> (its prompts, site -> tensor).

    ``narrow``: without the columns that are padding in all of them.
    """
    wanted: dict[RunKey, set[Site]] = {}
    for item in interventions:
        if isinstance(item.value, Resample) and isinstance(item.value.source, str):
            _named(runs, item.value.source, item)
            wanted.setdefault(_run_key(item, found, rows), set()).add(item.site)
    result = {}
    for (name, partners), sites in wanted.items():
        prompts = runs[name].take(rows if partners is None else torch.tensor(partners))
        prompts = prompts.narrowed() if narrow else prompts
        with torch.no_grad():
            result[name, partners] = (prompts, model.run(prompts.inputs, capture=sites).captured)
    return result


def resampled(interventions: Iterable[Intervention]) -> set[Site]:
    """The sites whose activations are taken from another run."""
    return {item.site for item in interventions if isinstance(item.value, Resample) and isinstance(item.value.source, str)}


def source_of(item: Intervention, target: Prompts, found: References, rows: Tensor,
              runs: Mapping[RunKey, tuple[Prompts, Mapping[Site, Tensor]]]) -> Source | None:
    """The source of a Mean or Resample for the prompts ``target`` (rows ``rows`` of the batch); None for other values."""
    if isinstance(item.value, Mean):
        return _mean_source(item, target, found.means[_mean_key(item)])
    if not isinstance(item.value, Resample):
        return None
    if isinstance(item.value.source, Tensor):
        return Source(item.value.source[rows.to(item.value.source.device)].to(target.mask.device))
    prompts, tensors = runs[_run_key(item, found, rows)]
    if not target.aligned and item.value.source != target.name and item.positions not in (None, "end"):
        raise InterpError(str(item), "clean and corrupted prompts do not correspond token by token",
                          "use aligned prompts, all positions at once, or 'end'")
    tensor = tensors[item.site]
    length = tensor.shape[item.site.position_axis]
    keys = None
    if item.what in SQUARE:
        mine, theirs = (p.real(item.attention, True, tensor.shape[3]) for p in (target, prompts))
        keys = _index(mine, theirs, item, target, "has {} keys, its source {}",
                      "resample scores and patterns between prompts of equal length")
    mine, theirs = _selected(target, item, length), _selected(prompts, item, length)
    return Source(tensor, _index(mine, theirs, item, target, "has {} selected tokens, its source {}",
                                 "use aligned prompts, a named span or 'end'"), keys)


def mean_over(model: Any, prompts: Prompts, requests: Collection[tuple[Site, str, Spec]],
              batch_size: int | None = None) -> list[Tensor]:
    """Means of untouched activations over prompts, float64, one per request (site, mode, positions).

    Mode ``token``: the mean over all real tokens, [head, d] or [d_model]. Mode ``position``: [k, head, d], [k, d_model] or
    [k, head, key]: entry k is the mean over the k-th selected tokens of those prompts that have one; keys count real tokens.
    """
    sites = {site for site, _, _ in requests}
    sums: list[Tensor | float] = [0.0] * len(requests)
    counts: list[Tensor | float] = [0.0] * len(requests)
    for rows in chunks(model, prompts, batch_size, held=sites):
        part = prompts.take(rows)
        with torch.no_grad():
            tensors = model.run(part.inputs, capture=sites).captured
        for i, (site, mode, positions) in enumerate(requests):
            total, count = _sums(prompts, rows, site, mode, positions, tensors[site])
            sums[i], counts[i] = sums[i] + total, counts[i] + count
    return [total / count for total, count in zip(sums, counts, strict=True)]


def _sums(whole: Prompts, rows: Tensor, site: Site, mode: str, positions: Spec, tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Sum and count of the entries that a mean is over, for the prompts ``rows``, whose activations ``tensor`` holds."""
    of_keys = site.what in PER_KV_HEAD
    length = tensor.shape[site.position_axis]
    exact = torch.float64 if tensor.device.type != "mps" else torch.float32
    spec = None if mode == "token" else positions
    everywhere = selected(whole, spec, site.attention, of_keys=of_keys, length=length)
    chosen = everywhere[rows]
    if site.what in SQUARE:
        at, has = places(whole.real(site.attention, True, tensor.shape[3]))
        columns = at[rows][:, None, None, :].expand(-1, *tensor.shape[1:3], -1)
        tensor = tensor.gather(3, columns).masked_fill(~has[rows][:, None, None, :], 0).transpose(1, 2)
    entries = tensor[chosen].to(exact)
    if mode == "token":
        return entries.sum(dim=0), chosen.sum().to(exact)
    most = int(everywhere.sum(dim=1).max())
    rank = (chosen.cumsum(dim=1) - 1)[chosen]
    total = torch.zeros(most, *entries.shape[1:], dtype=exact, device=tensor.device).index_add_(0, rank, entries)
    count = torch.bincount(rank, minlength=most)
    return total, count.view(-1, *[1] * (entries.dim() - 1)).to(exact)


def _mean_source(item: Intervention, target: Prompts, mean: Tensor) -> Source:
    if item.value.mode == "token":
        return Source(mean, shared=True)
    key_index = None
    if item.what in SQUARE:
        keys = target.real(item.attention, True, mean.shape[2])
        key_index = (keys.cumsum(dim=1) - 1).clamp(min=0)
        if int(keys.sum(dim=1).max()) > mean.shape[2]:
            raise InterpError(str(item), f"a prompt has {int(keys.sum(dim=1).max())} keys and the longest reference prompt "
                              f"{mean.shape[2]}", "take the mean over prompts at least as long")
    chosen = _selected(target, item, mean.shape[0])
    rank = chosen.cumsum(dim=1) - 1
    if bool((_within(chosen, target) & (rank >= mean.shape[0])).any()):
        raise InterpError(str(item), f"no reference prompt has more than {mean.shape[0]} such tokens",
                          "take the mean over longer prompts, over a named span, or by token")
    return Source(mean, rank.clamp(0, mean.shape[0] - 1), key_index, shared=True)


def _index(target: Tensor, source: Tensor, item: Intervention, prompts: Prompts, true: str, todo: str) -> Tensor | None:
    """For each target token the position of its counterpart; None where both sides select the same positions."""
    if target.shape == source.shape and bool((target == source).all()):
        return None
    have, found = _within(target, prompts).sum(dim=1), source.sum(dim=1)
    if bool((have != found).any()):
        i = int((have != found).nonzero()[0])
        raise InterpError(str(item), f"prompt {int(prompts.rows[i])} " + true.format(int(have[i]), int(found[i])), todo)
    at, _ = places(source)
    rank = torch.minimum(target.cumsum(dim=1) - 1, found[:, None] - 1).clamp(min=0)
    return at.gather(1, rank)


def _within(chosen: Tensor, prompts: Prompts) -> Tensor:
    """Those of the selected tokens that belong to the prompt: while generating, ``end`` also selects what came after it."""
    if chosen.shape != prompts.mask.shape:
        return chosen
    return chosen & (torch.arange(chosen.shape[1], device=chosen.device) <= prompts.end[:, None])


def _partners(prompts: Prompts, item: Intervention) -> Tensor:
    """One random cycle among prompts with equally many selected tokens (equal lengths, for scores and patterns)."""
    positions = None if item.what in SQUARE else item.positions
    count = selected(prompts, positions, item.attention, of_keys=item.what in PER_KV_HEAD).sum(dim=1)
    generator = torch.Generator().manual_seed(item.value.shuffle)
    partners = torch.arange(prompts.n)
    for size in count.unique():
        members = (count == size).nonzero().flatten().cpu()
        if len(members) < 2:
            raise InterpError(str(item), f"prompt {int(members[0])} is the only one with {int(size)} such tokens",
                              "add such prompts, choose a named span or 'end', or do not shuffle")
        members = members[torch.randperm(len(members), generator=generator)]
        partners[members] = members.roll(-1)
    return partners


def _selected(prompts: Prompts, item: Intervention, length: int) -> Tensor:
    return selected(prompts, item.positions, item.attention, of_keys=item.what in PER_KV_HEAD, length=length)


def _mean_key(item: Intervention) -> MeanKey:
    named = isinstance(item.value.reference, str)
    return (item.value.reference if named else id(item.value.reference), item.value.on if not named else "", item.site,
            item.value.mode, item.positions if item.value.mode == "position" else None)


def _partner_key(item: Intervention) -> tuple:
    selection = "square" if item.what in SQUARE else (item.positions, item.what in PER_KV_HEAD)
    return item.value.source, item.value.shuffle, selection, item.attention


def _run_key(item: Intervention, found: References, rows: Tensor) -> RunKey:
    if item.value.shuffle is None:
        return item.value.source, None
    return item.value.source, tuple(found.partners[_partner_key(item)][rows].tolist())


def _named(runs: Mapping[str, Prompts], name: str, item: Intervention) -> Prompts:
    if name not in runs and "tokens" in runs:
        raise InterpError(str(item), "plain tokens have no clean and corrupted side", "give a Batch, or a tensor")
    return side(runs, name)
