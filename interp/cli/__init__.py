"""The shell: ``interp list``, ``interp score``, ``interp report``, ``interp types``, and of circuits
``interp discover``, ``interp evaluate``, ``interp compare``, ``interp reuse``; of notebooks ``interp new notebook``,
``interp run-notebook`` and ``interp freeze``.

What cannot be done is said in one sentence on stderr, with exit code 2 and nothing half-written. ``interp --help`` and
``interp list`` import no torch.
"""

import os
import sys

import typer

from interp.cli.comparing import compare
from interp.cli.discovering import discover
from interp.cli.freezing import freeze
from interp.cli.judging import evaluate
from interp.cli.listing import list_
from interp.cli.reporting import report
from interp.cli.reusing import reuse
from interp.cli.running_notebooks import run_notebook
from interp.cli.scoring import score
from interp.cli.starting import new
from interp.cli.typing_heads import types
from interp.core.errors import InterpError

FREE = {"allow_extra_args": True, "ignore_unknown_options": True}
"""For commands that take the options of measures and tasks as their own."""

QUIET = {"TQDM_DISABLE": "1", "HF_HUB_VERBOSITY": "error", "TRANSFORMERS_VERBOSITY": "error"}
"""Bars and warnings of the model libraries are off (unless the user set otherwise); our own progress stays."""

app = typer.Typer(
    name="interp",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Which attention heads do what, in which task, and how sure are we?\n\n"
    "Example: `interp report --model organism --task ioi --out ioi.html`",
)
app.command("list")(list_)
app.command("score", context_settings=FREE)(score)
app.command("report", context_settings=FREE)(report)
app.command("types")(types)
app.command("discover", context_settings=FREE)(discover)
app.command("evaluate", context_settings=FREE)(evaluate)
app.command("compare")(compare)
app.command("reuse")(reuse)
app.add_typer(new)
app.command("run-notebook")(run_notebook)
app.command("freeze")(freeze)


def main() -> None:
    """Run the command line."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        app()
    except InterpError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
