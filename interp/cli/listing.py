"""``interp list``: what there is, by name, without importing torch."""

from typing import Annotated

import typer

from interp.core.registry import unknown

KINDS = ("measures", "methods", "models", "tasks")
HIDDEN = ("progress", "running")
"""Options of measures that a command line has no words for."""


def list_(kind: Annotated[str, typer.Argument(help="models, tasks, measures or methods", show_default=False)]) -> None:
    """What there is: models, tasks, measures or methods of discovery, one a line with what it is.

    Example: `interp list measures`
    """
    from rich.console import Console
    from rich.table import Table

    if kind not in KINDS:
        raise unknown("kind of thing to list", kind, list(KINDS))
    columns, rows = {"measures": _measures, "methods": _methods, "models": _models, "tasks": _tasks}[kind]()
    table = Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for row in rows:
        table.add_row(*row)
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = 160
    console.print(table)


def _measures() -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    from interp.measures.catalog import catalog

    return ("measure", "what it is", "options"), [
        (
            entry.name,
            entry.summary,
            ", ".join(f"--{option.name.replace('_', '-')}" for option in entry.options if option.name not in HIDDEN),
        )
        for entry in catalog().values()
    ]


def _methods() -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    from interp.discovery.method import DEFAULT, find, names

    return ("method", "what it is", "scores", "cost", "options"), [
        (name + (" (default)" if name == DEFAULT else ""), found.summary, found.level, found.cost,
         ", ".join(f"--{option.replace('_', '-')}" for option in found.options if option not in HIDDEN))
        for name, found in ((name, find(name)) for name in names())
    ]


def _tasks() -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    from interp import tasks

    found = [tasks.get(name) for name in tasks.names()]
    return ("task", "what the model must do", "corruptions", "fits"), [
        (task.name, task.description, ", ".join(task.corruptions), ", ".join(task.fits)) for task in found
    ]


def _models() -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    from interp.models.builtin import SHORT_NAMES, shipped

    rows = [(name, "ships with interp") for name in shipped()]
    rows += [(name, f"short for {hub} on the Hugging Face Hub") for name, hub in SHORT_NAMES.items()]
    rows += [
        (
            "handmade-...",
            "weights written by hand, circuits known: induction, ioi, retrieval, sink, gates (or, and, xor, cancel)",
        ),
        ("compiled-...", "programs compiled to weights, circuits known: reverse, sort, balance, share, seen, and nine more"),
        ("planted-...", "circuits of compiled programs planted in dense weights by training: reverse, share, same"),
        ("FOLDER", "a local folder with config.json and safetensors"),
        ("ORGANISATION/NAME", "any id of the Hugging Face Hub"),
    ]
    return ("model", "what it is"), rows
