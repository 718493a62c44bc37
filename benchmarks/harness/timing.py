"""Contenders timed in turn: warm-up, then rounds in which each runs once, the order reversed from round to round."""

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Contender:
    """Something that is timed.

    Attributes:
        name: who it is.
        run: does the work and returns its numbers.
        setup: work that is needed once; it is timed too, and its result handed to ``run``.
        times: what the time of ``run`` is multiplied by, where only a part of the work is done.
        part: which part that is, in words.
        warm: run once before the first round; False for what is too slow to be run for nothing.
    """

    name: str
    run: Callable[..., Any]
    setup: Callable[[], Any] | None = None
    times: float = 1.0
    part: str = ""
    warm: bool = True


@dataclass(frozen=True)
class Timing:
    """Seconds of each round (extrapolated, where ``part`` says so) and what each returned."""

    name: str
    seconds: tuple[float, ...]
    values: tuple[Any, ...]
    part: str = ""

    @property
    def value(self) -> Any:
        """What the last round returned."""
        return self.values[-1]

    @property
    def median(self) -> float:
        """Median over rounds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Largest minus smallest, as a part of the median."""
        return (max(self.seconds) - min(self.seconds)) / self.median


def in_turn(contenders: Sequence[Contender], repeats: int) -> dict[str, Timing]:
    """Time the contenders, ``repeats`` rounds; by name."""
    for contender in contenders:
        if contender.warm:
            _once(contender)
    taken: dict[str, list[tuple[float, Any]]] = {contender.name: [] for contender in contenders}
    for round_ in range(repeats):
        for contender in contenders[:: -1 if round_ % 2 else 1]:
            taken[contender.name].append(_once(contender))
    return {c.name: Timing(c.name, *map(tuple, zip(*taken[c.name], strict=True)), c.part) for c in contenders}


def _once(contender: Contender) -> tuple[float, Any]:
    gc.collect()
    start = time.perf_counter()
    ready = (contender.setup(),) if contender.setup else ()
    between = time.perf_counter()
    value = contender.run(*ready)
    return between - start + (time.perf_counter() - between) * contender.times, value
