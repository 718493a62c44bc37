"""Retrieval frequency: on how many contexts a head copies anything of the needle."""

from typing import Any, Literal

import numpy as np

from interp.core.grid import labels
from interp.measures.copying import copies, facts, gated
from interp.measures.measure import Measured, measure


@measure(
    about="attention",
    sense="larger = the head copies something of the needle in more contexts; 1 = in every one",
    formula="1 where the head copies at least one of the needle's tokens, else 0; its mean is the activation frequency",
    source="Wu et al. 2024, arXiv 2404.15574 (activation frequency)",
    does_not_show=(
        "How much of the needle is copied (see retrieval_score), or whether the copying matters. Long needles give every "
        "head more chances."
    ),
    cost="one generation (prompt once, then one pass per new token)",
)
def retrieval_frequency(
    model: Any,
    batch: Any,
    *,
    span: Literal["needle", "answer"] = "needle",
    gate: bool = False,
    mode: Literal["generated", "teacher_forced"] = "generated",
    needle: str | tuple[str, ...] = "needle",
    answer: str = "answer",
    new_tokens: int = 50,
    batch_size: int | None = None,
    progress: Any = None,
) -> Measured:
    """On which contexts each head copies at least one token of the needle.

    ``values[layer, head, prompt]``: 0 or 1. Options, labels and errors as for ``retrieval_score``. Published: a few heads
    are active in every context, most in none.
    """
    found = copies(model, batch, mode=mode, span=span, needle=needle, answer=answer, new_tokens=new_tokens,
                   batch_size=batch_size)
    values = found.copied.any(-1).astype(np.float64)
    return Measured(values=gated(values, found.recall, gate), attention="self", baselines=facts(found), coords=labels(batch),
                    signed=False)
