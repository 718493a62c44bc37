"""``interp discover``: a circuit, found by a method and saved as JSON."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.cli import arguments
from interp.cli.arguments import check_options, check_place, load_model, say, split, tasks_of
from interp.core.errors import InterpError

OWN = ("method", "edges", "share", "how", "by", "top", "name")
PREFIX = "method_"


def discover(
    context: typer.Context,
    model: arguments.Model = "",
    task: Annotated[str, typer.Option("--task", "-t", help="A task by name.", show_default=False)] = "",
    prompts: arguments.Prompts = None,
    method: Annotated[str, typer.Option("--method", help="How edges are scored (interp list methods).")] = "verified",
    n: arguments.Number = None,
    seed: arguments.Seed = 0,
    edges: Annotated[
        int | None, typer.Option("--edges", help="Edges of the circuit (of methods on nodes: nodes).", show_default=False)
    ] = None,
    share: Annotated[
        float | None, typer.Option("--share", help="The same as a share of all.  [default: 0.05]", show_default=False)
    ] = None,
    how: Annotated[str, typer.Option("--how", help="top, greedy or connected.")] = "top",
    by: Annotated[str, typer.Option("--by", help="size: what works against the behaviour stays; value: it goes.")] = "size",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The circuit, a JSON file.", show_default=False)
    ] = None,
    name: Annotated[str, typer.Option("--name", help="What the circuit is called.", show_default=False)] = "",
    top: Annotated[int, typer.Option("--top", help="Edges in the printed table.")] = 10,
    device: arguments.Device = None,
    dtype: arguments.Dtype = "float32",
    backend: arguments.Backend = None,
    metric: arguments.Metric = None,
    batch_size: arguments.BatchSize = None,
) -> None:
    """Find a circuit: score every edge by a method, keep the best, cut loose ends.

    Options of the method and of the task are given by their names; one of the method's that this command has too is written
    --method-share, say. What the circuit does alone is not measured here: `interp evaluate` does it, on other prompts.

    Example: `interp discover --model organism --task ioi -n 24 --share 0.05 --out circuits/ioi.json`
    """
    words, given = split(context.args)
    if words:
        raise InterpError(f"read {words[0]!r}", "the command takes options only", "give the method as --method NAME")
    if task and prompts:
        raise InterpError("choose prompts", "both a task and a file were given", "give one of --task and --prompts")
    if edges is not None and share is not None:
        raise InterpError("choose the size of the circuit", "both --edges and --share were given", "give one of them")
    if out is None:
        raise InterpError("find a circuit", "no place for it was given", "give --out FILE.json")
    check_place(out, "file")
    (chosen,) = tasks_of([task] if task else [], prompts)

    from interp.discovery.method import find
    from interp.measures.catalog import RUNNING
    from interp.measures.options import read

    found = find(method)
    theirs = [option for option in found.options if option not in (*RUNNING, "metric", "seed")]
    check_options(given, {f"the method {method}": [PREFIX + o if o in OWN else o for o in theirs],
                          f"the task {chosen.name}": list(chosen.options)}, (*arguments.COMMON, *OWN))
    options: dict[str, Any] = {}
    of_task: dict[str, Any] = {}
    for key, text in given.items():
        option = key.removeprefix(PREFIX)
        if option in theirs and (key != option or option not in OWN):
            options[option] = read(text, found.options[option].annotation)
        else:
            of_task[key] = chosen.read(key, text)
    loaded = load_model(model, device, dtype, backend)
    batch = chosen.batch(loaded, n, seed, metric=metric, **of_task)

    from interp.discovery.selection import select
    from interp.discovery.shape import scores_of, shape_of

    common = {"metric": metric, "batch_size": batch_size, "seed": seed}
    scores = found(loaded, batch, **options, **{key: value for key, value in common.items() if key in found.options})
    among = len(scores.values)
    size = edges if edges is not None else max(1, round((0.05 if share is None else share) * among))
    circuit = select(scores, size, how=how, by=by, name=name or f"{chosen.name} in {loaded.name}",
                     citation=f"found by interp discover --method {method}")
    told = {"shape": shape_of(scores.edges).record(), "scores": scores_of(circuit, scores)}
    if not circuit.edges:
        say(f"no edge is left of the {size} best: they hang together with nothing; ask for more, or --how connected")
    saved = replace(circuit, provenance=dict(circuit.provenance) | told).save(out)
    best = scores.top(top)
    shown = best[[column for column in ("edge", "node", "mean", "low", "high") if column in best]]
    sys.stdout.write(shown.round(4).to_string(index=False) + "\n")
    for line in _said(scores.notes):
        sys.stdout.write(line + "\n")
    sys.stdout.write(f"{len(circuit.edges)} edges of {len(scores.edges)}, {len(circuit.heads())} heads: "
                     f"{', '.join(map(str, circuit.heads()))}\nsaved: {saved}\n")


def _said(notes: Any) -> list[str]:
    """What a method says of its own certainty."""
    import numpy as np

    found = []
    if "missed_at_most" in notes and np.isfinite(notes.get("sampled_largest", np.nan)):
        found.append(f"{len(notes['exact'])} edges patched exactly; of the others at most {notes['missed_at_most']} have a "
                     f"larger effect than {notes['sampled_largest']:.3g}, the largest of a random sample")
    if "complete" in notes:
        complete = float(np.mean(notes["complete"]))
        warning = "" if complete >= 0.95 else "; elsewhere scores are estimates: raise --budget"
        found.append(f"the scores add up to the whole difference on {complete:.0%} of prompts{warning}")
    return found
