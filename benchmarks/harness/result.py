"""``Row``: one claim, measured. ``Benchmark``: a file that makes rows. ``Result``: what is written."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from benchmarks.harness.shapes import Setting
from benchmarks.harness.timing import Timing


@dataclass(frozen=True)
class Row:
    """One claim, measured.

    Attributes:
        what: what is compared.
        ours, peer: in ``unit``; None where there is no such.
        rival: who the peer is.
        ratio: the number that the bar is about; None where nothing could be measured.
        bar: what was promised; None for a row that only informs.
        sense: whether the ratio should be ``at least`` or ``at most`` the bar.
        unit: ``s`` or ``MiB``.
        note: what must be known to read the row: the part that was measured, the agreement of the numbers, a refusal.
        rounds: every single measurement, by name.
    """

    what: str
    ours: float | None = None
    rival: str = ""
    peer: float | None = None
    ratio: float | None = None
    bar: float | None = None
    sense: str = "at least"
    unit: str = "s"
    note: str = ""
    rounds: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None without a bar or without a measurement."""
        if self.bar is None:
            return None
        if self.ratio is None:
            return False
        return self.ratio >= self.bar if self.sense == "at least" else self.ratio <= self.bar


@dataclass(frozen=True)
class Findings:
    """What a benchmark returns: rows, and data for a plot (name -> series)."""

    rows: tuple[Row, ...]
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Benchmark:
    """A benchmark file's entry.

    Attributes:
        title: of its table.
        measure: does it.
        minutes: about how long it takes in the standard setting on two quiet cores.
        place: where it stands in the order of the tables.
        apart: only run when it is asked for by name.
    """

    title: str
    measure: Callable[[Setting], Findings]
    minutes: float
    place: int
    apart: bool = False


def scaled(timing: Timing, factor: float) -> Timing:
    """A timing per part of what it did."""
    return replace(timing, seconds=tuple(factor * x for x in timing.seconds))


def versus(what: str, ours: Timing, peer: Timing, bar: float | None, note: str = "") -> Row:
    """The row of a race: how many times faster we are."""
    note = "; ".join(part for part in (peer.part and f"peer: {peer.part}", note) if part)
    return Row(what, ours.median, peer.name, peer.median, peer.median / ours.median, bar, note=note,
               rounds={"ours": ours.seconds, peer.name: peer.seconds})


def against(what: str, ours: Timing, peer: Timing, bar: float | None, mine: Any, theirs: Any, note: str = "",
            tolerance: float = 1e-4) -> Row:
    """``versus`` for two that gave the same numbers, ``mine`` and ``theirs``; else a row that refuses, without times."""
    same, said = agreement(mine, theirs, tolerance)
    if not same:
        return Row(what, rival=peer.name, bar=bar, note=said)
    return versus(what, ours, peer, bar, "; ".join(part for part in (said, note) if part))


def agreement(ours: Any, theirs: Any, tolerance: float = 1e-4) -> tuple[bool, str]:
    """Whether two sets of numbers are the same to ``tolerance`` and not all alike, and that in words."""
    a, b = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    if a.shape != b.shape:
        return False, f"numbers of shape {a.shape} against {b.shape}: no time is given"
    difference, size = float(np.abs(a - b).max()), float(np.abs(b).max())
    if not difference <= tolerance:
        return False, f"the numbers differ by {difference:.1e}: no time is given"
    if not size > 100 * difference:
        return False, f"numbers up to {size:.1e} do not stand out from their difference, {difference:.1e}: no time is given"
    return True, f"same numbers to {difference:.0e} (largest {size:.2g})"


def as_json(row: Row) -> dict[str, Any]:
    """A row as plain data, with the verdict."""
    return asdict(row) | {"met": row.met}
