"""Did the model answer? Generated tokens against an answer that stands in the prompt, or against the batch's answers."""

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from interp.core.errors import InterpError
from interp.core.registry import unknown
from interp.engine.long_generation import LongGeneration

ENOUGH = 0.5
"""An answer counts where more than this share of it was said (published: ROUGE-1 recall above 50 %)."""


def recall(answer: Sequence[Hashable], said: Sequence[Hashable]) -> float:
    """ROUGE-1 recall: the share of the answer's words that was said, each word counted as often as it stands in both."""
    wanted = Counter(answer)
    return sum((wanted & Counter(said)).values()) / len(answer)


def recalls(model: Any, batch: Any, generated: LongGeneration, answer: str) -> np.ndarray:
    """ROUGE-1 recall of the tokens of the span ``answer`` in what was generated: [n], 0 to 1.

    Words are compared, in lower case and without punctuation; tokens where the model has no tokenizer, or the answer no
    words.
    """
    found = []
    for wanted, said in zip(span_tokens(batch, answer), generated.rows(), strict=True):
        words = _words(model.tokenizer, wanted)
        found.append(recall(words, _words(model.tokenizer, said)) if words else recall(wanted, said))
    return np.array(found)


def first_right(batch: Any, generated: LongGeneration) -> np.ndarray:
    """1 where the first generated token is a right answer of the batch, else 0: [n]."""
    right = (generated.ids[:, :1] == batch.answers.cpu()) & batch.answer_mask.cpu()
    return right.any(dim=1).double().numpy()


def span_tokens(batch: Any, name: str | tuple[str, ...]) -> list[list[int]]:
    """The token ids of a named span of the clean prompts, of several one after another in the order of the prompt."""
    ids = batch.clean.ids.cpu()
    return [ids[i, chosen].tolist() for i, chosen in enumerate(inside(batch, name))]


def inside(batch: Any, name: str | tuple[str, ...]) -> np.ndarray:
    """Which tokens of the clean prompts belong to a span, or to one of several: bool [n, position], padded coordinates."""
    places = np.arange(batch.clean.ids.shape[1])
    chosen = np.zeros(tuple(batch.clean.ids.shape), dtype=bool)
    for one in (name,) if isinstance(name, str) else name:
        if one not in batch.spans:
            raise unknown(f"position of {batch.task}", one, sorted(batch.spans))
        span = batch.spans[one].cpu().numpy()
        chosen |= (places >= span[:, :1]) & (places < span[:, 1:])
    if not chosen.any(1).all():
        raise InterpError(f"read the span {name}", f"prompt {int((~chosen.any(1)).argmax())} has none",
                          "mark it in every one")
    return chosen


def stop_tokens(tokenizer: Any) -> frozenset[int]:
    """Tokens that end an answer: the end of a sequence and the line break (as published); none without a tokenizer."""
    if tokenizer is None:
        return frozenset()
    last = {tokenizer("a" + text, add_special_tokens=False)["input_ids"][-1] for text in ("\n", "\n\n")}
    lines = {token for token in last if tokenizer.decode([token]).strip(" ") in ("\n", "\n\n")}
    return frozenset(lines | ({tokenizer.eos_token_id} - {None}))


def _words(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    return [] if tokenizer is None else re.findall(r"\w+", tokenizer.decode(list(ids)).lower())
