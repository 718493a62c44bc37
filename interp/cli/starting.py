"""``interp new``: files to start from."""

import json
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from interp.cli import arguments
from interp.cli.arguments import check_place
from interp.core.errors import InterpError

new = typer.Typer(name="new", no_args_is_help=True)

_NAME = re.compile(r"[\w-]+")


@new.callback()
def _group() -> None:
    """Start something from a template: a notebook.

    Example: `interp new notebook my_study --model organism --task ioi`
    """


@new.command("notebook")
def notebook(
    name: Annotated[str, typer.Argument(help="What the file is called, with or without .ipynb", show_default=False)],
    model: Annotated[str, typer.Option("--model", "-m", help="The model it begins with.")] = "organism",
    task: Annotated[str, typer.Option("--task", "-t", help="The task it begins with.")] = "ioi",
    n: Annotated[int, typer.Option("-n", "--n", help="Prompts on which heads are chosen, and as many to judge them.")] = 32,
    seed: arguments.Seed = 0,
    folder: Annotated[Path, typer.Option("--folder", help="Where it goes.")] = Path(),
) -> None:
    """Start a notebook: question, method, figure, finding, limit and claims, with code that runs for this model and task.

    Its first cell holds model, task, number of prompts and seed; nothing below names them, so it runs on any other.

    Example: `interp new notebook who-moves-names --model gpt2 --task ioi`
    """
    from interp import tasks

    path = folder / f"{stem_of(name)}.ipynb"
    if path.exists():
        raise InterpError(f"start the notebook {path}", "it exists", "choose another name, or remove it first")
    if n < 2:
        raise InterpError(f"start a notebook with {n} prompts", "an interval needs several", "give -n 2 or more, say 32")
    tasks.get(task)
    check_model(model)
    check_place(path, "file")

    from interp.cli.notebooks import cleaned, from_text, save

    made = cleaned(from_text(text_of(path.stem, MODEL=model, TASK=task, N=n, SEED=seed)))
    sys.stdout.write(f"saved: {save(made, path)}\nopen it: jupyter lab {path}\n")


def stem_of(name: str) -> str:
    """The name of a file without its ending; a folder or an odd character in it is refused."""
    stem = name.removesuffix(".ipynb")
    if not _NAME.fullmatch(stem):
        odd = sorted({letter for letter in stem if not _NAME.fullmatch(letter)})
        true = f"{', '.join(map(repr, odd))} cannot stand in it" if odd else "it is empty"
        better = re.sub(r"[^\w-]+", "-", Path(stem).name).strip("-")
        todo = "use letters, digits, - and _, and --folder for where"
        raise InterpError(f"call a notebook {name!r}", true, f"call it {better!r}: {todo}" if better else todo)
    return stem


def check_model(name: str) -> None:
    """Refuse a model's name that can lead nowhere; what a folder or the Hub holds is seen when the notebook runs."""
    from interp.models.builtin import SHORT_NAMES, shipped, unknown_model

    if name.startswith(("handmade-", "compiled-")):
        raise InterpError(f"start a notebook on {name}", "its prompts are its own, no task's",
                          "choose a model that has learnt the task")
    if not (name in shipped() or name in SHORT_NAMES or "/" in name or Path(name).expanduser().is_dir()):
        raise unknown_model(name, "it is no built-in model, no short name and no folder, and ids of the Hub are owner/name")


def text_of(stem: str, **given: str | int) -> str:
    """The template filled in, as text in cells."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    words = re.sub(r"^\d+[-_]*", "", stem).replace("-", " ").replace("_", " ").strip() or stem
    environment = Environment(loader=PackageLoader("interp.cli", "templates"), undefined=StrictUndefined, autoescape=False)
    values = {name: json.dumps(value, ensure_ascii=False) for name, value in given.items()}
    return environment.get_template("notebook.py.j2").render(title=words[0].upper() + words[1:], **values)
