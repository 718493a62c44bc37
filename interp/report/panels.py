"""One measure's scores reduced to what is drawn: means, intervals, tests and fractions on the head grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from interp.core.errors import InterpError
from interp.core.scores import HeadScores
from interp.measures.catalog import Entry, catalog

SAID = ("kind", "component", "direction", "attention")
"""Options that the label says in words of its own, or that the page says elsewhere."""
MOST_LABELS = 8
"""Scores with a further axis (positions) are drawn as one panel for each label, up to this many."""


@dataclass(frozen=True, eq=False)
class Panel:
    """Everything is [layer, head].

    ``fraction`` (with its interval) is None where normalising was refused, and ``refused`` says why. ``signed`` is False for
    a measure of absolute values: these are positive by chance alone, so they are not tested, and ``p`` and ``q`` are NaN.
    """

    label: str
    scores: HeadScores
    names: tuple[tuple[str, ...], ...]
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    q: np.ndarray
    significant: np.ndarray
    fraction: np.ndarray | None
    fraction_low: np.ndarray | None
    fraction_high: np.ndarray | None
    refused: str
    unit: str
    signed: bool

    @property
    def order(self) -> list[tuple[int, int]]:
        """Heads by their mean, largest first; missing ones are left out."""
        flat = np.where(np.isfinite(self.mean), self.mean, -np.inf).ravel()
        ranked = np.argsort(-flat, kind="stable")
        return [(int(i) // self.mean.shape[1], int(i) % self.mean.shape[1]) for i in ranked if np.isfinite(flat[i])]

    @property
    def prompts(self) -> np.ndarray:
        """How many prompts give a head its value."""
        return np.asarray(np.isfinite(self.scores.values).sum(2))

    def top(self, k: int) -> list[tuple[int, int]]:
        """The first ``k`` of ``order``."""
        return self.order[:k]

    def ranks(self) -> np.ndarray:
        """Rank of each head, 1 = largest mean; NaN for missing heads."""
        ranks = np.full(self.mean.shape, np.nan)
        for place, head in enumerate(self.order, start=1):
            ranks[head] = place
        return ranks


def panels(scores: Sequence[HeadScores], *, seed: int = 0) -> tuple[Panel, ...]:
    """The panels of one task's scores, in their order, named by what tells them apart."""
    parts = [part for one in scores for part in _split(one)]
    return tuple(_panel(label, one, seed) for label, one in parts)


def measure_label(measure: str, options: Mapping[str, Any], direction: str | None) -> str:
    """``Activation patching of z, noising``; ``Zero ablation``: the measure with its kind, component and direction, and the
    options that were not left at their defaults."""
    entries = _entries()
    defaults = {option.name: option.default for option in entries[measure].options} if measure in entries else {}
    words = " ".join(filter(None, [str(options.get("kind") or ""), measure.replace("_", " ")]))
    if component := options.get("component"):
        words += f" of {component}"
    said = [
        f"{name.replace('_', ' ')} {_plain(value)}"
        for name, value in options.items()
        if name in defaults and repr(value) != defaults[name] and value is not None and name not in SAID
    ]
    return ", ".join([words[:1].upper() + words[1:], *([direction] if direction else []), *said])


@cache
def _entries() -> dict[str, Entry]:
    """What the measures say of themselves, read once."""
    return catalog()


def unit_of(scores: HeadScores) -> str:
    """The unit of the raw values in words: the metric's name."""
    return scores.provenance.metric.replace("_", " ").replace("logit diff", "logit difference")


def _plain(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _split(scores: HeadScores) -> list[tuple[str, HeadScores]]:
    label = measure_label(scores.provenance.measure, scores.provenance.options, scores.provenance.direction)
    if len(scores.dims) == 3:
        return [(label, scores)]
    axis = scores.dims[3]
    labels = scores.labels(axis)
    if len(labels) > MOST_LABELS:
        raise InterpError(
            f"draw {scores.provenance.measure} in a report",
            f"it has {len(labels)} {axis}s for every head",
            f"score it with at most {MOST_LABELS} named positions, or with all positions at once",
        )
    return [
        (f"{label}, {axis} {name}{rest[len(label) :]}", deeper)
        for name in labels
        for rest, deeper in _split(scores.at(**{axis: name}))
    ]


def _panel(label: str, scores: HeadScores, seed: int) -> Panel:
    low, high = scores.interval(seed=seed)
    test = scores.test()
    whole, refused = None, ""
    try:
        whole = scores.normalized(seed=seed)
    except InterpError as error:  # shown in the report: the raw values stand, and the reader is told why
        refused = error.true.replace("-", "−").replace("logit_diff", "logit difference").replace("_", " ")
    names = [scores.label(head) for head in scores.heads]
    rows = tuple(tuple(names[row * scores.n_heads : (row + 1) * scores.n_heads]) for row in range(scores.n_layers))
    return Panel(
        label,
        scores,
        rows,
        scores.mean(),
        low,
        high,
        test.p,
        test.q,
        test.significant,
        None if whole is None else whole.values,
        None if whole is None else whole.low,
        None if whole is None else whole.high,
        refused,
        unit_of(scores),
        scores.signed,
    )
