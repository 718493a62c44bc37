"""What a report is drawn from: saved scores, the model's answers, and attention patterns as plain arrays. No torch.

A folder of results holds one folder per task: ``task.json`` (prompts, answers, metric per prompt), one parquet file per
measure, and ``patterns.safetensors``. A report can be drawn again from the folder without the model.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from interp.core.errors import InterpError
from interp.core.files import write_text, write_whole
from interp.core.head import Head
from interp.core.scores import HeadScores

FORMAT = 1


@dataclass(frozen=True)
class Shown:
    """One prompt pair as it is shown: tokens as decoded, named positions as token ranges, answers, the metric on both."""

    clean: tuple[str, ...]
    corrupt: tuple[str, ...]
    spans: Mapping[str, tuple[int, int]]
    answer: str
    wrong: tuple[str, ...]
    clean_metric: float
    corrupt_metric: float
    said: str = ""


@dataclass(frozen=True, eq=False)
class Example:
    """One head's attention on one prompt: pattern [query, key], what the mask lets through, tokens of both sides."""

    head: Head
    prompt: int
    queries: tuple[str, ...]
    keys: tuple[str, ...]
    pattern: np.ndarray
    visible: np.ndarray
    spans: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = (len(self.queries), len(self.keys))
        if self.pattern.shape != shape or self.visible.shape != shape:
            raise ValueError(f"a pattern of shape {self.pattern.shape} does not fit {shape[0]} queries and {shape[1]} keys")
        object.__setattr__(self, "pattern", np.asarray(self.pattern, dtype=np.float32))  # as it is saved


@dataclass(frozen=True, eq=False)
class TaskResult:
    """All that a report shows of one task.

    Attributes:
        name, description, source: of the task.
        scores: one ``HeadScores`` for each measure, all on the same prompts.
        correct: per prompt, whether the answer had the largest logit of the whole vocabulary; None where not known.
        beats_wrong: per prompt, whether the answer's logit is above every wrong one's; None where not known.
        shown: some of the prompts. examples: attention patterns of some heads on them.
        dropped: words that were left out because they are no single token.
    """

    name: str
    scores: tuple[HeadScores, ...]
    description: str = ""
    source: str = ""
    correct: np.ndarray | None = None
    beats_wrong: np.ndarray | None = None
    shown: tuple[Shown, ...] = ()
    examples: tuple[Example, ...] = ()
    dropped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.scores:
            raise InterpError(
                f"report on the task {self.name}", "there are no scores of it", "give at least one measure's scores"
            )


def by_task(scores: Sequence[HeadScores]) -> tuple[TaskResult, ...]:
    """Scores alone as results: grouped by task, in order of first appearance; answers and patterns are then not known."""
    groups: dict[str, list[HeadScores]] = {}
    for one in scores:
        groups.setdefault(str(one.provenance.task.get("name", "")), []).append(one)
    return tuple(TaskResult(name, tuple(group)) for name, group in groups.items())


def save(results: Sequence[TaskResult], folder: str | Path) -> Path:
    """Write results into ``folder``, a folder for each task; every file whole or not at all."""
    from safetensors.numpy import save as tensors

    folder = Path(folder)
    for number, result in enumerate(results):
        place = folder / f"{number}_{result.name}"
        for index, scores in enumerate(result.scores):
            scores.save(place / f"{index}_{scores.provenance.measure}.parquet")
        arrays = {}
        for index, example in enumerate(result.examples):
            arrays[f"{index}.pattern"] = np.ascontiguousarray(example.pattern, dtype=np.float32)
            arrays[f"{index}.visible"] = np.ascontiguousarray(example.visible, dtype=np.uint8)
        packed = tensors(arrays)
        write_whole(place / "patterns.safetensors", lambda path, packed=packed: _fill(path, packed))
        write_text(place / "task.json", json.dumps(_record(result), indent=1, ensure_ascii=True))
    return folder


def load(folder: str | Path) -> tuple[TaskResult, ...]:
    """Read what ``save`` wrote."""
    from safetensors.numpy import load_file

    places = sorted(Path(folder).glob("*/task.json"), key=lambda path: int(path.parent.name.split("_")[0]))
    if not places:
        raise InterpError(
            f"read the results in {folder}",
            "there is no task.json in any folder of it",
            "give a folder written by interp report --save",
        )
    results = []
    for path in places:
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
        shown = tuple(
            Shown(
                **{
                    **s,
                    "clean": tuple(s["clean"]),
                    "corrupt": tuple(s["corrupt"]),
                    "wrong": tuple(s["wrong"]),
                    "spans": _spans(s["spans"]),
                }
            )
            for s in record.pop("shown")
        )
        right = {
            name: None if record[name] is None else np.array(record[name], dtype=bool) for name in ("correct", "beats_wrong")
        }
        results.append(
            TaskResult(
                **(record | right | {"dropped": tuple(record["dropped"])}),
                shown=shown,
                examples=examples,
                scores=tuple(HeadScores.load(file) for file in files),
            )
        )
    return tuple(results)


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
        "shown": [vars(one) | {"spans": {name: list(span) for name, span in one.spans.items()}} for one in result.shown],
        "examples": [
            {
                "head": str(e.head),
                "prompt": e.prompt,
                "queries": list(e.queries),
                "keys": list(e.keys),
                "spans": {name: list(span) for name, span in e.spans.items()},
            }
            for e in result.examples
        ],
    }


def _spans(record: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, int]]:
    return {name: (int(start), int(stop)) for name, (start, stop) in record.items()}


def _fill(path: Path, content: bytes) -> None:
    path.write_bytes(content)
