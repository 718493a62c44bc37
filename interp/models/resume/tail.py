"""What a network does behind its last block: final norm, unembedding, soft caps, all of it its own."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interp.models.recording import with_first

_COLUMNS: ContextVar[Mapping[nn.Module, tuple[Tensor, Tensor | None]]] = ContextVar("_COLUMNS", default=MappingProxyType({}))
"""Unembedding -> the weights and biases of the columns that are wanted of it."""


@contextlib.contextmanager
def replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """A module with another ``forward`` for a while."""
    before = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before


@contextlib.contextmanager
def few_columns(network: nn.Module, columns: Tensor | None) -> Iterator[None]:
    """A network whose unembedding gives these columns of the vocabulary alone; None for all."""
    if columns is None:
        yield
        return
    head = network.get_output_embeddings()
    if not isinstance(vars(head).get("forward"), _Columns):
        head.forward = _Columns(head, vars(head).get("forward"))
    bias = None if head.bias is None else head.bias.index_select(0, columns)
    token = _COLUMNS.set({**_COLUMNS.get(), head: (head.weight.index_select(0, columns), bias)})
    try:
        yield
    finally:
        _COLUMNS.reset(token)


class _Columns:
    """The forward of an unembedding of ours: all of the vocabulary, or what the context that it runs in asks for."""

    def __init__(self, head: nn.Module, own: Callable[..., Any] | None):
        self.head, self.own = head, own

    def __call__(self, x: Tensor) -> Tensor:
        few = _COLUMNS.get().get(self.head)
        if few is not None:
            return F.linear(x, *few)
        return type(self.head).forward(self.head, x) if self.own is None else self.own(x)


def tail(network: nn.Module, blocks: Sequence[nn.Module], template: Any, inputs: Mapping[str, Tensor], hidden: Tensor,
         columns: Tensor | None = None) -> Tensor:
    """The logits of ``hidden`` [row, position, d_model], as the network makes them: [row, position, vocab] (class logits).

    Every block is passed over, and the last one hands on ``hidden``.

    Args:
        template: what the last block returned in a recorded run.
        inputs: anything that the network takes for as many rows and positions.
        columns: of the vocabulary that are wanted; None for all.
    """
    def pass_over(*args: Any, **kwargs: Any) -> Any:
        return with_first(template, hidden)

    with contextlib.ExitStack() as stack:
        for block in blocks:
            stack.enter_context(replaced(block, pass_over))
        stack.enter_context(few_columns(network, columns))
        output = network(**inputs)
    logits = output.get("logits")
    return output.get("last_hidden_state") if logits is None else logits


def dummy_inputs(inputs: Mapping[str, Tensor], rows: int, positions: int) -> dict[str, Tensor]:
    """Inputs of ``rows`` examples like the given ones (tokens cut to ``positions``), whose values do not matter."""
    def shaped(x: Tensor) -> Tensor:
        first = x[:1, :positions] if x.dim() == 2 else x[:1]
        return first.expand(rows, *first.shape[1:])

    made = {name: shaped(x) for name, x in inputs.items()}
    if "attention_mask" in made:
        made["attention_mask"] = torch.ones_like(made["attention_mask"])
    return made
