"""``interp evaluate``: what a circuit does by itself, on other prompts than it was found on."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.cli import arguments
from interp.cli.arguments import check_options, check_place, load_model, say, split, tasks_of
from interp.core.errors import InterpError

PARTS = (0.1, 0.25, 0.5, 0.75, 1.0)
"""Shares of the circuit's own edges, best first, that the curve is drawn at."""


def evaluate(
    context: typer.Context,
    circuit: Annotated[Path, typer.Argument(metavar="CIRCUIT.json", help="A circuit file.", show_default=False)],
    model: arguments.Model = "",
    task: Annotated[str, typer.Option("--task", "-t", help="A task.  [default: the file's]", show_default=False)] = "",
    prompts: arguments.Prompts = None,
    n: arguments.Number = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Seed of the prompts.  [default: the file's + 1]", show_default=False)
    ] = None,
    ablation: Annotated[
        str, typer.Option("--ablation", help="What stands outside: resample, zero, mean or mean_position.")
    ] = "resample",
    random: Annotated[int, typer.Option("--random", help="Random circuits of the same make, as a control.")] = 5,
    margin: Annotated[float, typer.Option("--margin", help="Difference from the model that counts as none.")] = 0.1,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The numbers, a JSON file.", show_default=False)] = None,
    device: arguments.Device = None,
    dtype: arguments.Dtype = "float32",
    backend: arguments.Backend = None,
    metric: arguments.Metric = None,
) -> None:
    """Judge a circuit: faithfulness, completeness, worst prompts, tests, random circuits of its make, and a curve.

    Prompts that the circuit was found on are left out. The curve is of the circuit's own best edges, where its file tells
    their scores. Options of the task are given by their names.

    Example: `interp evaluate circuits/organism/ioi.json --model organism -n 32 --out ioi.judged.json`
    """
    words, given = split(context.args)
    if words:
        raise InterpError(f"read {words[0]!r}", "one circuit is judged at a time", "give options after the file")
    if task and prompts:
        raise InterpError("choose prompts", "both a task and a file were given", "give one of --task and --prompts")
    if out is not None:
        check_place(out, "file")
    from interp.core.circuit import Circuit

    read = Circuit.load(circuit)
    named = task or ("" if prompts else str(_told(read).get("name") or read.task))
    (chosen,) = tasks_of([named] if named else [], prompts)
    check_options(given, {f"the task {chosen.name}": list(chosen.options)},
                  (*arguments.COMMON, "ablation", "random", "margin"))
    loaded = load_model(model or read.model, device, dtype, backend)

    from interp.discovery.unseen_prompts import found_on, unseen

    before = found_on(loaded, read)
    first = seed if seed is not None else int(_told(read).get("seed") or 0) + 1
    batch = unseen(loaded, chosen, n, first, seen=() if before is None else (before,), metric=metric,
                   options={option: chosen.read(option, text) for option, text in given.items()})
    if before is None:
        say("the file does not tell which prompts the circuit was found on: whether these are others is yours to know")
    told = _judged(loaded, batch, read, ablation, metric, random, margin)
    told |= {"circuit_name": read.name, "model": dict(loaded.provenance_dict()), "task": dict(batch.provenance_dict())}
    _show(told)
    if out is not None:
        from interp.core.files import write_text
        from interp.core.provenance import plain

        text = json.dumps(plain(told, "evaluation"), indent=1, ensure_ascii=False)
        sys.stdout.write(f"saved: {write_text(out, text + chr(10))}\n")


def _told(circuit: Any) -> dict[str, Any]:
    told = circuit.provenance.get("task")
    return dict(told) if hasattr(told, "keys") else {}


def _judged(model: Any, batch: Any, circuit: Any, ablation: str, metric: str | None, random: int, margin: float
            ) -> dict[str, Any]:
    """Everything of one circuit, computed in shared passes."""
    import numpy as np

    from interp.core.registry import unknown
    from interp.discovery import edges_of, judge_all, mask_of, random_like
    from interp.engine.stand_ins import ABLATIONS

    if ablation not in ABLATIONS:
        raise unknown("ablation", ablation, list(ABLATIONS))
    edges = edges_of(model)
    mask = mask_of(edges, circuit)
    scores = circuit.provenance.get("scores", {})
    order = sorted((edge for edge in circuit.edges if str(edge) in scores), key=lambda edge: -abs(scores[str(edge)]))
    parts = [type(circuit)(edges=tuple(order[:max(1, round(part * len(order)))])) for part in PARTS] if order else []
    controls = random_like(edges, mask, random) if random else np.zeros((0, len(edges)), dtype=bool)
    found, *others = judge_all(model, batch, [circuit, *parts, *controls], ablation=ablation, metric=metric)
    told = found.summary()
    tests = {"equivalent": found.equivalent(margin)} | ({"independent": found.independent()} if batch.n > 2 else {})
    told["tests"] = {name: {"p": test.p, "rejected": test.rejected, "claim": test.claim} for name, test in tests.items()}
    told["curve"] = [{"edges": one.size, "faithfulness": one.faithfulness, "low": one.interval[0], "high": one.interval[1]}
                     for one in others[:len(parts)]]
    told["random"] = [one.faithfulness for one in others[len(parts):]]
    return told


def _show(told: dict[str, Any]) -> None:
    """The numbers in words on stdout."""
    lines = [
        f"{told['circuit_name'] or 'circuit'}: {told['edges']} edges ({told['share']:.1%} of the model), "
        f"{told['n']} prompts of {told['task']['name']}, {told['ablation']} ablation, {told['metric']}",
        f"faithfulness  {told['faithfulness']:.3f} [{told['low']:.3f}, {told['high']:.3f}]: by itself "
        f"{told['circuit']:.3f}, the model {told['whole']:.3f}, no edge {told['empty']:.3f}",
        f"completeness  {told['completeness']:.3f} [{told['completeness_low']:.3f}, {told['completeness_high']:.3f}]",
        f"worst 5 %     {told['worst_5_percent']:.3f} of the gap away from the model",
    ]
    if told["random"]:
        lines.append("random make   " + ", ".join(f"{value:.3f}" for value in told["random"]))
    if told["curve"]:
        points = ", ".join(f"{row['edges']} edges {row['faithfulness']:.3f}" for row in told["curve"])
        lines.append(f"curve         {points}")
    for name, test in told["tests"].items():
        lines.append(f"{name:<13} p = {test['p']:.3g}: " + ("" if test["rejected"] else "not shown that ") + test["claim"])
    lines += [f"warning: {warning}" for warning in told["warnings"]]
    sys.stdout.write("\n".join(lines) + "\n")
