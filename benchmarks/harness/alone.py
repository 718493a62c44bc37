"""A function in a process of its own, so that its peak memory is its own."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def alone(function: Callable[..., Any], *given: Any) -> Any:
    """The result of a module's function, computed in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *given).result()


@contextmanager
def peak() -> Iterator[dict[str, int]]:
    """Bytes of resident memory: ``before``, and the highest ``peak`` while the body ran (Linux)."""
    found = {"before": resident("VmRSS"), "peak": 0}
    CLEAR.write_text("5")    # the kernel forgets the highest mark
    try:
        yield found
    finally:
        found["peak"] = resident("VmHWM")


def resident(which: str) -> int:
    """``VmRSS`` (now) or ``VmHWM`` (the highest so far), in bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(which))
    return int(line.split()[1]) * 1024
