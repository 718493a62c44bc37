"""When a head copies, and how copied tokens are counted. Arrays [layer, head, prompt, step] and token ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interp.core.errors import InterpError
from interp.engine.answers import ENOUGH, inside, recall, recalls, span_tokens, stop_tokens
from interp.engine.long_generation import generate_long

Bools = NDArray[np.bool_]
RELEASED_CODE = {"span": "answer", "counting": "count", "gate": True}
"""The options of ``retrieval_score`` under which it counts as the released code does (they differ from the paper's text)."""


@dataclass(frozen=True)
class Copies:
    """What each head copied.

    Attributes:
        copied: whether the head copied the token of that step, bool [layer, head, prompt, step].
        said: the token of each step, [prompt, step].
        needle: the token ids of the needle (or of the answer's span), per prompt.
        recall: the share of the answer that the model said by itself, [prompt].
    """

    copied: Bools
    said: NDArray[np.int64]
    needle: Sequence[Sequence[int]]
    recall: NDArray[np.float64]


def copied(attended: NDArray[np.integer], said: NDArray[np.int64], tokens: NDArray[np.int64], needle: Bools) -> Bools:
    """A head copies a token where the key of its largest weight stands in the needle and is that very token.

    Args:
        attended: index of that key [layer, head, prompt, step]; -1 where there is no step; beyond the prompt for tokens that
            were generated.
        said: the token of each step [prompt, step]; tokens: the prompts [prompt, position]; needle: which of them belong to
            it, bool [prompt, position].
    """
    prompts = np.arange(len(tokens))[:, None]
    there = (attended >= 0) & (attended < tokens.shape[1])
    at = np.where(there, attended, 0)
    return there & needle[prompts, at] & (tokens[prompts, at] == said)


def set_score(copied: Bools, said: NDArray[np.int64], needle: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """|g ∩ k| / |k|, g the tokens that the head copied and k those of the needle, each once: [layer, head, prompt].

    As in the text of Wu et al. 2024; between 0 and 1.
    """
    scores = np.zeros(copied.shape[:3])
    for i, wanted in enumerate(needle):
        for token in set(wanted):
            scores[:, :, i] += copied[:, :, i, said[i] == token].any(-1)
        scores[:, :, i] /= len(set(wanted))
    return scores


def count_score(copied: Bools, needle: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """Steps at which the head copied / tokens of the needle, repetitions counted: [layer, head, prompt].

    As in the code of Wu et al. 2024; may exceed 1.
    """
    return copied.sum(-1) / np.array([len(wanted) for wanted in needle], dtype=np.float64)


def copies(model: Any, batch: Any, *, mode: str, span: str, needle: str | tuple[str, ...], answer: str, new_tokens: int,
           batch_size: int | None) -> Copies:
    """What each head copies while the model goes on by itself (``generated``) or is made to say the needle's tokens
    (``teacher_forced``)."""
    name = {"needle": needle, "answer": answer}[span]
    chosen, wanted = inside(batch, name), span_tokens(batch, name)
    forced = wanted if mode == "teacher_forced" else None
    stop = stop_tokens(model.tokenizer)
    generated = generate_long(model, batch, new_tokens, attended=True, forced=forced, stop=stop, batch_size=batch_size)
    said = np.zeros(tuple(generated.ids.shape), dtype=np.int64) if forced else generated.ids.numpy()
    for i, row in enumerate(forced or ()):
        said[i, : len(row)] = row
    start = batch.clean.start.cpu().numpy()
    tokens, belongs = _from_first(batch.clean.ids.cpu().numpy(), start), _from_first(chosen, start)
    recalled = recalls(model, batch, generated, answer) if forced is None else np.array(
        [recall(row, own) for row, own in zip(wanted, generated.rows(), strict=True)])
    return Copies(copied(generated.attended.numpy(), said, tokens, belongs), said, wanted, recalled)


def gated(values: NDArray[np.float64], recalled: NDArray[np.float64], gate: bool) -> NDArray[np.float64]:
    """The values, NaN on prompts that the model did not answer if ``gate``; an error where it answered none."""
    answered = recalled > ENOUGH
    if gate and not answered.any():
        raise InterpError(f"keep the prompts that the model answers (gate=True) of {len(answered)}",
                          "it answers none of them",
                          "use shorter or easier prompts, gate=False, or mode='teacher_forced'")
    return np.where(answered, values, np.nan) if gate else values


def facts(copies: Copies) -> dict[str, NDArray[np.float64]]:
    """Per prompt: ``answered`` (1 where more than half of the answer was said) and ``recall``."""
    return {"answered": (copies.recall > ENOUGH).astype(np.float64), "recall": copies.recall}


def _from_first(rows: NDArray[Any], start: NDArray[np.int64]) -> NDArray[Any]:
    """Rows in padded coordinates [prompt, position], counted from each prompt's first real token."""
    index = (np.arange(rows.shape[1]) + start[:, None]) % rows.shape[1]
    return np.take_along_axis(rows, index, axis=1)
