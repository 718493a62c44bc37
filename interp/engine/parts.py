"""A named part of the context, and the same prompts without it: removed, replaced by other tokens, or cut off.

A part is a span's name, several names (their union), ``"A..B"`` (from the first token of A to the last of B, where ``start``
is the prompt's first token), or None: the tokens in which the clean and the corrupted prompt differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.core.registry import unknown
from interp.engine.prompts import Prompts, last, selected
from interp.models.sites import Site

Part = str | tuple[str, ...] | None
How = Literal["removed", "replaced", "masked"]


@dataclass(frozen=True)
class Without:
    """Prompts without a part of their context.

    Attributes:
        prompts: what is run.
        index: where each token of the full prompt stands in them, [n, position]; -1 for tokens that are gone or exchanged.
        edits: site -> edit that this run needs (attention cut off from the part).
        shift: where each key of the full prompt stands among the keys of this run, [n, position]; -1 if it is not there.
    """

    prompts: Prompts
    index: Tensor
    edits: Mapping[Site, Any]
    shift: Tensor


def part_of(prompts: Prompts, part: Part, other: Prompts | None = None) -> Tensor:
    """The tokens of a part, bool [n, position]; ``other`` is the corrupted side, for ``part=None``.

    Raises InterpError for an unknown span, for a prompt that has no such token or no other ones, and where ``part=None`` has
    no corrupted prompt of equal length to compare with.
    """
    asked = f"take out the part {part!r}" if part is not None else "take out what differs from the corrupted prompt"
    if part is None:
        if other is None or not prompts.aligned:
            raise InterpError(asked, "there is no corrupted prompt aligned with it", "name a part: a span, or 'A..B'")
        chosen = (prompts.inputs["input_ids"] != other.inputs["input_ids"]) & prompts.mask
    else:
        chosen = torch.zeros_like(prompts.mask)
        for name in (part,) if isinstance(part, str) else part:
            chosen |= _between(prompts, name) if ".." in name else selected(prompts, name)
    for row, (gone, real) in enumerate(zip(chosen, prompts.mask, strict=True)):
        if not bool(gone.any()) or bool(gone[real].all()):
            true = "has no such token" if not bool(gone.any()) else "consists of nothing else"
            raise InterpError(asked, f"prompt {int(prompts.rows[row])} {true}",
                              "name a part that every prompt has beside other tokens")
    return chosen


def without(model: Any, prompts: Prompts, part: Tensor, how: How, filler: int | Prompts | None = None) -> Without:
    """The prompts without the tokens ``part`` [n, position].

    * ``removed``: the tokens are left out; what follows moves up. An image goes as a whole: the part is its placeholder
      tokens, all of them, and ``pixel_values`` are left out too (He et al. 2025).
    * ``replaced``: other tokens stand in their place: those of ``filler`` prompts (the corrupted side), or one token id.
    * ``masked``: the tokens stay and nobody else attends to them (attention knockout); positions do not move.
    """
    if how not in ("removed", "replaced", "masked"):
        raise unknown("way to take out a part", str(how), ["removed", "replaced", "masked"])
    places = torch.arange(part.shape[1], device=part.device).expand_as(part)
    kept = prompts.mask & ~part
    if how == "masked":
        return Without(prompts, torch.where(kept, places, -1), _cut_off(model, part), torch.where(prompts.mask, places, -1))
    if how == "replaced":
        ids = prompts.inputs["input_ids"]
        new = filler.inputs["input_ids"] if isinstance(filler, Prompts) else filler
        if new is None:
            raise InterpError("replace a part of the context", "nothing is given to stand in its place",
                              "give filler=TOKEN_ID, use prompts with a corrupted side, or how='removed'")
        changed = replace(prompts, inputs={**prompts.inputs, "input_ids": torch.where(part, new, ids)})
        return Without(changed, torch.where(kept, places, -1), {}, torch.where(prompts.mask, places, -1))
    if extra := set(prompts.inputs) - {"input_ids", "attention_mask"}:
        _check_image(prompts, part, extra)
    width = int(kept.sum(dim=1).max())
    order = kept.int().argsort(dim=1, descending=True, stable=True)[:, :width]
    mask = torch.arange(width, device=part.device) < kept.sum(dim=1, keepdim=True)
    ids = prompts.inputs["input_ids"].gather(1, order).masked_fill(~mask, 0)
    index = torch.where(kept, kept.cumsum(dim=1) - 1, -1)
    end = last(mask)
    inputs = {"input_ids": ids, "attention_mask": mask.to(ids.dtype)}
    shorter = replace(prompts, inputs=inputs, mask=mask, spans={}, answer=end, end=end, aligned=False)
    return Without(shorter, index, {}, index)


def _check_image(prompts: Prompts, part: Tensor, extra: set[str]) -> None:
    """An image may be removed: all its placeholder tokens are then in the part, and its pixels go with them."""
    ids = prompts.inputs["input_ids"]
    marks = ids[part].unique()
    if extra != {"pixel_values"} or len(marks) > 1 or bool((ids[prompts.mask & ~part] == marks[0]).any()):
        true = f"the model also takes {', '.join(sorted(extra))}, which belong to tokens that are not exactly this part"
        raise InterpError("remove a part of the context", true, "name the image's tokens as the part, or use how='masked'")


def _between(prompts: Prompts, name: str) -> Tensor:
    first, _, second = name.partition("..")
    places = torch.arange(prompts.mask.shape[1], device=prompts.mask.device)
    start = prompts.mask.int().argmax(1) if first == "start" else selected(prompts, first).int().argmax(1)
    stop = last(selected(prompts, second))
    return (places >= start[:, None]) & (places <= stop[:, None]) & prompts.mask


def _cut_off(model: Any, part: Tensor) -> dict[Site, Any]:
    """No token outside of the part sees it, in any layer of the decoder."""
    stack = model.stack("self")
    blocked = part[:, None, None, :] & ~part[:, None, :, None]

    def edit(scores: Tensor) -> Tensor:
        return scores.masked_fill(blocked, torch.finfo(scores.dtype).min)

    return {Site("scores", layer, stack.attention): edit for layer in range(stack.n_layers)}
