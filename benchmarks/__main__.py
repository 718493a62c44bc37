"""``make bench``: measure, print tables, write ``benchmarks/results/NAME.json``. Nothing is asserted."""

import json
import os
import time
import traceback
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

os.environ["TQDM_DISABLE"] = "1"    # the peers' progress bars would be timed with them

import torch
import typer
from rich.console import Console

from benchmarks.harness.machine import busy, machine, others
from benchmarks.harness.registry import benchmarks
from benchmarks.harness.result import Benchmark, Findings, Row, as_json
from benchmarks.harness.shapes import QUICK, STANDARD, Setting
from benchmarks.harness.table import table, verdict

RESULTS = Path(__file__).parent / "results"
WIDE = 200
"""Columns of a table that goes to a file."""


def main(
    only: Annotated[list[str] | None, typer.Option(help="Names of benchmarks; without it all but those kept apart.")] = None,
    quick: Annotated[bool, typer.Option(help="A small model, to see that all runs: the figures mean nothing.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the JSON files.")] = None,
) -> None:
    """Measure every speed claim, each peer in the same run."""
    console, found = Console(), benchmarks()
    if not console.is_terminal:
        console.width = WIDE
    unknown = sorted(set(only or ()) - set(found))
    if unknown:
        raise typer.BadParameter(f"there is no {unknown[0]}; choose from {', '.join(found)}", param_hint="only")
    chosen = {name: one for name, one in found.items() if (name in only if only else not one.apart)}
    setting = QUICK if quick else STANDARD
    folder = out or (RESULTS / "quick" if quick else RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(setting.threads)
    expected = "a minute or two" if quick else f"about {sum(one.minutes for one in chosen.values()):.0f} minutes"
    console.print(f"{len(chosen)} benchmarks, {expected} on two quiet cores: {', '.join(chosen)}")
    verdicts: list[str] = []
    for name, one in chosen.items():
        result = measured(name, one, setting)
        (folder / f"{name}.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
        rows = [row_of(row) for row in result["rows"]]
        load = result["load"]["other_work_cores"]
        console.print(table(f"{one.title} ({name}: {result['seconds']:.0f} s, other work on {load:.2f} cores)", rows))
        verdicts += [verdict(row) for row in rows]
    counted = ", ".join(f"{verdicts.count(which)} {which}" for which in ("met", "short", "not measured"))
    console.print(f"{counted}. Written to {folder}.")


def measured(name: str, one: Benchmark, setting: Setting) -> dict:
    """Run one benchmark; what is written. One that fails is a row that says so."""
    load, before, start = os.getloadavg()[0], busy(), time.perf_counter()
    try:
        findings = one.measure(setting)
    except Exception as error:    # the other benchmarks go on; the failure stands in the table and in the file
        traceback.print_exc()
        findings = Findings((Row(one.title, bar=0.0, note=f"failed: {type(error).__name__}: {error}"),))
    seconds = time.perf_counter() - start
    return {"name": name, "title": one.title, "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(seconds, 1), "setting": asdict(setting), "machine": machine(),
            "load": {"average_before": load, "other_work_cores": round(others(before, busy(), seconds), 2)},
            "rows": [as_json(row) for row in findings.rows], "data": dict(findings.data)}


def row_of(kept: dict) -> Row:
    """A row as it was written, read again."""
    return Row(**{field: value for field, value in kept.items() if field != "met"})


if __name__ == "__main__":
    typer.run(main)
