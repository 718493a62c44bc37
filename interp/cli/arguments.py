"""Arguments that commands share, and the reading of those that belong to measures and tasks."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.core.errors import InterpError
from interp.core.registry import alike

Model = Annotated[
    str, typer.Option("--model", "-m", help="A built-in model, a hub id or a local folder.", show_default=False)
]
Prompts = Annotated[
    list[Path] | None,
    typer.Option("--prompts", help="A CSV or JSON-lines file of prompt pairs, in place of a task.", show_default=False),
]
Number = Annotated[
    int | None,
    typer.Option("-n", "--n", help="Prompts of each task.  [default: as the task says, mostly 64]", show_default=False),
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the prompts.")]
Device = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda or mps.  [default: the best there is]", show_default=False)
]
Dtype = Annotated[str, typer.Option("--dtype", help="float32, bfloat16 or float16.")]
Backend = Annotated[str | None, typer.Option("--backend", help="transformers or transformer_lens.", show_default=False)]
Metric = Annotated[str | None, typer.Option("--metric", help="Metric, in place of the task's own.", show_default=False)]
BatchSize = Annotated[
    int | None, typer.Option("--batch-size", help="Prompts per pass; changes no number.", show_default=False)
]
Memory = Annotated[
    float | None,
    typer.Option("--memory", help="GiB that one pass may take; changes no number.  [default: measured]", show_default=False),
]
Workers = Annotated[
    str,
    typer.Option(
        "--workers",
        help="Who runs the sweeps: `local`, this process; a number of Ray actors; `ray`, one for each device; or the "
        "address of a Ray cluster. Changes no number.",
    ),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Keep finished parts of sweeps, and take those that an interrupted run left."),
]
KeepUnits = Annotated[bool, typer.Option("--keep-units", help="With --resume: leave them there when all is done.")]

COMMON = (
    "model",
    "task",
    "prompts",
    "n",
    "seed",
    "device",
    "dtype",
    "backend",
    "metric",
    "batch_size",
    "memory",
    "workers",
    "resume",
    "keep_units",
    "out",
)

UNFINISHED = "unfinished"
"""Name of the folder in which interrupted runs leave what they had finished."""


def split(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Names and options of a mixed command line: ``["ablation", "--kind", "zero"]`` -> ``["ablation"], {"kind": "zero"}``.

    ``--name=value`` is read too; an option without a value means true; hyphens in a name stand for underscores.
    """
    names, options = [], {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            names.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        if not equals:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        options[name.replace("-", "_")] = value
    return names, options


def check_options(given: Mapping[str, str], owners: Mapping[str, Sequence[str]], known: Sequence[str] = COMMON) -> None:
    """Refuse an option that none of ``owners`` (name -> its options) has, with the nearest ones of all."""
    theirs = {option for options in owners.values() for option in options}
    for option in given:
        if option not in theirs:
            near = alike(option, [*theirs, *known])
            todo = (
                "did you mean " + " or ".join(f"--{name.replace('_', '-')}" for name in near) + "?"
                if near
                else "choose among " + ", ".join(f"--{name.replace('_', '-')}" for name in sorted({*theirs, *known}))
            )
            raise InterpError(
                f"use the option --{option.replace('_', '-')}",
                f"{_and(list(owners))} {'has' if len(owners) == 1 else 'have'} no such option",
                todo,
            )


def check_place(path: Path, what: str) -> None:
    """Refuse a place that cannot be written to before anything is computed."""
    import os

    there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if what == "file" and path.is_dir():
        raise InterpError(f"write {path}", "it is a folder", "give the name of a file")
    if (what == "folder" or there != path) and not there.is_dir():
        raise InterpError(f"write {path}", f"{there} is a file", "give another place")
    if not os.access(there if there.is_dir() else there.parent, os.W_OK):
        raise InterpError(f"write {path}", "permission denied", "give a place that you may write to")


def tasks_of(names: Sequence[str], files: Sequence[Path] | None) -> list[Any]:
    """The tasks of these names and the prompt files, in this order. Imports no torch for tasks by name."""
    from interp import tasks

    if not names and not files:
        raise InterpError(
            "choose prompts",
            "neither a task nor a file of prompts was given",
            "give --task NAME (see interp list tasks) or --prompts FILE",
        )
    found = [tasks.get(name) for name in names]
    for file in files or ():
        if not file.is_file():
            raise InterpError(f"read prompts from {file}", "there is no such file", "check the path")
        found.append(tasks.from_file(file))
    return found


def running_of_words(batch_size: int | None, memory: float | None, workers: str, store: Path | None) -> Any:
    """How the sweeps of a command are to be computed; lines that there are to say go to stderr."""
    from interp.engine.running import Running

    if memory is not None and not memory > 0:
        raise InterpError(f"give a pass {memory:g} GiB", "that is no memory", "give a number above 0")
    return Running(
        batch_size=batch_size,
        memory=None if memory is None else int(memory * 2**30),
        store=store,
        workers=_workers(workers),
        say=say,
    )


def _workers(text: str) -> Any:
    if text == "local":
        return None
    from interp.engine.ray_crew import RayWorkers

    if text.isdigit():
        return RayWorkers(n=int(text))
    if text == "ray":
        return RayWorkers()
    if text == "auto" or ":" in text:
        return RayWorkers(address=text)
    raise InterpError(
        f"run on the workers {text!r}",
        "that is neither local nor a number, ray or an address",
        "use --workers local, --workers 4, --workers ray or --workers ray://HOST:PORT",
    )


@contextmanager
def hired(model: Any, running: Any) -> Iterator[Any]:
    """``running`` with its Ray workers started, so that every sweep of a command has the same; they end with the block."""
    if running.workers is None:
        yield running
        return
    from interp.engine.ray_crew import crew

    with crew(model, running.workers) as workers:
        yield replace(running, workers=workers)


def check_kept(resume: bool, keep_units: bool) -> None:
    """Refuse to keep what is not stored."""
    if keep_units and not resume:
        raise InterpError("use the option --keep-units", "without --resume nothing is kept", "give --resume as well")


def say(line: str) -> None:
    """One line on stderr, dim where it is a terminal."""
    from rich.console import Console

    Console(stderr=True, markup=False, highlight=False, soft_wrap=True).print(line, style="dim")


def place_of_units(folder: Path, asked: Any) -> Path:
    """Where a command keeps the finished parts of its sweeps: a folder of its own, named after all that was asked."""
    import hashlib
    import json

    from interp.core.provenance import plain

    text = json.dumps(plain(asked, "request"), sort_keys=True)
    return folder / UNFINISHED / hashlib.sha256(text.encode()).hexdigest()[:12]


def remove_units(store: Path | None, keep: bool) -> None:
    """When the results are written: take away the finished parts of sweeps, and the folders that are empty then."""
    if store is None or not store.is_dir():
        return
    if keep:
        say(f"kept the finished parts of sweeps: {store}")
        return
    from interp.engine.unit_store import remove

    remove(store)
    for folder in (store, store.parent):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def load_model(name: str | None, device: str | None, dtype: str, backend: str | None) -> Any:
    """The model of a command line, loaded and verified."""
    import interp

    if not name:
        raise InterpError("choose a model", "none was given", "give --model NAME (see interp list models)")
    options = {"device": device, "dtype": dtype} | ({"backend": backend} if backend else {})
    return interp.load(name, **options)


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
