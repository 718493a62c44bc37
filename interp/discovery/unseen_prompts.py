"""Prompts that a circuit was not found on."""

from collections.abc import Mapping, Sequence
from typing import Any

from interp import tasks
from interp.core.circuit import Circuit
from interp.core.errors import InterpError
from interp.tasks.batch import Batch
from interp.tasks.prompt_file import PromptFile
from interp.tasks.task import Task


def unseen(model: Any, task: Task | PromptFile, n: int | None = None, seed: int = 0, *, seen: Sequence[Batch] = (),
           metric: str | None = None, options: Mapping[str, Any] | None = None) -> Batch:
    """``n`` prompts of a task whose clean tokens are in no batch of ``seen``.

    Raises:
        InterpError: the task does not have that many others.
    """
    known = {tuple(row) for batch in seen for row in batch.clean.rows()}
    drawn = task.batch(model, n, seed, metric=metric, **dict(options or {}))
    n = drawn.n if n is None else n
    more = sum(tuple(row) in known for row in drawn.clean.rows())
    if more:
        drawn = task.batch(model, n + len(known), seed, metric=metric, **dict(options or {}))
    at = [i for i, row in enumerate(drawn.clean.rows()) if tuple(row) not in known][:n]
    if len(at) < n:
        raise InterpError(f"judge on {n} other prompts of {task.name}", f"there are {len(at)}", "ask for fewer")
    return drawn.subset(at) if more else drawn


def found_on(model: Any, circuit: Circuit) -> Batch | None:
    """The prompts that a circuit's file says it was found on, made again; None where it names no task of ours.

    Raises:
        InterpError: they come out otherwise (another version of the task, another tokenizer).
    """
    told = circuit.provenance.get("task")
    if not isinstance(told, Mapping) or told.get("name") not in tasks.names() or told.get("seed") is None:
        return None
    task = tasks.get(told["name"])
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in told["options"].items()
               if name in task.options and name != "first_token"}
    batch = task.batch(model, int(told["n"]), int(told["seed"]), first_token=told["options"].get("first_token"), **options)
    if batch.tokens_sha256() != told["tokens_sha256"]:
        raise InterpError(f"make the prompts that {circuit.name or 'the circuit'} was found on",
                          "this version of the task makes others of that seed",
                          "find it again, or judge with --seed and prompts of which you know that they are other ones")
    return batch
