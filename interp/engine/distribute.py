"""The units of a sweep on Ray actors: one model on each device, on one machine or on a cluster.

Each actor loads the model the way it was loaded here (a model in memory travels by its weights), opens the same passes and
runs the units it is handed, one at a time. On the CPU every actor computes with as many threads as this process, so that
results are the same bit for bit. An actor that dies loses the one unit it was working on, which goes to another.

    sweep(model, batch, heads, running=Running(workers=RayWorkers(n=4)))

    with crew(model, RayWorkers(n=4)) as workers:       # several sweeps, the model loaded once
        scores = interp.measures.ablation(model, batch, running=Running(workers=workers))
"""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from interp.core.errors import InterpError
from interp.engine.passes import Unit
from interp.engine.ray_crew import Crew, RayWorkers, Request, crew, first_line, parts
from interp.models.model import hash_weights

__all__ = ["Crew", "RayWorkers", "crew", "run_units"]

LOAD, OPEN = "load", "open"


def run_units(plan: Any, units: Sequence[Unit],
              workers: RayWorkers | Crew | int) -> Iterator[tuple[Unit, np.ndarray, np.ndarray]]:
    """Each unit of ``plan`` with its metrics and what acted, as it is finished, in any order.

    Raises:
        InterpError: Ray is not installed, or has no such device; no actor starts; a unit loses its actor too often; and
            whatever the unit itself raises.
    """
    if not isinstance(workers, Crew):
        with crew(plan.model, workers) as opened:
            yield from _work(plan, units, opened)
        return
    if plan.model is not workers.model or hash_weights(plan.model.weights) != workers.weights_sha256:
        raise InterpError(f"run a sweep of {plan.model.name} on these Ray workers",
                          "they hold another model, or other weights", "open a crew of the model as it is now")
    yield from _work(plan, units, workers)


def _work(plan: Any, units: Sequence[Unit], workers: Crew) -> Iterator[tuple[Unit, np.ndarray, np.ndarray]]:
    ray, retries = workers.ray, workers.workers.retries
    request = ray.put(Request(plan.batch, plan.lists, plan.on, plan.metrics, plan.batch_size, plan.memory))
    waiting, left, started = deque(range(len(units))), len(units), False
    deaths: Counter[int | str] = Counter()
    busy: dict[Any, tuple[Any, int | str]] = {}      # what a reference brings: of which actor, a unit or a step before units
    open_: list[Any] = []      # actors with the passes open and nothing to do

    def hire() -> None:
        actor, ready = workers.hire()
        busy[ready] = actor, LOAD

    try:
        while workers.free and len(busy) < min(workers.n, left):
            actor = workers.free.pop()
            busy[actor.open.remote(request)] = actor, OPEN
        while len(busy) < min(workers.n, left):
            hire()
        while left:
            ready, _ = ray.wait(list(busy), num_returns=1, timeout=None if started else workers.workers.patience)
            if not ready:
                raise InterpError(f"run on {workers.n} Ray actors", f"none started in {workers.workers.patience:g} s",
                                  "ask for fewer, or wait until the cluster is free (ray status)")
            actor, task = busy.pop(ready[0])
            try:
                result = ray.get(ready[0])
            except _lost(ray) as error:
                ray.kill(actor)
                deaths[task] += 1
                if deaths[task] > retries:
                    raise _gave_up(units, task, retries, error) from error
                if isinstance(task, int):
                    waiting.appendleft(task)
                hire()
            except ray.exceptions.RayTaskError as error:
                if task == LOAD:
                    ray.kill(actor)
                else:
                    workers.free.append(actor)      # the actor is well; what it was asked is at fault
                raise error.cause if isinstance(error.cause, Exception) else error from None
            else:
                started = True
                if task == LOAD:
                    busy[actor.open.remote(request)] = actor, OPEN
                else:
                    open_.append(actor)
                if task == OPEN and result != parts(plan.units):
                    raise InterpError("run a sweep on Ray actors", "an actor takes the prompts in other parts than here",
                                      "say batch_size=N or memory=BYTES, so that all take them alike")
                if isinstance(task, int):
                    left -= 1
                    yield (units[task], *result)
            while open_ and waiting:
                actor, task = open_.pop(), waiting.popleft()
                busy[actor.run.remote(units[task])] = actor, task
    finally:
        workers.free.extend(open_)
        for actor, _ in busy.values():
            ray.kill(actor)


def _lost(ray: Any) -> tuple[type[Exception], ...]:
    """The errors that mean: the actor, its machine or its answer is gone; the unit itself is not known to be at fault."""
    names = ("RayActorError", "WorkerCrashedError", "NodeDiedError", "ObjectLostError", "OutOfMemoryError")
    return tuple(getattr(ray.exceptions, name) for name in names if hasattr(ray.exceptions, name))


def _gave_up(units: Sequence[Unit], task: int | str, retries: int, error: Exception) -> InterpError:
    times = f"{retries + 1} died" if retries else "it died"
    if isinstance(task, str):
        return InterpError("start Ray actors", f"{times} while the model was loaded ({first_line(error)})",
                           "see Ray's logs; a smaller model or more memory may help")
    unit = units[task]
    return InterpError(f"run a unit of {len(unit.lists)} lists on {len(unit.rows)} prompts on Ray actors",
                       f"{times} of it ({first_line(error)})",
                       "see Ray's logs; a smaller batch_size or memory may help (finished units are in the store, if any)")
