"""What a report is drawn from: saved scores, the model's answers, attention as arrays, types of heads, circuits. No torch.

A report can be drawn again from these without the model (``interp.report.folder`` keeps them).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from interp.core.circuit import Circuit
from interp.core.errors import InterpError
from interp.core.head import Head
from interp.core.head_types import HeadTypes
from interp.core.scores import HeadScores


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
class EveryHead:
    """All heads' attention on one prompt, for the views that can be walked through.

    Attributes:
        tokens, special: the prompt's tokens, and which of them are special by the tokenizer.
        pattern: [layer, head, query, key]. visible: what the mask lets through, [layer, head or 1, query, key].
        group: query heads that share a key-value head. learned_sink: whether rows may sum to less than one.
    """

    prompt: int
    tokens: tuple[str, ...]
    pattern: np.ndarray
    visible: np.ndarray
    special: tuple[int, ...] = ()
    group: int = 1
    learned_sink: bool = False
    spans: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        size, layers = (len(self.tokens), len(self.tokens)), len(self.pattern)
        if self.pattern.shape[2:] != size or self.visible.shape[2:] != size or len(self.visible) != layers:
            raise ValueError(f"patterns of shape {self.pattern.shape} do not fit {len(self.tokens)} tokens")
        object.__setattr__(self, "pattern", np.asarray(self.pattern, dtype=np.float32))  # as it is saved


@dataclass(frozen=True, eq=False)
class TaskResult:
    """All that a report shows of one task.

    Attributes:
        name, description, source: of the task.
        scores: one ``HeadScores`` for each measure, all on the same prompts.
        correct: per prompt, whether the answer had the largest logit of the whole vocabulary; None where not known.
        beats_wrong: per prompt, whether the answer's logit is above every wrong one's; None where not known.
        shown: some of the prompts. examples: attention patterns of some heads on them. every_head: of all heads.
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
    every_head: tuple[EveryHead, ...] = ()

    def __post_init__(self) -> None:
        if not self.scores:
            raise InterpError(
                f"report on the task {self.name}", "there are no scores of it", "give at least one measure's scores"
            )


@dataclass(frozen=True, eq=False)
class Typed:
    """The types of the model's heads: once for the model, on texts of their own.

    Attributes:
        found: the types with their evidence; None where they could not be called, and ``refused`` says why.
        seconds: what it took.
    """

    found: HeadTypes | None
    refused: str = ""
    seconds: float = 0.0

    @property
    def by_head(self) -> dict[str, str]:
        """Head -> type."""
        return {} if self.found is None else dict(zip(self.found.table["head"], self.found.table["type"], strict=True))


@dataclass(frozen=True, eq=False)
class Findings:
    """All that a report shows: results of each task, the types of the heads (None: not asked for), circuits of the tasks."""

    tasks: tuple[TaskResult, ...]
    types: Typed | None = None
    circuits: tuple[Circuit, ...] = ()

    def __post_init__(self) -> None:
        if not self.tasks:
            raise InterpError("write a report", "there are no results", "give the scores of at least one task")

    def of_task(self, name: str) -> tuple[Circuit, ...]:
        """The circuits of a task."""
        return tuple(circuit for circuit in self.circuits if circuit.task == name)


def gathered(results: Findings | Sequence[TaskResult] | Sequence[HeadScores]) -> Findings:
    """Findings as they are; results of tasks, or scores alone, as findings without types and circuits."""
    if isinstance(results, Findings):
        return results
    scores = [one for one in results if isinstance(one, HeadScores)]
    tasks = [one for one in results if isinstance(one, TaskResult)]
    if len(scores) + len(tasks) < len(results) or (scores and tasks):
        raise TypeError("give findings, task results or HeadScores, and not several of them")
    return Findings(by_task(scores) if scores else tuple(tasks))


def by_task(scores: Sequence[HeadScores]) -> tuple[TaskResult, ...]:
    """Scores alone as results: grouped by task, in order of first appearance; answers and patterns are then not known."""
    groups: dict[str, list[HeadScores]] = {}
    for one in scores:
        groups.setdefault(str(one.provenance.task.get("name", "")), []).append(one)
    return tuple(TaskResult(name, tuple(group)) for name, group in groups.items())


def with_circuits(findings: Findings, circuits: Sequence[Circuit]) -> Findings:
    """Findings with further circuits; those of a task that are there already give way to the new ones of that task."""
    tasks = {one.task for one in circuits}
    return replace(findings, circuits=(*(one for one in findings.circuits if one.task not in tasks), *circuits))
