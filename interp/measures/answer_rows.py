"""Where heads look while they answer: the rows of attention that the answer's tokens are predicted from."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.streaming import Block, Fold, stream


def answer_rows(model: Any, prompt: Sequence[int], said: Sequence[int]) -> np.ndarray:
    """Weights [layer, head, step, key], float32: row ``step`` is the one that ``said[step]`` was predicted from, over the
    prompt and what was said before it (zero beyond). No whole pattern is made; one pass over the prompt and the answer.
    """
    if not len(prompt) or not len(said):
        raise InterpError("read where heads look while they answer", "there is no prompt or no answer", "give both")
    ids = torch.tensor([[*prompt, *said[:-1]]])
    fold = Fold("pattern", last_rows(len(prompt) - 1))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    found: np.ndarray = stream(model, inputs, {"rows": fold})["rows"][0].numpy()
    return found


def last_rows(first: int) -> Callable[[Tensor | None, Block], Tensor | None]:
    """The fold that keeps the rows from ``first`` on over all keys, [prompt, head, row, key]."""
    def fold(kept: Tensor | None, block: Block) -> Tensor | None:
        chosen = block.rows >= first
        if not bool(chosen.any()):
            return kept
        part = block.tensor[:, :, chosen].float().cpu()
        part = torch.nn.functional.pad(part, (0, block.keys - part.shape[-1]))
        return part if kept is None else torch.cat([kept, part], dim=2)

    return fold
