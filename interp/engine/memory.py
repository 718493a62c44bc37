"""How much memory work takes at its peak, measured, and what that says about how much of it fits into a budget."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

DEFAULT = 2**31
"""Bytes for the activations of a pass on a processor, where nothing else is said."""
PART_OF_DEVICE = 0.5
"""The part of an accelerator's memory that they may take."""
SPARE = 1.1
"""Factor on what was measured: a pass may hold a little more than the one that was measured."""

SCRATCH = 2**24
"""Bytes that a processor's operations and allocator take besides what is measured."""


@dataclass
class Peak:
    """Bytes that came to life while something ran: at most at one time (``most``), and at its end (``left``)."""

    most: int = 0
    left: int = 0


class _Live(TorchDispatchMode):
    """Follows every storage that an operation makes, until it dies."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = Peak()
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            at, size = storage.data_ptr(), storage.nbytes()
            given = size and at not in self.known and any(x.untyped_storage().data_ptr() == at
                                                          for x in _tensors((args, *(kwargs or {}).values())))
            if size and at not in self.known and not given:
                self.known.add(at)
                self.peak.left += size
                self.peak.most = max(self.peak.most, self.peak.left)
                weakref.finalize(storage, self._died, at, size).atexit = False
        return result

    def _died(self, at: int, size: int) -> None:
        if at in self.known:
            self.known.discard(at)
            self.peak.left -= size


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)


@contextmanager
def measured(device: torch.device) -> Iterator[Peak]:
    """Measure what runs inside: on CUDA by its allocator, elsewhere by following storages (operations' own scratch space is
    not seen there)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before, peak = torch.cuda.memory_allocated(device), Peak()
        yield peak
        peak.most, peak.left = (f(device) - before for f in (torch.cuda.max_memory_allocated, torch.cuda.memory_allocated))
        return
    live = _Live()
    with live:
        yield live.peak


def warm_up(device: torch.device) -> tuple[int, ...]:
    """Sizes to run before measuring: an accelerator's libraries take their own workspace in the first pass, and keep it."""
    return () if device.type == "cpu" else (1,)


def budget(memory: int | None, device: torch.device) -> int:
    """Bytes that tensors may take: of those asked for (by default a part of the accelerator, or ``DEFAULT``) what is left
    beside the scratch space of a processor, which is not measured."""
    if memory is not None:
        return int(memory) if device.type == "cuda" else max(int(memory) - SCRATCH, int(memory) // 2)
    if device.type == "cuda":
        return int(PART_OF_DEVICE * torch.cuda.get_device_properties(device).total_memory)
    return DEFAULT


@dataclass(frozen=True)
class Line:
    """Bytes as a line: ``fixed`` and ``each`` per entry, from what ``few`` and ``many`` entries took."""

    fixed: float
    each: float

    @classmethod
    def through(cls, few: int, small: int, many: int, large: int) -> "Line":
        """The line through two measurements; through zero and the second one, where that is no larger than the first."""
        each = (large - small) / (many - few) if many > few and large > small else large / max(many, 1)
        return cls(max(0.0, small - each * few), each)

    def fit(self, size: float) -> int:
        """How many entries fit into ``size`` bytes; at least one."""
        return max(1, int((size / SPARE - self.fixed) / self.each)) if self.each else 2**31


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed."""
    said = str(error).lower()
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and ("can't allocate memory" in said or "not enough memory" in said))


@dataclass
class Halving:
    """Runs work on many entries in pieces; where memory does not suffice, in halves from then on.

    Attributes:
        most: entries of a piece that proved too many; None as long as all went well.
    """

    most: int | None = field(default=None)

    def run(self, entries: Any, work: Callable[[Any], None]) -> None:
        """``work`` on consecutive pieces of ``entries`` (anything that can be sliced)."""
        start = 0
        while start < len(entries):
            piece = entries[start:start + (self.most or len(entries))]
            if self._fits(piece, work):
                start += len(piece)
                continue
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self.most = (len(piece) + 1) // 2

    def _fits(self, piece: Any, work: Callable[[Any], None]) -> bool:
        """Do the work; False where memory did not suffice and a smaller piece can be tried."""
        try:
            work(piece)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or len(piece) < 2:
                raise
            return False
        return True
