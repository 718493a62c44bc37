"""Greedy generation after long prompts: the prompt goes into the key-value cache in chunks, and of each generated token one
row of attention per head is read. No attention map of the whole prompt is ever made.

Memory of a pass: scores of ``chunk`` queries by all keys so far for one layer, plus the cache.
"""

import inspect
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.edits import Record, check, edits
from interp.engine.forward import Interventions, as_tuple, did_act
from interp.engine.generate import left_padded
from interp.engine.intervention import AttendToFirst, Intervention, Scale, Uniform, Zero
from interp.engine.prompts import Prompts, side, sides
from interp.models.sites import Site

CHUNK = 512
"""Most queries of one pass of the prefill."""
SCORES = 2**25
"""Most attention scores of one layer that a pass of the prefill makes."""
TOKENS = 2**14
"""Most tokens of the prompts that are generated from together."""
SIMILAR = 0.8
"""A prompt shorter than this share of its group's longest is put into another group."""


@dataclass(frozen=True)
class LongGeneration:
    """What was generated, and where each head looked.

    Attributes:
        ids: the most likely token at each step [n, steps], also where another one was forced.
        mask: where a step was taken (up to and with a stop token; as far as tokens were forced), bool [n, steps].
        attended: the key of the largest weight in the row that the token of the step was predicted from, counted from the
            prompt's first real token (generated ones count on); the first of equal ones; -1 where no step was taken. int32
            [layer, head, n, steps]; None if it was not asked for.
        weight: that weight, float32 [layer, head, n, steps].
        acted: whether each intervention changed something, bool [n_interventions, n].
    """

    ids: Tensor
    mask: Tensor
    attended: Tensor | None
    weight: Tensor | None
    acted: Tensor

    def rows(self) -> list[list[int]]:
        """The generated ids of each prompt, the stop token included."""
        return [row[real].tolist() for row, real in zip(self.ids, self.mask, strict=True)]


def generate_long(model: Any, batch: Any, new_tokens: int, interventions: Interventions = (), on: str = "clean", *,
                  attended: bool = False, forced: Sequence[Sequence[int]] | None = None, stop: Collection[int] = (),
                  chunk: int | None = None, batch_size: int | None = None) -> LongGeneration:
    """The most likely continuation of each prompt, ``new_tokens`` long or up to and with a token of ``stop``.

    The same tokens as ``interp.engine.generate`` gives. Prompts of similar length are worked on together.

    Args:
        interventions: on all tokens (``positions=None``), or on those that a next one is predicted from (``"end"``: the
            prompt's last and the generated ones); of a kind that needs no other run: Zero, Uniform, AttendToFirst, Scale.
            One that changes nothing is accepted; see ``acted``.
        attended: also say where each head looked while each token was predicted.
        forced: tokens to go on with in place of the predicted ones, per prompt; their number replaces ``new_tokens`` and
            nothing stops earlier (teacher forcing).
        chunk: queries per pass of the prefill; None: 512, or fewer where the scores of a layer would exceed a bound.
        batch_size: prompts worked on together; None: as many as 16,384 tokens hold. Neither changes a number.

    Raises:
        InterpError: an intervention of another kind, a sequence longer than the context, an encoder-decoder.
    """
    interventions = as_tuple(interventions)
    check(model, interventions)
    for item in interventions:
        if item.positions not in (None, "end") or not isinstance(item.value, Zero | Uniform | AttendToFirst | Scale):
            raise InterpError(f"{item} while generating after a prefill in chunks", "it acts at some tokens of the prompt "
                              "or needs another run", "use interp.engine.generate, or Zero, Uniform, AttendToFirst or Scale "
                              "at all tokens or at 'end'")
    prompts = side(sides(model, batch), on)
    steps = new_tokens if forced is None else max(map(len, forced), default=0)
    _check_lengths(model, prompts, steps, forced, chunk, batch_size)
    layers = model.stack("self").n_layers if attended else 0
    found = _Found(prompts.n, steps, len(interventions), (layers, model.stack("self").n_heads))
    with torch.no_grad():
        for rows in _groups(model, prompts, batch_size):
            part = left_padded(prompts.take(rows))
            records = [Record() for _ in interventions]
            asked = None if forced is None else [forced[i] for i in rows.tolist()]
            _generate(model, part, rows, steps, interventions, records, layers, asked, stop, chunk, found)
            found.acted[:, rows] = did_act(interventions, records, len(rows))
    used = int(found.mask.any(dim=0).sum())
    rest = (found.attended[..., :used], found.weight[..., :used]) if attended else (None, None)
    return LongGeneration(found.ids[:, :used], found.mask[:, :used], *rest, found.acted)


class _Found:
    """Tensors over all prompts that the groups write into."""

    def __init__(self, n: int, steps: int, interventions: int, heads: tuple[int, int]):
        self.ids = torch.zeros(n, steps, dtype=torch.int64)
        self.mask = torch.zeros(n, steps, dtype=torch.bool)
        self.attended = torch.full((*heads, n, steps), -1, dtype=torch.int32)
        self.weight = torch.zeros(*heads, n, steps)
        self.acted = torch.zeros(interventions, n, dtype=torch.bool)


def _generate(model: Any, prompts: Prompts, rows: Tensor, steps: int, interventions: tuple[Intervention, ...],
              records: list[Record], layers: int, forced: list[Sequence[int]] | None, stop: Collection[int],
              chunk: int | None, found: _Found) -> None:
    """Prefill of all but the last token, then token by token from the last one on; results go into ``found``."""
    ids = prompts.inputs["input_ids"]
    sites = [Site("pattern", layer) for layer in range(layers)]
    padding = prompts.mask.shape[1] - prompts.mask.sum(dim=1)
    extra = _last_logits_only(model)
    cache = prefill(model, prompts, interventions, records, chunk)
    stops = torch.tensor(sorted(stop), dtype=ids.dtype, device=ids.device)
    fed, mask, going = ids[:, -1:], prompts.mask, torch.ones(len(rows), dtype=torch.bool)
    for step in range(steps):
        now = replace(prompts, mask=mask)
        inputs = {"input_ids": fed, "attention_mask": mask.to(ids.dtype), **extra}
        passed = model.run(inputs, _edits(now, interventions, records), sites, cache=cache, use_cache=True)
        cache = passed.cache
        token = passed.logits[:, -1].argmax(dim=-1)
        if forced is not None:
            going = torch.tensor([step < len(row) for row in forced])
        found.ids[rows, step], found.mask[rows, step] = torch.where(going, token.cpu(), 0), going
        for layer, site in enumerate(sites):
            weight, at = passed.captured[site][:, :, -1].max(dim=-1)
            at = torch.where(going[:, None], (at - padding[:, None]).cpu(), -1)
            found.attended[layer][:, rows, step] = at.T.int()
            found.weight[layer][:, rows, step] = torch.where(going[:, None], weight.float().cpu(), 0).T
        if forced is None:
            fed = token[:, None]
            going = going & ~torch.isin(token, stops).cpu()
            if not bool(going.any()):
                break
        else:
            fed = torch.tensor([[row[step] if step < len(row) else 0] for row in forced], device=ids.device)
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)


def prefill(model: Any, prompts: Prompts, interventions: Sequence[Intervention] = (), records: Sequence[Record] = (),
            chunk: int | None = None) -> Any:
    """The key-value cache of all tokens but the last of left-padded prompts (None where there is one token only).

    Each pass takes ``chunk`` queries and all keys so far: the scores of a layer are [n, head, chunk, keys].
    """
    everywhere = [(item, record) for item, record in zip(interventions, records, strict=True) if item.positions is None]
    interventions, records = [item for item, _ in everywhere], [record for _, record in everywhere]
    ids = prompts.inputs["input_ids"]
    width, extra, cache = ids.shape[1] - 1, _last_logits_only(model), None
    heads = len(ids) * model.stack("self").n_heads
    start = 0
    while start < width:
        size = chunk or max(16, min(CHUNK, SCORES // (heads * (start + CHUNK))))
        stop = min(start + size, width)
        now = replace(prompts, mask=prompts.mask[:, :stop])
        inputs = {"input_ids": ids[:, start:stop], "attention_mask": now.mask.to(ids.dtype), **extra}
        cache = model.run(inputs, _edits(now, interventions, records), cache=cache, use_cache=True).cache
        start = stop
    return cache


def _edits(now: Prompts, interventions: Sequence[Intervention], records: Sequence[Record]) -> Mapping:
    return edits(now, interventions, [None] * len(interventions), records)


def _last_logits_only(model: Any) -> dict[str, int]:
    """The argument by which a transformers network leaves out the logits of all tokens but the last; {} without one."""
    takes = inspect.signature(model.weights.forward).parameters if model.backend.name == "transformers" else ()
    return {"logits_to_keep": 1} if "logits_to_keep" in takes else {}


def _groups(model: Any, prompts: Prompts, batch_size: int | None) -> Iterator[Tensor]:
    """Rows of prompts of similar length, short ones first; of equal length where padding on the left is not exact."""
    lengths = prompts.mask.sum(dim=1).cpu()
    order = lengths.argsort(stable=True).tolist()
    exact = model.verification is None or "left" not in model.verification.inexact_padding
    group: list[int] = []
    for row in order:
        length = int(lengths[row])
        most = max(1, TOKENS // length) if batch_size is None else batch_size
        if group and (len(group) >= most or int(lengths[group[0]]) < (SIMILAR if exact else 1) * length):
            yield torch.tensor(group)
            group = []
        group.append(row)
    yield torch.tensor(group)


def _check_lengths(model: Any, prompts: Prompts, steps: int, forced: Sequence[Sequence[int]] | None, chunk: int | None,
                   batch_size: int | None) -> None:
    if forced is not None and (len(forced) != prompts.n or not all(map(len, forced))):
        raise InterpError("force tokens", f"there are {len(forced)} rows of them for {prompts.n} prompts, or an empty one",
                          "give at least one token for each prompt")
    if steps < 1:
        raise InterpError(f"generate {steps} tokens", "there is nothing to do", "ask for 1 or more")
    if (chunk or 1) < 1 or (1 if batch_size is None else batch_size) < 1:
        raise InterpError("generate", f"chunk is {chunk} and batch_size {batch_size}", "use 1 or more")
    longest = int(prompts.mask.sum(dim=1).max()) + steps - 1
    if model.context_length is not None and longest > model.context_length:
        raise InterpError(f"generate {steps} tokens", f"they need {longest} positions and the context has "
                          f"{model.context_length}", "ask for fewer, or shorten the prompts")
