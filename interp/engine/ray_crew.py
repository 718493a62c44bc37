"""Ray actors that hold a model: how many, on which devices, how they start and what they can do.

Ray is an optional extra (``pip install 'interp[ray]'``), imported only when workers are asked for.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from interp.core.errors import InterpError
from interp.engine.passes import Unit, open_passes
from interp.models.model import hash_weights
from interp.models.travel import Parcel, pack, unpack


@dataclass(frozen=True)
class RayWorkers:
    """Which actors there are to be.

    Attributes:
        n: how many; None: one for each GPU (times ``per_device``), and on the CPU one for as many processors as this process
            has threads.
        per_device: how many share a GPU.
        address: of a Ray cluster (``"auto"``, ``"ray://host:10001"``); None: the one this process is connected to, else one
            started on this machine, which lasts as long as this process.
        retries: how often a unit may lose its actor before the sweep gives up.
        patience: seconds to wait for the first actor.
    """

    n: int | None = None
    per_device: int = 1
    address: str | None = None
    retries: int = 3
    patience: float = 600

    def __post_init__(self) -> None:
        if (self.n is not None and self.n < 1) or self.per_device < 1 or self.retries < 0:
            raise InterpError(f"run on {self}", "that is no actor at all, or fewer than 0 retries", "give n=1 or more")


@dataclass(frozen=True, eq=False)
class Crew:
    """Ray actors for the sweeps of one model. Made by ``crew``; given as ``workers=`` it serves several sweeps.

    Attributes:
        ray: the module. model, weights_sha256: the model here and its weights when it was sent.
        workers, n: what was asked for, and how many actors that are.
        hire: starts one more actor; returns it and the reference that is ready when it has the model.
        free: actors that hold the model and wait for work.
    """

    ray: Any
    model: Any
    weights_sha256: str
    workers: RayWorkers
    n: int
    hire: Callable[[], tuple[Any, Any]]
    free: list[Any]


@dataclass(frozen=True)
class Settings:
    """How this process computes, and therefore every actor."""

    device: str
    threads: int
    matmul_precision: str


@dataclass(frozen=True)
class Request:
    """The arguments of ``open_passes``, without the model."""

    batch: Any
    lists: tuple
    on: str
    metrics: tuple
    batch_size: int | None
    memory: int | None


class Worker:
    """One model on one device. What Ray makes an actor of."""

    def load(self, parcel: Parcel, settings: Settings) -> None:
        """Put the model together here, to be run as in the process it comes from."""
        torch.set_num_threads(settings.threads)
        torch.set_float32_matmul_precision(settings.matmul_precision)
        self._model = unpack(parcel, settings.device)

    def open(self, request: Request) -> tuple[tuple[int, ...], ...]:
        """Open the passes of a plan; returns the parts in which they take the prompts."""
        self._passes = open_passes(self._model, request.batch, request.lists, request.on, request.metrics,
                                   batch_size=request.batch_size, memory=request.memory)
        return parts(self._passes.units)

    def run(self, unit: Unit) -> tuple[np.ndarray, np.ndarray]:
        """The metrics and what acted, of one unit."""
        return self._passes.run(unit)


def parts(units: Sequence[Unit]) -> tuple[tuple[int, ...], ...]:
    """The parts in which units take the prompts: alike here and in an actor, or it could not run the units of here."""
    return tuple(sorted({unit.rows for unit in units}))


@contextmanager
def crew(model: Any, workers: RayWorkers | int) -> Iterator[Crew]:
    """Actors for several sweeps of one model, so that each loads it once; they end with the block.

    Raises:
        InterpError: Ray is not installed, cannot be reached, or has no such device; the model cannot travel.
    """
    asked = workers_of(workers)
    ray = _ray()
    _connect(ray, asked)
    n, needs = _size(ray, asked, model)
    parcel = ray.put(pack(model))
    settings = Settings(model.device.type, torch.get_num_threads(), torch.get_float32_matmul_precision())
    hireable = ray.remote(Worker).options(max_restarts=0, **needs)

    def hire() -> tuple[Any, Any]:
        actor = hireable.remote()
        return actor, actor.load.remote(parcel, settings)

    free: list[Any] = []
    try:
        yield Crew(ray, model, hash_weights(model.weights), asked, n, hire, free)
    finally:
        for actor in free:
            ray.kill(actor)


def workers_of(workers: Any) -> RayWorkers:
    """``RayWorkers``, or a number of them."""
    if isinstance(workers, RayWorkers):
        return workers
    if isinstance(workers, int) and not isinstance(workers, bool):
        return RayWorkers(n=workers)
    raise InterpError(f"run on the workers {workers!r}", "that is neither 'local', a number nor RayWorkers",
                      "use workers='local', workers=4 or workers=RayWorkers(...)")


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise InterpError("run a sweep on Ray workers", "Ray is not installed",
                          "install it: pip install 'interp[ray]'") from error
    return ray


def _connect(ray: Any, workers: RayWorkers) -> None:
    """Connect to the cluster that is asked for, or start one on this machine, unless this process is connected already."""
    if ray.is_initialized():
        return
    options = {"log_to_driver": False, "logging_level": "ERROR"}
    if workers.address is None:
        ray.init(address="local", include_dashboard=False, **options)
        return
    try:
        ray.init(address=workers.address, **options)
    except (ConnectionError, ValueError) as error:
        raise InterpError(f"reach the Ray cluster {workers.address!r}", first_line(error),
                          "check that it runs (ray status)") from error


def _size(ray: Any, workers: RayWorkers, model: Any) -> tuple[int, dict[str, float]]:
    """How many actors, and what each needs of Ray's resources."""
    there, kind = ray.cluster_resources(), model.device.type
    processors = there.get("CPU", 1)
    if kind == "cuda":
        if not there.get("GPU"):
            raise InterpError(f"run {model.name} on Ray workers", "it is on a GPU, and Ray sees none",
                              "load it on the CPU, or start Ray where the GPUs are")
        n = workers.n or int(there["GPU"]) * workers.per_device
        return n, {"num_gpus": 1 / workers.per_device, "num_cpus": _part(1, processors, n)}
    if kind != "cpu":
        raise InterpError(f"run {model.name} on Ray workers", f"it is on {kind}", "load it on cpu or cuda")
    threads = torch.get_num_threads()
    n = workers.n or max(1, int(processors // threads))
    return n, {"num_cpus": _part(threads, processors, n)}


def _part(wanted: int, there: float, n: int) -> float:
    """Processors to ask for, so that ``n`` actors fit: as many as wanted, or an equal part (whole numbers above one)."""
    part = min(wanted, there / n)
    return float(int(part)) if part >= 1 else int(part * 1000) / 1000


def first_line(error: Exception) -> str:
    """What an error says, in its first line, without the full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
