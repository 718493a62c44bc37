"""The machine: what it is, how busy it was with other work, and how fast it multiplies matrices."""

import os
import platform
import statistics
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "transformers", "transformer-lens", "numpy")


def machine() -> dict[str, Any]:
    """Processor, cores, memory, versions and whether the processor has bfloat16 matrix units."""
    return {"processor": _processor(), "cores": os.cpu_count(), "memory_GiB": round(_memory() / 2**30, 1),
            "bfloat16_matrix_units": "amx_bf16" in _flags(), "python": platform.python_version(),
            "system": platform.system(), **{name: version(name) for name in PACKAGES}}


def gflops(rows: int, inner: int, columns: int, dtype: torch.dtype = torch.float32, seconds: float = 0.3) -> float:
    """Rate of the product [rows, inner] x [inner, columns] with a bias, in 1e9 operations a second: median of repeats."""
    a, b = torch.randn(rows, inner).to(dtype), torch.randn(inner, columns).to(dtype)
    bias, out = torch.zeros(columns, dtype=dtype), torch.empty(rows, columns, dtype=dtype)
    taken, begin = [], time.perf_counter()
    with torch.no_grad():
        while len(taken) < 4 or time.perf_counter() - begin < seconds:
            start = time.perf_counter()
            torch.addmm(bias, a, b, out=out)
            taken.append(time.perf_counter() - start)
    return 2 * rows * inner * columns / statistics.median(taken[1:]) / 1e9


def busy() -> tuple[float, float]:
    """Processor seconds that the whole machine and this process have used so far; (0, 0) where that is not told."""
    with suppress(OSError):
        fields = [int(x) for x in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        user, nice, system, _, _, irq, softirq, steal = fields
        return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK"), sum(os.times()[:4])
    return 0.0, 0.0


def others(before: tuple[float, float], after: tuple[float, float], seconds: float) -> float:
    """How many cores, on average, were busy with anything but this process and its children."""
    return max(0.0, (after[0] - before[0]) - (after[1] - before[1])) / seconds


def _cpuinfo() -> dict[str, str]:
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return {}


def _processor() -> str:
    found = _cpuinfo()
    name = found.get("model name") or platform.processor() or platform.machine()
    wide = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in _flags()]
    return f"{name} ({', '.join(wide)})" if wide else name


def _flags() -> set[str]:
    return set(_cpuinfo().get("flags", "").split())


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
