"""Name -> thing, refusing duplicates and answering a misspelt name with the nearest ones."""

import difflib
from collections.abc import Iterator
from typing import Generic, TypeVar

from interp.core.errors import InterpError

T = TypeVar("T")


CUTOFF, CLOSE = 0.5, 0.25
"""How alike a name must be to be proposed (1 = the same), and how much less so than the nearest."""


class Registry(Generic[T]):
    """A table of named things of one kind (``kind`` is the field's word for it: model, task, measure, ...)."""

    def __init__(self, kind: str):
        self.kind = kind
        self._things: dict[str, T] = {}

    def add(self, name: str, thing: T) -> T:
        """Register ``thing``; a name taken by something else is an error of the programmer."""
        if name in self._things and self._things[name] is not thing:
            raise ValueError(f"two {self.kind}s are called {name!r}")
        self._things[name] = thing
        return thing

    def __getitem__(self, name: str) -> T:
        if name not in self._things:
            raise unknown(self.kind, name, list(self._things))
        return self._things[name]

    def __contains__(self, name: object) -> bool:
        return name in self._things

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._things))

    def __len__(self) -> int:
        return len(self._things)

    def items(self) -> list[tuple[str, T]]:
        return sorted(self._things.items())


def unknown(kind: str, name: str, known: list[str]) -> InterpError:
    """The error for a name that is not in ``known``, with the nearest names."""
    return InterpError(f"find the {kind} {name!r}", f"there is no {kind} of that name", nearest(name, known))


def nearest(name: str, known: list[str]) -> str:
    """What to advise for a name that is not in ``known``: the nearest names, or all of them."""
    near = alike(name, known)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else "choose one of " + ", ".join(sorted(known))


def alike(name: str, known: list[str]) -> list[str]:
    """Up to three known names that ``name`` may stand for, the nearest first; none that is much farther than that one."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=CUTOFF)
    ratios = [difflib.SequenceMatcher(None, other, name).ratio() for other in near]
    return [other for other, ratio in zip(near, ratios, strict=True) if ratio >= ratios[0] - CLOSE]
