"""``interp score``: head scores by one or more measures, saved as parquet and shown as a table."""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.cli import arguments
from interp.cli.arguments import (
    check_kept,
    check_options,
    check_place,
    hired,
    load_model,
    place_of_units,
    remove_units,
    running_of_words,
    split,
    tasks_of,
)
from interp.core.errors import InterpError
from interp.core.registry import unknown


def score(
    measure: Annotated[
        list[str], typer.Argument(metavar="MEASURE", help="Measures by name, and their options.", show_default=False)
    ],
    model: arguments.Model = "",
    task: Annotated[str, typer.Option("--task", "-t", help="A task by name.", show_default=False)] = "",
    prompts: arguments.Prompts = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the scores.", show_default=False)] = None,
    n: arguments.Number = None,
    seed: arguments.Seed = 0,
    device: arguments.Device = None,
    dtype: arguments.Dtype = "float32",
    backend: arguments.Backend = None,
    metric: arguments.Metric = None,
    batch_size: arguments.BatchSize = None,
    memory: arguments.Memory = None,
    workers: arguments.Workers = "local",
    resume: arguments.Resume = False,
    keep_units: arguments.KeepUnits = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, and do not do it.")] = False,
    top: Annotated[
        int, typer.Option("--top", help="Heads in the printed table; with --confidence, only these are looked for.")
    ] = 10,
) -> None:
    """Score every head by one or more measures: one parquet file for each, and a table with intervals.

    Options of the measures and of the task are given by their names (`interp list measures`); an option goes to every
    measure that has it. Files are named after model, prompts, measure and what else was asked, so that results can share
    a folder. With --resume a run that is interrupted can be started again and goes on where it stopped.

    `interp score activation_patching --top 20 --confidence 0.95` finds the 20 heads of the largest effect without sweeping
    all; `--precision certified` rounds to bfloat16 what a patch changes and redoes what that could decide
    (docs/certified.md).

    Example: `interp score activation_patching ablation --kind zero --model organism --task ioi -n 64 --out scores`
    """
    from interp.measures.catalog import RUNNING, catalog

    names, given = split(measure)
    entries = catalog()
    if not names:
        raise InterpError("score heads", "no measure was given", f"give one or more of {', '.join(entries)}")
    for name in names:
        if name not in entries:
            raise unknown("measure", name, list(entries))
    if task and prompts:
        raise InterpError("choose prompts", "both a task and a file were given", "give one of --task and --prompts")
    if prompts and len(prompts) > 1:
        raise InterpError("choose prompts", f"{len(prompts)} files were given", "score one file at a time")
    bare = not task and not prompts and all(entries[name].about == "weights" for name in names)
    chosen = None if bare else tasks_of([task] if task else [], prompts)[0]
    theirs = {
        name: [
            option.name
            for option in entries[name].options
            if option.name not in (*RUNNING, "metric", "seed", "top")
        ]
        for name in names
    }
    owners = theirs if chosen is None else theirs | {f"the task {chosen.name}": list(chosen.options)}
    check_options(given, owners, (*arguments.COMMON, "dry_run", "top"))
    check_kept(resume, keep_units)
    if out is None and not dry_run:
        raise InterpError("score heads", "no place for the scores was given", "give --out FOLDER")
    if out is not None:
        check_place(out, "folder")

    from interp.core.store import file_name
    from interp.measures.measure import find
    from interp.measures.options import read

    loaded = load_model(model, device, dtype, backend)
    batch = None
    if chosen is not None:
        own = {
            option: chosen.read(option, text)
            for option, text in given.items()
            if option not in {o for options in theirs.values() for o in options}
        }
        batch = chosen.batch(loaded, n, seed, metric=metric, **own)
    jobs = []
    for name in names:
        function = find(name)
        parameters = inspect.signature(function).parameters
        options = {
            option: read(text, parameters[option].annotation) for option, text in given.items() if option in theirs[name]
        }
        if "top" in parameters and ("confidence" in options or options.get("precision") == "certified"):
            options["top"] = top
        jobs.append((function, options | ({"seed": seed} if "seed" in parameters else {})))
    store = None
    if resume and not dry_run:
        asked = [[function.entry.name, {o: str(value) for o, value in options.items()}] for function, options in jobs]
        store = place_of_units(out, [loaded.provenance_dict(), batch and batch.provenance_dict(), metric, asked])
    running = running_of_words(batch_size, memory, workers, store)
    if dry_run:
        _say_costs(loaded, batch, jobs, running)
        return
    with hired(loaded, running) as how:
        results = [function(loaded, batch, **options, running=how) for function, options in jobs]
    for name, scores in zip(names, results, strict=True):
        said = ",".join(f"{option}={text}" for option, text in given.items() if option in theirs[name])
        _show(scores, top, scores.save(out / file_name(scores.provenance, said)))
    remove_units(store, keep_units)


def _say_costs(model: Any, batch: Any, jobs: Sequence[tuple[Callable[..., Any], Mapping[str, Any]]], running: Any) -> None:
    """What each measure would cost, one line each on stdout."""
    from interp.engine.sweep import DryRunError

    for function, options in jobs:
        entry = function.entry
        cost = f"no sweep; {entry.cost}"
        if "running" in {option.name for option in entry.options}:
            try:
                function(model, batch, **options, running=replace(running, dry_run=True))
            except DryRunError as told:
                cost = str(told.cost)
        sys.stdout.write(f"{entry.name}: {cost}.\n")


def _show(scores: Any, top: int, path: Path) -> None:
    """The largest heads of one measure as a table on stdout."""
    from rich.console import Console
    from rich.table import Table

    from interp.report.panels import measure_label
    from interp.views import labels

    record, frame = scores.provenance, scores.top(top)
    label = measure_label(record.measure, record.options, record.direction)
    prompts = "no prompts" if record.task.get("n") == 0 else labels.plural(scores.n_prompts, "prompt")
    table = Table(
        title=f"{label}: {record.task['name']}, {record.model['name']}, {prompts}",
        title_justify="left",
        title_style="bold",
        box=None,
        padding=(0, 2, 0, 0),
    )
    further = list(scores.dims[3:])
    for column in ("head", *further, record.metric, "95 % interval", "q", "of the whole"):
        table.add_column(column, justify="left" if column in ("head", *further) else "right")
    for row in frame.to_dict("records"):
        table.add_row(
            str(row["head"]),
            *(str(row[dim]) for dim in further),
            labels.number(row["mean"]),
            labels.interval(row["low"], row["high"]),
            labels.probability(row["q"]).removeprefix("= ") + ("" if row["significant"] or isnan(row["q"]) else " n.s."),
            labels.percent(row["normalized"]),
        )
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = 120
    console.print(table)
    if scores.certificate:
        console.print(scores.certificate)
    if refused := frame.attrs.get("normalized"):
        console.print(refused, style="dim")
    console.print(f"saved: {path}\n")
