"""What a block is called with, and which axes of it count prompts and queries: found by comparing runs, not looked up.

Every argument of the network's own call is kept as a leaf under its path. Three small runs that differ in the number of
prompts and in the number of tokens left to do say for each axis what it counts; so the call can be made again for any rows
(prompts, in any order and number) and from any position on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Path = tuple[str | int, ...]
ROW, QUERY = "row", "query"
Axis = tuple[str, int] | None
"""What an axis counts, and how many entries each prompt has on it; None for anything else."""


@dataclass(frozen=True)
class Call:
    """Positional and named arguments of one call of a module."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def map(self, change: Callable[[Path, Any], Any]) -> "Call":
        """The same call with every leaf changed."""
        return Call(_map(self.args, (0,), change), _map(dict(self.kwargs), (1,), change))

    def leaves(self) -> dict[Path, Any]:
        """Everything in it that is no tuple, list or dict, by path."""
        found: dict[Path, Any] = {}
        self.map(found.__setitem__)
        return found


def _map(value: Any, path: Path, change: Callable[[Path, Any], Any]) -> Any:
    if type(value) is dict:
        return {key: _map(part, (*path, key), change) for key, part in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_map(part, (*path, i), change) for i, part in enumerate(value))
    return change(path, value)


def hidden_path(call: Call) -> Path:
    """Where the residual stream stands in a block's call: its first tensor."""
    return next(path for path, leaf in call.leaves().items() if isinstance(leaf, Tensor))


@dataclass(frozen=True)
class Layout:
    """What the axes of a call's tensors count.

    Attributes:
        hidden: path of the residual stream.
        cache: path of the key-value cache, None where the call has none.
        axes: path of a tensor -> its axes.
        once: whether a tensor that holds one prompt serves for any number of rows (it broadcasts).
    """

    hidden: Path
    cache: Path | None
    axes: Mapping[Path, tuple[Axis, ...]]
    once: bool = True

    def fits(self, call: Call) -> bool:
        """Whether a recorded call has no other tensors than these, with as many axes."""
        tensors = {path: leaf.dim() for path, leaf in call.leaves().items() if isinstance(leaf, Tensor)}
        return all(path in self.axes and len(self.axes[path]) == rank for path, rank in tensors.items())

    def shared(self, call: Call) -> Call:
        """The call with tensors that are the same for all prompts kept once: on an axis of length 1, which broadcasts."""
        def once(path: Path, leaf: Any) -> Any:
            if path == self.hidden or not isinstance(leaf, Tensor) or (ROW, 1) not in self.axes[path]:
                return leaf
            axis = self.axes[path].index((ROW, 1))
            first = leaf.narrow(axis, 0, 1)
            return first if leaf.shape[axis] > 1 and bool((leaf == first).all()) else leaf

        return call.map(once)

    def light(self, call: Call) -> Call:
        """The call without its hidden states, which need not be kept."""
        return call.map(lambda path, leaf: None if path == self.hidden else leaf)

    def resumed(self, call: Call, hidden: Tensor, cache: Any, rows: Tensor, start: int) -> Call:
        """The call for the prompts ``rows``, with ``hidden`` [row, position from ``start`` on, d_model] in it."""
        def change(path: Path, leaf: Any) -> Any:
            if path == self.hidden:
                return hidden
            if path == self.cache:
                return cache
            if not isinstance(leaf, Tensor):
                return leaf
            return picked(leaf, self.axes[path], rows, start, hidden.shape[1], self.once)

        return call.map(change)


def picked(tensor: Tensor, axes: tuple[Axis, ...], rows: Tensor, start: int, count: int, once: bool = True) -> Tensor:
    """A tensor for the prompts ``rows`` and ``count`` queries from ``start`` on; axes of length 1 stay (``once``: also those
    that count prompts)."""
    for i, axis in enumerate(axes):
        if axis is None or (tensor.shape[i] == 1 and (once or axis[0] == QUERY)):
            continue
        kind, per = axis
        if kind == QUERY:
            tensor = tensor.narrow(i, start, count)
        elif tensor.shape[i] == 1:
            tensor = tensor.index_select(i, torch.zeros_like(rows))      # one for all prompts: one for each row
        else:
            tensor = tensor.index_select(i, rows) if per == 1 else \
                tensor.unflatten(i, (-1, per)).index_select(i, rows).flatten(i, i + 1)
    return tensor


def layout_of(whole: Call, more: Call, resumed: Call | None, sizes: tuple[int, int, int, int], cache: Any,
              cache_resumed: Any) -> Layout | str:
    """The layout of a call; a sentence where it cannot be told.

    Args:
        whole: the call for n prompts of t tokens; ``more``: for m prompts of t tokens; ``resumed``: for n prompts, the
            last s of t tokens, the others being in the cache (None: positions are never left out).
        sizes: n, m, t, s.
        cache, cache_resumed: the caches of the first and of the last of these calls.
    """
    one, two = whole.leaves(), more.leaves()
    three = one if resumed is None else resumed.leaves()
    if not one.keys() == two.keys() == three.keys():
        return "its blocks get other arguments when part of a prompt lies in the cache"
    axes: dict[Path, tuple[Axis, ...]] = {}
    cache_path = None
    for path, leaf in one.items():
        if leaf is cache and cache is not None:
            if three[path] is not cache_resumed:
                return "its blocks get another cache than the network"
            cache_path = path
        elif isinstance(leaf, Tensor):
            found = _axes(leaf, two[path], three[path], sizes)
            if isinstance(found, str):
                return found
            axes[path] = found
        elif not _same(leaf, three[path]):
            return f"its blocks get an argument that depends on the position ({path[-1]})"
    return Layout(hidden_path(whole), cache_path, axes)


def _axes(one: Tensor, two: Any, three: Any, sizes: tuple[int, int, int, int]) -> tuple[Axis, ...] | str:
    n, m, t, s = sizes
    if not all(isinstance(x, Tensor) and x.dim() == one.dim() for x in (two, three)):
        return "its blocks get tensors of changing rank"
    found: list[Axis] = []
    for a, b, c in zip(one.shape, two.shape, three.shape, strict=True):
        if a != b:
            if a % n or b != a // n * m or c != a:
                return "the tensors that its blocks get do not grow with the number of prompts"
            found.append((ROW, a // n))
        elif a != c:
            if (a, c) != (t, s):
                return "the tensors that its blocks get do not shrink with the number of queries"
            found.append((QUERY, 1))
        else:
            found.append(None)
    return tuple(found)


def _same(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and isinstance(a, (bool, int, float, str, torch.dtype)) and a == b)
