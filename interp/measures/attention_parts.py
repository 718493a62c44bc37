"""Parts of a prompt: named spans, and the rest, and how much of each row's attention goes to each of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.streaming import Block
from interp.measures.attention_rows import Statistic
from interp.measures.sink_statistics import received
from interp.measures.sinks_anywhere import find_sinks
from interp.measures.targets import tokens_of
from interp.models.backend import Stack


def parts_of(model: Any, batch: Any, names: Sequence[str], stack: Stack, rest: str) -> list[dict[str, Tensor]]:
    """Which tokens of each prompt belong to each part: name -> bool [position]; ``rest``: those of none of ``names``.

    Raises InterpError for an unknown name, one that is named twice, and parts that overlap.
    """
    if len({*names, rest}) <= len(names):
        raise InterpError(f"share attention among {[*names, rest]}", "a part is named twice", "name each once")
    spans = [tokens_of(model, batch, name, stack, of_keys=True) for name in names]
    found = []
    for i, row in enumerate(zip(*spans, strict=True)):
        count = torch.stack(row).sum(0)
        if int(count.max()) > 1:
            raise InterpError(f"share attention among {[*names]}", f"in prompt {i} they have tokens in common",
                              "use spans that lie apart")
        found.append(dict(zip(names, row, strict=True)) | {rest: count == 0})
    return found


def sinks_to_leave_out(model: Any, batch: Any, how: str, epsilon: float, attention: str | None,
                       batch_size: int | None) -> list[np.ndarray] | None:
    """Keys that count for no part, per prompt: bool [layer, head, key] (or alike); None: every key counts.

    ``how``: ``none``, ``first token``, or ``sinks``: tokens that receive more than ``epsilon`` on average in that head (a
    pass of its own).
    """
    if how == "none":
        return None
    if how == "first token":
        every = tokens_of(model, batch, None, model.stack(attention), of_keys=True)
        return [(np.arange(len(row)) == 0)[None, None] for row in every]
    found = received(model, batch, attention=attention, batch_size=batch_size)
    return [find_sinks(one, "fixed", threshold=epsilon, drop_late=True) for one in found]


def part_sums(parts: Sequence[Mapping[str, Tensor]], left_out: Sequence[np.ndarray] | None = None) -> Statistic:
    """The statistic of each row: weight on each part, and the number of its tokens in the prompt,
    [prompt, head, row, 2 · part], without the keys that are ``left_out``."""
    names = list(parts[0])

    def sums(block: Block) -> Tensor:
        weights, count, members = block.tensor.float(), block.tensor.shape[-1], block.prompts.tolist()
        marked = torch.stack([torch.stack([parts[i][name] for name in names]) for i in members]).float().to(weights.device)
        counts = torch.ones(len(members), weights.shape[1], marked.shape[-1], device=weights.device)
        if left_out is not None:
            layer = [left_out[i][min(block.site.layer, len(left_out[i]) - 1)] for i in members]
            counts = counts * ~torch.as_tensor(np.stack(layer)).to(weights.device)
        on = torch.einsum("phrk,pnk->phrn", weights * counts[..., None, :count], marked[..., :count])
        number = torch.einsum("phk,pnk->phn", counts, marked)
        return torch.cat([on, number[:, :, None].expand_as(on)], dim=-1)

    return sums
