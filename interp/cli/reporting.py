"""``interp report``: a page on the heads of a model on one or more tasks."""

import sys
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
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The page.  [default: report.html]", show_default=False)
    ] = None,
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
    """Write a self-contained page on the heads of a model: scores with intervals, agreement, patterns, caveats.

    With --resume a run that is interrupted can be started again and goes on where it stopped.

    Example: `interp report --model organism --task ioi --task induction --out report.html`
    """
    words, options = split(context.args)
    if words:
        raise InterpError(f"read {words[0]!r}", "the command takes options only", "give --task NAME for each task")
    check_options(options, {"interp report": ["heads", "title", "save", "results"]})
    page = out or Path("report.html")
    check_place(page, "file")
    if save is not None:
        check_place(save, "folder")
    check_kept(resume, keep_units)
    store = page.with_name(f"{page.stem}.{UNFINISHED}") if resume else None

    from interp.report import load, report
    from interp.report import save as keep

    if results is not None:
        if model or task or prompts:
            raise InterpError(f"draw the results in {results}", "a model or prompts were given too", "give one or the other")
        found = load(results)
    else:
        chosen = tasks_of(task or [], prompts)
        loaded = load_model(model, device, dtype, backend)

        from interp.report import build

        with hired(loaded, running_of_words(batch_size, memory, workers, store)) as how:
            found = build(loaded, chosen, n, seed, top=heads, running=how, say=say)
    if save is not None:
        keep(found, save)
    written = report(found, page, title=title)
    remove_units(store, keep_units)
    sys.stdout.write(f"{written.resolve()}\n")
