"""``python -m benchmarks.page``: writes ``docs/performance.md`` from the JSON files of the last runs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import by_position, edge_patching, patterns
from benchmarks.__main__ import RESULTS, row_of
from benchmarks.harness.arithmetic import edges_flops, sweep_flops
from benchmarks.harness.plot import growth_plot
from benchmarks.harness.registry import benchmarks
from benchmarks.harness.result import Row
from benchmarks.harness.shapes import Setting, Shape
from benchmarks.harness.table import amount, bar, ratio, verdict
from interp.engine.edges import make_edges

PART = ": part of the limit"
"""How rows are named that hold a sweep against its arithmetic."""
DOCS = RESULTS.parents[1] / "docs"
INTRODUCTION = """# Performance

Written by `python -m benchmarks.page` from what `make bench` measured. Repeat it with

```
make bench                       # everything but what is kept apart, about {minutes:.0f} minutes on two quiet cores
make bench ONLY="limit growth"   # some of it, by name
make bench ONLY=large_model      # kept apart: 1.5 billion parameters, 24 GiB
make bench QUICK=1               # does everything run? (a small model; its figures mean nothing)
```

**What is measured.** A GPT-2 with {layers} layers of {heads} heads, width {width}, {vocabulary:,} tokens, random weights of
its own initialisation, {prompts} pairs of {length} random tokens, {threads} threads, float32 unless said otherwise. Every
peer is measured in the same run, in turn with ours: one round each, the order reversed from round to round; the median of
the rounds counts, and all of them are in `benchmarks/results/`. What a peer would take too long for is measured in part, and
the row says which. **A time stands in a table only if both gave the same numbers**; the row says how nearly.

**What limits.** A sweep is matrix products. The row *distance to the limit* compares its time with the least that exactness
allows: the operations that can change an answer, counted by code that knows nothing of the engine
(`benchmarks/harness/arithmetic.py`), at the rate at which this machine multiplied large matrices of the same shapes in
the same minute. Ratios against peers depend on the machine; where other work shared it, the table says so.
"""


def main() -> None:
    """Write the page and its plot."""
    kept = results(RESULTS)
    (DOCS / "performance.md").write_text(page(kept))
    if "growth" in kept:
        (DOCS / "performance-growth.svg").write_text(growth_plot(kept["growth"]["data"]))


def results(folder: Path) -> dict[str, dict[str, Any]]:
    """What is kept of each benchmark that exists, in their order."""
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in benchmarks()
            if (folder / f"{name}.json").is_file()}


def page(kept: Mapping[str, Mapping[str, Any]]) -> str:
    """The page as markdown."""
    setting = next(iter(kept.values()))["setting"]
    minutes = sum(one.minutes for one in benchmarks().values() if not one.apart)
    parts = [INTRODUCTION.format(minutes=minutes, **(setting | setting["shape"])), _shortfalls(kept), *ceilings(kept),
             *_missing(kept)]
    for name, result in kept.items():
        parts.append(f"## {result['title']}\n\n{_table([row_of(row) for row in result['rows']])}\n{_when(name, result)}\n")
        if name == "growth":
            parts.append("![time of a sweep against heads, layers, positions, prompts and width](performance-growth.svg)\n")
    return "\n".join(parts)


def _shortfalls(kept: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [row_of(row) for result in kept.values() for row in result["rows"]]
    judged = [row for row in rows if row.bar is not None]
    short = [row for row in judged if not row.met]
    if not short:
        return f"**What fell short.** Nothing: {len(judged)} of {len(judged)} bars are met.\n"
    lines = [f"- {row.what}, against {row.rival or 'its bar'}: {ratio(row.ratio)} ({bar(row)})" for row in short]
    return f"**What fell short.** {len(short)} of {len(judged)} bars:\n\n" + "\n".join(lines) + "\n"


def ceilings(kept: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What the ratios against peers could be at most: a peer's time over that of the arithmetic alone at the matrix rate."""
    rows = {name: [row_of(row) for row in result["rows"]] for name, result in kept.items()}
    least = {row.what.removesuffix(PART): row.peer for some in rows.values() for row in some if row.what.endswith(PART)}
    if "limit" in rows:
        least["all heads, all positions"] = rows["limit"][0].peer
        least |= _counted(kept["limit"])
    lines = [f"- {row.what}, against {row.rival}: {row.peer / least[row.what]:.1f} (measured {ratio(row.ratio)}, {bar(row)})"
             for some in rows.values() for row in some
             if row.bar is not None and row.peer is not None and least.get(row.what) is not None]
    if not lines:
        return []
    return ["**What exactness allows.** A sweep that did nothing but the arithmetic which exactness needs, all of it at the "
            "matrix rate, would reach these ratios on this machine; a bar beyond them is out of reach of exact float32:\n\n"
            + "\n".join(lines) + "\n"]


def _counted(limit: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of the arithmetic of sweeps that have no row of their own for it, at the rate of the run that has."""
    rates = limit["rows"][0]["rounds"].get("1e9 operations a second")
    if not rates:
        return {}
    known = limit["setting"]
    setting = Setting(**known | {"shape": Shape(**known["shape"])})
    layers, heads = setting.shape.layers, setting.shape.heads
    edges = make_edges(layers, heads, heads, [True] * layers, parallel=False)
    needed = {by_position.title(what, 0): sweep_flops(setting, what, by_position=True) for what in ("q", "k", "v")}
    needed |= {patterns.TITLE: sweep_flops(setting, "pattern"), edge_patching.TITLE.format(len(edges)): edges_flops(setting)}
    return {what: flops / (median(rates) * 1e9) for what, flops in needed.items()}


def _missing(kept: Mapping[str, Any]) -> list[str]:
    """The benchmarks that nothing is kept of."""
    left = [f"{one.title} (`{name}`)" for name, one in benchmarks().items() if name not in kept]
    return [f"**Not measured yet**: {', '.join(left)}.\n"] if left else []


def _table(rows: Sequence[Row]) -> str:
    lines = ["| what | ours | peer | its | ratio | bar | | note |", "|---|--:|---|--:|--:|--:|---|---|"]
    for row in rows:
        said = {"met": "met", "": "", "short": "**short**", "not measured": "**not measured**"}[verdict(row)]
        lines.append(f"| {row.what} | {amount(row.ours, row.unit)} | {row.rival} | {amount(row.peer, row.unit)} | "
                     f"{ratio(row.ratio)} | {bar(row)} | {said} | {row.note} |")
    return "\n".join(lines)


def _when(name: str, result: Mapping[str, Any]) -> str:
    machine, load = result["machine"], result["load"]
    return (f"\n<sub>`{name}`, {result['date'][:10]}; {machine['processor']}, {machine['cores']} cores, "
            f"{result['setting']['threads']} threads; torch {machine['torch']}, transformers {machine['transformers']}, "
            f"transformer-lens {machine['transformer-lens']}; other work took {load['other_work_cores']:.2f} cores.</sub>")


if __name__ == "__main__":
    main()
