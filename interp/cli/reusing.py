"""``interp reuse``: are the heads of one task's circuit those of another's, and what do they do there?"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.cli import arguments
from interp.cli.arguments import check_place, load_model, tasks_of
from interp.core.errors import InterpError


def reuse(
    model: arguments.Model = "",
    task: Annotated[
        list[str] | None, typer.Option("--task", "-t", help="Two tasks: heads of the first are edited in the second.",
                                       show_default=False)
    ] = None,
    circuit: Annotated[
        list[Path] | None,
        typer.Option("--circuit", show_default=False, help="Both tasks' circuit files, in the order of the tasks, whose "
                     "heads are compared, swapped and directed.  [default: the heads of the stages]")
    ] = None,
    n: Annotated[int, typer.Option("-n", "--n", help="Prompts of each task; twice as many others for edits.")] = 16,
    seed: arguments.Seed = 0,
    share: Annotated[float, typer.Option("--share", help="Share of all heads that each stage keeps.")] = 0.02,
    at_least: Annotated[int, typer.Option("--at-least", help="Heads that each stage keeps at least.")] = 8,
    edited: Annotated[int, typer.Option("--edited", help="Heads of a circuit that are directed at once, at most.")] = 8,
    random: Annotated[int, typer.Option("--random", help="Draws of random heads, as a control.")] = 5,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the circuits and all tables (reuse.json).",
                                  show_default=False)
    ] = None,
    device: arguments.Device = None,
    dtype: arguments.Dtype = "float32",
    backend: arguments.Backend = None,
) -> None:
    """The study of circuit reuse (Merullo et al. 2024), and which of the shared heads do the same.

    Heads of both tasks by path patching in stages; their overlap beside chance; the swap test: outputs of shared heads put
    from one task's run into the other's, held against swaps within a task. Then two oracle edits of attention at the last
    token (they are told the answer), each beside random heads of the same layers: the published one, which points the first
    task's inhibition heads and negative movers at the wrong (and, for contrast, the right) answers of the second task; and
    one derived from each circuit, whose heads that copy or suppress what they read are directed so that the answer should
    become another one, or the right one again in corrupted prompts. Its prediction is made before, from single heads.

    Example: `interp reuse --model organism --task ioi --task colored_objects`
    """
    if len(task or ()) != 2:
        raise InterpError("study the reuse of heads", f"{len(task or ())} tasks were given", "give --task twice")
    if len(circuit or ()) not in (0, 2):
        raise InterpError("study the reuse of heads", f"of circuit files {len(circuit or ())} are given",
                          "give --circuit twice, or not at all")
    if out is not None:
        check_place(out, "folder")
    names = [one.name for one in tasks_of(task or [], None)]
    if len(set(names)) != 2:
        raise InterpError("study the reuse of heads", "one task was given twice", "give two different tasks")
    from interp.core.circuit import Circuit

    circuits = {name: Circuit.load(path) for name, path in zip(names, circuit or (), strict=False)} or None
    loaded = load_model(model, device, dtype, backend)
    from interp.discovery.reuse import reuse as study

    found = study(loaded, names, n=n, seed=seed, share=share, at_least=at_least, n_edited=edited, n_random=random,
                  circuits=circuits)
    sys.stdout.write("\n".join(_said(found, names)) + "\n")
    if out is not None:
        sys.stdout.write(f"saved: {found.save(out)}\n")


def _said(found: Any, names: list[str]) -> list[str]:
    """The tables as text."""
    lines = [_table(found.stages), "", str(found.overlap),
             "shared: " + (", ".join(map(str, found.overlap.shared)) or "none")]
    lines += [f"only {name}: {', '.join(map(str, only)) or 'none'}"
              for name, only in zip(names, found.overlap.only, strict=True)]
    if found.swap is not None:
        where = "; ".join(f"{name} {_place(position)}" for name, position in found.swap.positions.items())
        lines += ["", f"swap test: outputs of shared heads put from one task into the other, at the token from which they "
                      f"read ({where}); shares of what a swap within the task does", _table(found.swap.verdicts)]
        joint = found.swap.table[found.swap.table["kind"] != "shared"]
        lines += ["all shared heads at once, and controls", _table(joint.drop(columns="heads"))]
    if len(found.edits):
        n = found.provenance["test"][names[1]]["n"]
        heads = ", ".join(map(str, found.edited))
        lines += ["", f"published edit (oracle) of the last attention row in {names[1]}: {heads}, {n} other prompts",
                  _table(found.edits)]
    if len(found.movers):
        lines += ["attention of the movers from the last token", _table(found.movers)]
    for (circuit, task), one in found.directed.items():
        lines += ["", f"edit derived from the circuit of {circuit} (oracle), in {task}: {_readers(one.readers)}",
                  _table(_summed(one.edits))]
        if len(one.downstream):
            lines += ["later heads: attention to both places, and what they write to right - other", _table(one.downstream)]
    return lines + (["", *(f"note: {note}" for note in found.notes)] if found.notes else [])


def _readers(readers: Any) -> str:
    """What the directed heads do, in words."""
    found: dict[str, list[str]] = {}
    for one in readers:
        behind = f" {one.offset} behind" if one.offset else ""
        source = "" if one.query == "end" else f" from {_place(one.query)}"
        found.setdefault(f"{'copy' if one.copies else 'suppress'} what they read{behind}{source}", []).append(str(one.head))
    return "; ".join(f"{', '.join(heads)} {what}" for what, heads in found.items())


def _place(position: str | int) -> str:
    return "the last token" if position == "end" else f"{-1 - int(position)} before the last token"


def _summed(edits: Any) -> Any:
    """The draws of random heads as one row for each edit: means, and of the interval of accuracy the widest."""
    keys = ["prompts", "heads", "edit"]
    rules = {"accuracy": "mean", "accuracy low": "min", "accuracy high": "max", "other": "mean", "predicted": "first",
             "metric": "mean", "change": "mean", "low": "min", "high": "max"}
    rules = {name: rule for name, rule in rules.items() if name in edits}
    return edits.groupby(keys, sort=False, as_index=False).agg(rules)


def _table(frame: Any) -> str:
    text: str = frame.round(3).to_string(index=False)
    return text
