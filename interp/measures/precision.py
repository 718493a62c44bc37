"""Sweeps in bfloat16 of which what matters is done again in float32, so that order and significance are those of float32."""

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch

from interp.core.errors import InterpError
from interp.core.recheck import recheck
from interp.measures.each_head import baselines
from interp.measures.head_table import HeadTable
from interp.measures.screening import Rank, check_top

Precision = Literal["float32", "bfloat16", "certified"]
"""``float32``: the model as it was loaded. ``bfloat16``: weights and activations rounded. ``certified``: rounded is what an
intervention changes (weights and activations where passes cannot be resumed), and redone what that could decide."""
RANKS = 20
"""How many of the largest are certified where nothing is asked for."""
DIFFERENCES = "bfloat16, differences from the unchanged run alone"
LEVEL = 0.05
"""The false-discovery rate of the flags that are certified: that of ``HeadScores.test`` and ``top``."""


def rounded(table: HeadTable) -> HeadTable:
    """The same table computed in bfloat16, its unchanged runs included."""
    model = table.model.lowered
    return replace(table, model=model, bases=baselines(model, table.batch, table.metric, table.running.batch_size))


def roughly(table: HeadTable) -> tuple[HeadTable, str]:
    """The same table computed with differences in bfloat16 from the exact unchanged run, or all in bfloat16 where passes
    cannot be resumed or workers that are sent the weights compute it; and what it is computed in."""
    model = table.model.with_differences if table.running.workers in (None, "local") else None
    return (rounded(table), "bfloat16") if model is None else (replace(table, model=model), DIFFERENCES)


def certified(table: HeadTable, top: int | None, confidence: float, rank: Rank, sample: int | None,
              seed: int) -> tuple[np.ndarray, dict[str, Any]]:
    """A table of effects swept in bfloat16 and redone where ``interp.core.recheck`` says.

    Returns:
        the table [candidate, prompt], and what to say of it (``interp.core.certificate``).

    Raises:
        InterpError: the model is not finer than bfloat16; the sweep is to run on workers that hold the model.
    """
    if table.model.dtype not in (torch.float32, torch.float64):
        raise InterpError(f"certify a sweep of {table.model.name} in bfloat16",
                          f"its own weights are {str(table.model.dtype).removeprefix('torch.')}: nothing finer is known",
                          "load it in float32, or leave precision out")
    exists = table.exists
    there = np.flatnonzero(exists.any(1))
    ranks = min(RANKS, len(there)) if top is None else top
    check_top(ranks, len(there))
    known = table.zeros()[there]
    rows, prompts = np.flatnonzero(np.isnan(known).any(1)), np.arange(table.batch.n)
    coarse = np.where(exists[there], 0.0, np.nan)
    rough, swept_in = roughly(table)
    if len(rows):
        coarse[rows] = np.where(exists[there[rows]], rough.read(there[rows], prompts), np.nan)
    found = recheck(coarse, lambda some: table.read(there[some], prompts), ranks, confidence=confidence, level=LEVEL,
                    known=known, magnitude=rank == "magnitude", sample=sample, seed=seed)
    values = np.full(exists.shape, np.nan)
    values[there] = found.values
    return values, {"precision": {
        "ranks": ranks, "rank": rank, "level": LEVEL, "swept_in": swept_in,
        "redone_in": str(table.model.dtype).removeprefix("torch."), "redone": int(found.read.sum()),
        "full": found.population, "free": len(there) - found.population, "sampled": found.sampled,
        "error_median": found.error_median, "error_largest": found.error_largest, "bound": found.bound,
        "confidence": confidence, "tail": found.tail, "factor": found.factor, "refuted": found.refuted,
    }}
