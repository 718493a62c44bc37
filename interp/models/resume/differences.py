"""Products with weights of which only the change is computed, in bfloat16: the rest is that of the untouched run.

A linear map of what a resumed pass has in a row is W x + b = (W x₀ + b) + W (x − x₀), x₀ being what the untouched run has
there. The bracket is recorded, in float32; the other product is made of a difference, so bfloat16 rounds what the
intervention does by a few parts in a thousand, and not what the network computes anyway. Everything that is not linear
(norms, softmax, activations) sees the whole value, in float32. Which row stands for x₀ cannot make it wrong, only coarser.

On a processor with bfloat16 matrix units such a product takes about an eighth of one in float32.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

TOKENS = 640
"""A product is made of so many rows and positions at a time: what goes in and comes out stays in the processor's cache."""
Products = Mapping[nn.Module, tuple[Tensor, Tensor]]
"""Linear map -> what it was given in the untouched run, and what it returned: [prompt, position, width]."""


@dataclass(frozen=True)
class Near:
    """Where the rows of a pass stand in the untouched run.

    Attributes:
        products: of the untouched run. rows: which prompt each row has.
        start: the position of each row's first; ``read``: the one position that each row has, counted from there.
    """

    products: Products
    rows: Tensor
    start: int
    read: Tensor | None = None

    @cached_property
    def offset(self) -> int | None:
        """The first row's prompt, where the rows take all prompts in turn, again and again; None elsewhere."""
        n = next(iter(self.products.values()))[0].shape[0]
        first = int(self.rows[0])
        turn = (torch.arange(len(self.rows), device=self.rows.device) + first) % n
        return first if bool((turn == self.rows).all()) else None

    @cached_property
    def last(self) -> int:
        """The last prompt that a row has."""
        return int(self.rows.max())

    def blocks(self, untouched: Tensor, count: int) -> Iterator[tuple[slice, Tensor]]:
        """Slices of the rows, few enough for the processor's cache, each with what the untouched run has there:
        [prompt, position, width], which the rows of a slice take in turn."""
        n, total = len(untouched), len(self.rows)
        size = max(1, TOKENS // count) if untouched.device.type == "cpu" else total
        if self.read is not None or self.offset is None or total < 2 * n:
            for i in range(0, total, size):
                rows = self.rows[i:i + size]
                at = slice(i, i + len(rows))
                if self.read is not None:
                    yield at, untouched[rows, self.start + self.read[at]][:, None]
                else:
                    yield at, untouched.narrow(1, self.start, count).index_select(0, rows)
            return
        there = untouched.narrow(1, self.start, count).roll(-self.offset, 0)
        size, whole = max(1, size // n) * n, total - total % n
        for i in range(0, whole, size):
            yield slice(i, min(i + size, whole)), there
        if whole < total:
            yield slice(whole, total), there[:total - whole]


NEAR: ContextVar[Near | None] = ContextVar("NEAR", default=None)
"""Where the rows of the running pass stand; None in a pass that is computed as it is."""
NOTED: ContextVar[dict[nn.Module, tuple[Tensor, Tensor] | None] | None] = ContextVar("NOTED", default=None)
"""What the linear maps of a running untouched pass were given and returned; None for one that was called twice."""


@contextmanager
def near(products: Products, rows: Tensor, start: int, read: Tensor | None = None) -> Iterator[None]:
    """Linear maps inside add what changed to what they returned in the untouched run; as they are, without ``products``."""
    token = NEAR.set(Near(products, rows, start, read) if products else None)
    try:
        yield
    finally:
        NEAR.reset(token)


@contextmanager
def noting() -> Iterator[dict[nn.Module, tuple[Tensor, Tensor] | None]]:
    """What linear maps that take differences are given and return inside."""
    noted: dict[nn.Module, tuple[Tensor, Tensor] | None] = {}
    token = NOTED.set(noted)
    try:
        yield noted
    finally:
        NOTED.reset(token)


def take_differences(blocks: nn.ModuleList | list[nn.Module]) -> int:
    """Make the linear maps of some blocks, which must be ours, compute differences where there is an untouched run.

    Returns:
        how many there are.
    """
    found = [module for block in blocks for module in block.modules() if type(module) in (nn.Linear, Conv1D)]
    for module in found:
        module.forward = _Differences(module)
    return len(found)


class _Differences:
    """The forward of one linear map."""

    def __init__(self, module: nn.Module):
        self.module, weight = module, module.weight.detach()
        self.weight = (weight.T if type(module) is nn.Linear else weight).to(torch.bfloat16)      # [in, out]

    def __call__(self, x: Tensor) -> Tensor:
        here, noted = NEAR.get(), NOTED.get()
        if noted is not None:
            y = self._exact(x)
            noted[self.module] = (x.clone(), y.clone()) if x.dim() == 3 and self.module not in noted else None
            return y
        known = None if here is None else here.products.get(self.module)
        if known is None or not self._stands(x, here, known[0]):
            return self._exact(x)
        y = x.new_empty(*x.shape[:2], self.weight.shape[1])
        for (some, before), (_, after) in zip(*(here.blocks(one, x.shape[1]) for one in known), strict=True):
            moved = (x[some].view(-1, *before.shape) - before).to(torch.bfloat16)
            product = moved.flatten(0, -2) @ self.weight
            y[some].view(-1, *after.shape).copy_(product.view(-1, *after.shape)).add_(after)
        return y

    def _exact(self, x: Tensor) -> Tensor:
        return type(self.module).forward(self.module, x)

    @staticmethod
    def _stands(x: Tensor, here: Near, untouched: Tensor) -> bool:
        """Whether these are the rows and positions of the pass."""
        if x.dim() != 3 or x.shape[0] != len(here.rows) or x.shape[2] != untouched.shape[2] or here.last >= len(untouched):
            return False
        return x.shape[1] == 1 if here.read is not None else here.start + x.shape[1] <= untouched.shape[1]
