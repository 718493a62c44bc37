"""Findings in a folder, and back: a report can be drawn again, or otherwise, without the model.

One folder for each task: ``task.json`` (prompts, answers, metric per prompt), a parquet file for each measure, and
``patterns.safetensors``. Beside them ``types.json`` and ``circuits/``, where there are any.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interp.core.circuit import Circuit
from interp.core.errors import InterpError
from interp.core.files import write_text, write_whole
from interp.core.head import Head
from interp.core.head_types import HeadTypes
from interp.core.provenance import plain
from interp.core.scores import HeadScores
from interp.report.results import EveryHead, Example, Findings, Shown, TaskResult, Typed, gathered

FORMAT = 2
"""2: patterns of every head, types, circuits."""


def save(results: Findings | Sequence[TaskResult], folder: str | Path) -> Path:
    """Write findings into ``folder``; every file whole or not at all."""
    folder, findings = Path(folder), gathered(results)
    for number, result in enumerate(findings.tasks):
        place = folder / f"{number}_{result.name}"
        for index, scores in enumerate(result.scores):
            scores.save(place / f"{index}_{scores.provenance.measure}.parquet")
        write_whole(place / "patterns.safetensors", _filler(_arrays(result)))
        write_text(place / "task.json", json.dumps(_record(result), indent=1, ensure_ascii=True))
    if findings.types is not None:
        write_text(folder / "types.json", json.dumps(_types(findings.types), indent=1, ensure_ascii=True))
    for number, circuit in enumerate(findings.circuits):
        circuit.save(folder / "circuits" / f"{number}.json")
    return folder


def load(folder: str | Path) -> Findings:
    """Read what ``save`` wrote."""
    places = sorted(Path(folder).glob("*/task.json"), key=lambda path: int(path.parent.name.split("_")[0]))
    if not places:
        raise InterpError(
            f"read the results in {folder}",
            "there is no task.json in any folder of it",
            "give a folder written by interp report --save",
        )
    types = Path(folder) / "types.json"
    circuits = sorted(Path(folder).glob("circuits/*.json"), key=lambda path: int(path.stem))
    return Findings(
        tuple(map(_task, places)),
        _typed(json.loads(types.read_text(encoding="utf-8"))) if types.is_file() else None,
        tuple(map(Circuit.load, circuits)),
    )


def _task(path: Path) -> TaskResult:
    from safetensors.numpy import load_file

    record = json.loads(path.read_text(encoding="utf-8"))
    if record.pop("format") > FORMAT:
        raise InterpError(f"read {path}", f"it is of a later format than {FORMAT}", "update interp")
    files = sorted(path.parent.glob("*.parquet"), key=lambda file: int(file.name.split("_")[0]))
    arrays = load_file(path.parent / "patterns.safetensors")
    examples = tuple(
        Example(
            Head.parse(e["head"]),
            e["prompt"],
            tuple(e["queries"]),
            tuple(e["keys"]),
            arrays[f"{i}.pattern"],
            arrays[f"{i}.visible"].astype(bool),
            _spans(e["spans"]),
        )
        for i, e in enumerate(record.pop("examples"))
    )
    every = tuple(
        EveryHead(**(e | {
            "tokens": tuple(e["tokens"]),
            "special": tuple(e["special"]),
            "spans": _spans(e["spans"]),
            "pattern": arrays[f"every.{i}.pattern"],
            "visible": arrays[f"every.{i}.visible"].astype(bool),
        }))
        for i, e in enumerate(record.pop("every_head", ()))
    )
    lists = ("clean", "corrupt", "wrong")
    shown = tuple(
        Shown(**(s | {name: tuple(s[name]) for name in lists} | {"spans": _spans(s["spans"])})) for s in record.pop("shown")
    )
    right = {
        name: None if record[name] is None else np.array(record[name], dtype=bool) for name in ("correct", "beats_wrong")
    }
    return TaskResult(
        **(record | right | {"dropped": tuple(record["dropped"])}),
        shown=shown,
        examples=examples,
        every_head=every,
        scores=tuple(HeadScores.load(file) for file in files),
    )


def _record(result: TaskResult) -> dict[str, Any]:
    def flags(values: np.ndarray | None) -> list[bool] | None:
        return None if values is None else [bool(value) for value in values]

    return {
        "format": FORMAT,
        "name": result.name,
        "description": result.description,
        "source": result.source,
        "correct": flags(result.correct),
        "beats_wrong": flags(result.beats_wrong),
        "dropped": list(result.dropped),
        "shown": [vars(one) | {"spans": _lists(one.spans)} for one in result.shown],
        "examples": [
            {
                "head": str(e.head),
                "prompt": e.prompt,
                "queries": list(e.queries),
                "keys": list(e.keys),
                "spans": _lists(e.spans),
            }
            for e in result.examples
        ],
        "every_head": [
            {
                "prompt": e.prompt,
                "tokens": list(e.tokens),
                "special": list(e.special),
                "group": e.group,
                "learned_sink": e.learned_sink,
                "spans": _lists(e.spans),
            }
            for e in result.every_head
        ],
    }


def _arrays(result: TaskResult) -> bytes:
    from safetensors.numpy import save as tensors

    named = {f"{i}": one for i, one in enumerate(result.examples)}
    named |= {f"every.{i}": one for i, one in enumerate(result.every_head)}
    arrays = {}
    for name, one in named.items():
        arrays[f"{name}.pattern"] = np.ascontiguousarray(one.pattern, dtype=np.float32)
        arrays[f"{name}.visible"] = np.ascontiguousarray(one.visible, dtype=np.uint8)
    return tensors(arrays)


def _filler(content: bytes) -> Any:
    def fill(path: Path) -> None:
        path.write_bytes(content)

    return fill


def _types(typed: Typed) -> dict[str, Any]:
    found = typed.found
    told: dict[str, Any] = {"format": FORMAT, "refused": typed.refused, "seconds": typed.seconds}
    if found is not None:
        told |= {name: getattr(found, name).to_dict("records") for name in ("table", "evidence")} | {"asked": found.asked}
    return dict(plain(told, "types"))


def _typed(record: Mapping[str, Any]) -> Typed:
    if "table" not in record:
        return Typed(None, record["refused"], record["seconds"])
    table = pd.DataFrame([row | {"roles": tuple(row["roles"])} for row in record["table"]])
    evidence = pd.DataFrame(record["evidence"])
    for frame in (table, evidence):
        for name in frame.columns.intersection(["reliability", "strength", "sink_rows", "low", "high", "raw"]):
            frame[name] = frame[name].astype(float)  # a missing number is saved by its name
    return Typed(HeadTypes(table, evidence, record["asked"]), record["refused"], record["seconds"])


def _lists(spans: Mapping[str, tuple[int, int]]) -> dict[str, list[int]]:
    return {name: list(span) for name, span in spans.items()}


def _spans(record: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, int]]:
    return {name: (int(start), int(stop)) for name, (start, stop) in record.items()}
