"""The effects of changing one head at a time, as a measure returns them: swept in full, screened, or in less precision."""

from collections.abc import Callable
from typing import Any

import numpy as np

from interp.core.errors import InterpError
from interp.core.intervals import check_confidence
from interp.measures.each_head import units
from interp.measures.head_table import HeadTable
from interp.measures.measure import Measured
from interp.measures.precision import Precision, certified, rounded
from interp.measures.screening import Rank, screened

Estimate = Callable[[Any], np.ndarray]
"""model -> estimated effects, as a measure returns them."""


def head_effects(table: HeadTable, *, precision: Precision = "float32", top: int | None = None, confidence: float = 0.95,
                 rank: Rank = "mean", sample: int | None = None, seed: int = 0,
                 estimate: Estimate | None = None) -> Measured:
    """What a measure returns for a table of effects.

    Args:
        precision: see ``interp.measures.precision``.
        top: None: every candidate. A number: only that many of the largest are looked for, by ``estimate`` and exact
            patching (``interp.measures.screening``); with ``precision="certified"``, so many ranks are certified.
    """
    check_confidence(confidence)
    if table.running.dry_run:      # says what a full sweep costs, by raising
        table.read(*table.everything)
    if precision != "float32" and hasattr(table.running.workers, "hire"):
        raise InterpError(f"sweep in precision={precision!r} on these workers", "they hold the model as it was loaded",
                          "leave workers out, or give their number (RayWorkers)")
    outcome: dict[str, Any] = {}
    used = rounded(table) if precision == "bfloat16" else table
    if precision == "certified":
        values, outcome = certified(table, top, confidence, rank, sample, seed)
    elif top is None:
        values = used.read(*used.everything)
    elif estimate is None:
        raise InterpError(f"screen for the top {top}", "this measure has no estimate by gradients", "leave top out")
    else:
        values, outcome = screened(used, estimate(used.model), top, confidence, rank, sample, seed)
    return Measured(values=table.scores(values), axes=table.axes, baselines=used.bases,
                    normalizer=used.bases["clean"] - used.bases["corrupt"], metric=table.metric.name, outcome=outcome,
                    **units(table.stack, table.what))
