"""``interp report``: a page on the heads of a model on one or more tasks."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from interp.cli import arguments
from interp.cli.arguments import (
    UNFINISHED,
    check_kept,
    check_options,
    check_place,
    hired,
    load_model,
    remove_units,
    running_of_words,
    say,
    split,
    tasks_of,
)
from interp.core.errors import InterpError


def report(
    context: typer.Context,
    model: arguments.Model = "",
    task: Annotated[
        list[str] | None,
        typer.Option("--task", "-t", help="A task by name; may be given several times.", show_default=False),
    ] = None,
    prompts: arguments.Prompts = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", "--out", "-o", help="The page; --html and --out are the same.  [default: report.html, if "
                     "neither --json nor --csv is given]", show_default=False),
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option("--json", help="Every number as data, with interval, n, method and provenance.", show_default=False),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", help="One table: a row for each task, measure and head.", show_default=False),
    ] = None,
    circuit: Annotated[
        list[Path] | None,
        typer.Option("--circuit", help="A circuit of one of the tasks, a JSON file; may be given several times. Those that "
                     "ship with the project are found by themselves.", show_default=False),
    ] = None,
    types: Annotated[
        bool, typer.Option("--types/--no-types", help="Say what each head is: a few passes, once for the model.")
    ] = True,
    n: arguments.Number = None,
    seed: arguments.Seed = 0,
    device: arguments.Device = None,
    dtype: arguments.Dtype = "float32",
    backend: arguments.Backend = None,
    batch_size: arguments.BatchSize = None,
    memory: arguments.Memory = None,
    workers: arguments.Workers = "local",
    resume: arguments.Resume = False,
    keep_units: arguments.KeepUnits = False,
    heads: Annotated[int, typer.Option("--heads", help="Heads whose attention patterns are shown.")] = 3,
    title: Annotated[str | None, typer.Option("--title", help="Heading of the page.", show_default=False)] = None,
    save: Annotated[
        Path | None, typer.Option("--save", help="Folder to keep scores and patterns in.", show_default=False)
    ] = None,
    results: Annotated[
        Path | None, typer.Option("--results", help="Draw from such a folder; no model is run.", show_default=False)
    ] = None,
) -> None:
    """Write a self-contained page on the heads of a model: ranked with intervals and types, circuits, patterns, caveats.

    The page needs no network and reads without JavaScript; --json and --csv hold the same numbers (docs/report.md).
    With --resume a run that is interrupted can be started again and goes on where it stopped.

    Example: `interp report --model organism --task ioi --task induction --out report.html`
    """
    words, options = split(context.args)
    if words:
        raise InterpError(f"read {words[0]!r}", "the command takes options only", "give --task NAME for each task")
    own = ["html", "json", "csv", "circuit", "types", "no_types", "heads", "title", "save", "results"]
    check_options(options, {"interp report": own})
    if html is json is csv is None:
        html = Path("report.html")
    places = [place for place in (html, json, csv) if place is not None]
    if len({place.absolute() for place in places}) < len(places):
        raise InterpError("write a report", "two of its files would have one name", "give each a name of its own")
    for place in places:
        check_place(place, "file")
    if save is not None:
        check_place(save, "folder")
    check_kept(resume, keep_units)
    store = places[0].with_name(f"{places[0].stem}.{UNFINISHED}") if resume else None

    from interp.core.circuit import Circuit
    from interp.report import add_circuits, load, write
    from interp.report import save as keep

    circuits = [Circuit.load(path) for path in circuit or ()]

    if results is not None:
        if model or task or prompts:
            raise InterpError(f"draw the results in {results}", "a model or prompts were given too", "give one or the other")
        found = add_circuits(load(results), circuits)
        if not types:
            found = replace(found, types=None)
    else:
        chosen = tasks_of(task or [], prompts)
        loaded = load_model(model, device, dtype, backend)

        from interp.report import build

        with hired(loaded, running_of_words(batch_size, memory, workers, store)) as how:
            found = build(loaded, chosen, n, seed, top=heads, running=how, types=types, circuits=circuits, say=say)
    if save is not None:
        keep(found, save)
    written = write(found, html=html, json=json, csv=csv, title=title)
    remove_units(store, keep_units)
    sys.stdout.write("".join(f"{path.resolve()}\n" for path in written))
