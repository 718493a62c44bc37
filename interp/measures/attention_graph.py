"""Attention as a graph over layers and tokens: what rollout and flow share. Arrays per prompt, real tokens only."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from interp.core.errors import InterpError
from interp.engine.prompts import Prompts, chunks, last, selected, side, sides
from interp.models.backend import Stack
from interp.models.sites import Site

Floats = NDArray[np.float64]
Keys = str | int | tuple[str, ...]
"""A span's name, several, or a token index."""


@dataclass(frozen=True)
class PromptAttention:
    """The attention of one prompt without padding.

    Attributes:
        pattern: [layer, head, query, key].
        keys: which tokens are asked about, [key]; none where the prompt has none of them.
        answer: the query that is read, counted from the first token.
    """

    pattern: Floats
    keys: NDArray[np.bool_]
    answer: int


def self_stack(model: Any, attention: str | None, what: str) -> Stack:
    """The stack, refused where its keys are not its queries: layers of cross-attention do not follow one another."""
    stack = model.stack(attention)
    if stack.attention == "cross":
        raise InterpError(f"{what} cross-attention", "its queries and keys are different tokens, so layers make no path",
                          "use the self or the encoder attention")
    return stack


def patterns_of_prompts(model: Any, batch: Any, attention: str, keys: Keys,
                        batch_size: int | None) -> Iterator[PromptAttention]:
    """Each prompt's attention in all layers, in the order of the batch (its clean side)."""
    stack = model.stack(attention)
    sites = [Site("pattern", layer, attention) for layer in range(stack.n_layers)]
    prompts = side(sides(model, batch), "clean")
    for rows in chunks(model, prompts, batch_size, held=sites):
        here = prompts.take(rows)
        with torch.no_grad():
            captured = model.run(here.inputs, capture=sites).captured
        length = captured[sites[0]].shape[-1]
        real = selected(here, None, attention, of_keys=True, length=length)
        chosen = selected(here, keys, attention, of_keys=True, length=length)
        queries = answers(here, attention, real)
        for i in range(len(rows)):
            there = real[i]
            pattern = torch.stack([captured[site][i][:, there][:, :, there] for site in sites])
            yield PromptAttention(pattern.double().cpu().numpy(), chosen[i, there].cpu().numpy(),
                                  int(there[: int(queries[i])].sum()))


def over_prompts(model: Any, batch: Any, attention: str, keys: Keys, batch_size: int | None,
                 read: Callable[[PromptAttention], tuple[Floats, float]]) -> tuple[Floats, Floats]:
    """What ``read`` gives for each prompt's attention, by head [layer, head, prompt] and of averaged layers [prompt]; NaN
    for a prompt without such keys."""
    stack = model.stack(attention)
    values, plain = np.full((stack.n_layers, stack.n_heads, batch.n), np.nan), np.full(batch.n, np.nan)
    for row, one in enumerate(patterns_of_prompts(model, batch, attention, keys, batch_size)):
        if one.keys.any():
            values[..., row], plain[row] = read(one)
    return values, plain


def augmented(pattern: Floats, residual: float = 0.5) -> Floats:
    """Attention [..., query, key] beside the residual stream: (1 − residual) A + residual I, rows made to sum to one.

    Rows of A need not sum to one where the network has a learned sink.
    """
    if not 0 <= residual < 1:
        raise InterpError(f"give the residual stream the weight {residual}", "it lies from 0 to below 1",
                          "use 0.5, as published")
    mixed = (1 - residual) * pattern + residual * np.eye(pattern.shape[-1])
    total = mixed.sum(-1, keepdims=True)
    return mixed / np.where(total > 0, total, 1)


def answers(prompts: Prompts, attention: str, real: torch.Tensor) -> torch.Tensor:
    """The query that is read in each prompt: the answer position; an image's first patch (its class token, where there is
    one); the last token of an encoder that has a decoder behind it."""
    if attention == "encoder" and prompts.encoder_mask is not None:
        return last(real)
    return torch.zeros_like(prompts.answer) if attention == "vision" else prompts.answer
