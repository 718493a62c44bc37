"""``interp reuse``: are the heads of one task's circuit those of another's, and what do they do there?"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from interp.cli import arguments
from interp.cli.arguments import check_place, load_model, tasks_of
from interp.core.errors import InterpError

CORRUPTIONS = {"ioi": "s2_io"}
"""Of the study, where it is not the task's default."""


def reuse(
    model: arguments.Model = "",
    task: Annotated[
        list[str] | None, typer.Option("--task", "-t", help="Two tasks: heads of the first are edited in the second.",
                                       show_default=False)
    ] = None,
    n: Annotated[int, typer.Option("-n", "--n", help="Prompts of each task.")] = 16,
    seed: arguments.Seed = 0,
    share: Annotated[float, typer.Option("--share", help="Share of all heads that each stage keeps.")] = 0.02,
    at_least: Annotated[int, typer.Option("--at-least", help="Heads that each stage keeps at least.")] = 2,
    random: Annotated[int, typer.Option("--random", help="Draws of random heads, as a control.")] = 5,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for circuits and tables.", show_default=False)
    ] = None,
    device: arguments.Device = None,
    dtype: arguments.Dtype = "float32",
    backend: arguments.Backend = None,
) -> None:
    """The study of circuit reuse (Merullo et al. 2024): path patching by stages, overlap with chance, an attention edit.

    The edit points the first task's inhibition heads and negative movers at the wrong (and, for contrast, at the right)
    answers of the second task. It is an oracle edit: it is told the answer.

    Example: `interp reuse --model organism --task ioi --task colored_objects`
    """
    if len(task or ()) != 2:
        raise InterpError("study the reuse of heads", f"{len(task or ())} tasks were given", "give --task twice")
    if out is not None:
        check_place(out, "folder")
    chosen = tasks_of(task or [], None)
    loaded = load_model(model, device, dtype, backend)
    from interp.discovery.reuse import reuse as study
    from interp.discovery.unseen_prompts import unseen

    options = [{"corruption": CORRUPTIONS[one.name]} if one.name in CORRUPTIONS else {} for one in chosen]
    batches = {one.name: one.batch(loaded, n, seed, **more) for one, more in zip(chosen, options, strict=True)}
    if len(batches) != 2:
        raise InterpError("study the reuse of heads", "one task was given twice", "give two different tasks")
    test = unseen(loaded, chosen[1], 2 * n, seed + 1, seen=(batches[chosen[1].name],), options=options[1])
    found = study(loaded, batches, share=share, at_least=at_least, n_random=random, test=test, seed=seed)
    lines = [found.stages.round(3).to_string(index=False), "", str(found.overlap),
             "shared: " + (", ".join(map(str, found.overlap.shared)) or "none")]
    lines += [f"only {name}: {', '.join(map(str, only)) or 'none'}"
              for name, only in zip(batches, found.overlap.only, strict=True)]
    if not found.edited:
        lines += ["", f"no head of {chosen[0].name} works against the answer or through the movers' queries: nothing to "
                      "edit"]
    else:
        lines += ["", f"oracle edit of the last attention row in {chosen[1].name} of "
                  f"{', '.join(map(str, found.edited))}, {test.n} other prompts",
                  found.edits.round(3).to_string(index=False)]
    if len(found.movers):
        lines += ["", "attention of the movers from the last token", found.movers.round(3).to_string(index=False)]
    sys.stdout.write("\n".join(lines) + "\n")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for name, circuit in found.circuits.items():
            circuit.save(out / f"{name}.json")
        for name in ("stages", "edits", "movers"):
            getattr(found, name).to_csv(out / f"{name}.csv", index=False)
        sys.stdout.write(f"saved: {out}\n")
