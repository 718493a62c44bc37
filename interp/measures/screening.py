"""The most important heads without a full sweep: gradients order them, exact patching decides, a random sample vouches."""

from typing import Any, Literal

import numpy as np

from interp.core.errors import InterpError
from interp.core.separation import separate
from interp.measures.head_table import HeadTable

Rank = Literal["mean", "magnitude"]
"""By the mean over prompts, as ``HeadScores.top`` ranks, or by its absolute value."""


def screened(table: HeadTable, estimate: np.ndarray, top: int, confidence: float, rank: Rank, sample: int | None,
             seed: int) -> tuple[np.ndarray, dict[str, Any]]:
    """The ``top`` candidates of a table of effects, found as ``interp.core.separation`` says.

    Args:
        estimate: of the effects, as a measure returns them.

    Returns:
        the table [candidate, prompt]: exact values of every candidate that was patched on all prompts (the top among them),
        NaN for all others; and what to say of it (``interp.core.certificate``).
    """
    exists = table.exists
    there = np.flatnonzero(exists.any(1))
    check_top(top, len(there))
    found = separate(
        np.where(exists, table.table(estimate), np.nan)[there],
        lambda candidates, prompts: table.read(there[candidates], prompts),
        top, confidence=confidence, magnitude=rank == "magnitude", sample=sample, known=table.zeros()[there],
        seed=seed,
    )
    values = np.full(exists.shape, np.nan)
    values[there[found.whole]] = found.values[found.whole]
    return values, {"screening": {
        "top": top, "of": "(head, position) pairs" if table.axes else "heads", "rank": rank,
        "candidates": len(found.whole), "spent": found.spent, "full": found.full - found.free, "free": found.free,
        "left": int((~found.whole).sum()), "highest_left": found.highest_left, "threshold": found.threshold,
        "margin": found.margin, "population": found.population, "sampled": found.sampled,
        "most_outside": found.most_outside, "most_missed": found.most_missed, "confidence": confidence, "tail": found.tail,
        "factor": found.factor, "refuted": found.refuted,
    }}


def check_top(top: int, n: int) -> None:
    """Refuse to look for none, or for more than there are."""
    if not 1 <= top <= n:
        raise InterpError(f"find the {top} most important heads", f"there are {n} to choose from",
                          "ask for at least one and at most all of them")
