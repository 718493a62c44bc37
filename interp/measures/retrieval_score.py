"""Retrieval score: the share of a needle that a head copies out of a long context while the model answers."""

from typing import Any, Literal

from interp.core.grid import labels
from interp.measures.copying import copies, count_score, facts, gated, set_score
from interp.measures.measure import Measured, measure


@measure(
    about="attention",
    sense="larger = while the model answers, the head looks at more of the needle's tokens just as they are said",
    formula=(
        "|g ∩ k| / |k|; k = the needle's tokens, g = those of them that the head copied: at some step the key of its "
        "largest weight stood in the needle and was the token being said; counting='count': steps copied / |k|"
    ),
    source=(
        "Wu et al. 2024, arXiv 2404.15574; its text counts each token once, the whole needle and every prompt; its code "
        "counts repetitions, the answer's span and the prompts that were answered (span='answer', counting='count', "
        "gate=True)"
    ),
    does_not_show=(
        "Whether what is looked at is what makes the model say it: see the masking curve. A head that copies a token one "
        "step before or after it is said, spreads its weight over several places, or points others to the place, scores 0. "
        "Without the gate a model that does not answer gives low scores to all heads."
    ),
    cost="one generation (prompt once, then one pass per new token)",
)
def retrieval_score(
    model: Any,
    batch: Any,
    *,
    span: Literal["needle", "answer"] = "needle",
    counting: Literal["set", "count"] = "set",
    gate: bool = False,
    mode: Literal["generated", "teacher_forced"] = "generated",
    needle: str | tuple[str, ...] = "needle",
    answer: str = "answer",
    new_tokens: int = 50,
    batch_size: int | None = None,
    progress: Any = None,
) -> Measured:
    """How much of a needle each head copies while the model answers from a long context.

    ``values[layer, head, prompt]``: 0 to 1 (with ``counting="count"`` it may exceed 1). The prompts of the task ``needle``
    are the cells of a grid of lengths and depths times needles, and their labels say so. ``baselines`` hold, per prompt,
    ``recall`` (of the answer's words in what was generated) and ``answered`` (more than half of it). Published: a head of a
    mean score of 0.1 or more is a retrieval head.

    Args:
        span: what is to be copied: the whole ``needle``, or the ``answer`` within it.
        counting: ``set``: each token once; ``count``: every step that copies.
        gate: leave out (NaN) prompts of which the model says half of the answer or less.
        mode: ``generated``: the model goes on by itself, greedily, until a line break or ``new_tokens`` tokens (published:
            50); ``teacher_forced``: it is made to say the span's tokens, for models that cannot answer; ``recall`` is then
            the share of these that it would have said.
        needle, answer: the names of the batch's spans; of the task ``key_value``, say, ``("key", "value")`` and ``value``.
        batch_size: prompts worked on together; changes no number. progress: unused.

    Raises:
        InterpError: no such span; a context too short for the new tokens; with ``gate``, no prompt is answered.
    """
    found = copies(model, batch, mode=mode, span=span, needle=needle, answer=answer, new_tokens=new_tokens,
                   batch_size=batch_size)
    once = counting == "set"
    values = set_score(found.copied, found.said, found.needle) if once else count_score(found.copied, found.needle)
    return Measured(values=gated(values, found.recall, gate), attention="self", baselines=facts(found), coords=labels(batch),
                    signed=False)
