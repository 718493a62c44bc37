"""Numbers that page and record have in common: shares with their intervals, and how many heads count as the top."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from interp.core.proportions import wilson
from interp.report.panels import Panel


def share(flags: np.ndarray | None) -> dict[str, Any] | None:
    """A share of prompts with its Wilson interval; None where it is not known."""
    if flags is None:
        return None
    low, high = wilson(float(flags.mean()), flags.size)
    return {"value": float(flags.mean()), "low": float(low), "high": float(high), "count": int(flags.sum()), "n": flags.size}


def top_k(drawn: Sequence[Panel]) -> int:
    """How many heads count as the top: five, or fewer where the model has few heads."""
    return max(1, min(5, int(np.isfinite(drawn[0].mean).sum()) // 4))
