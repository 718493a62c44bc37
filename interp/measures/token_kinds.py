"""What kind of token each token of a prompt is: first, special, punctuation, line break, number, word."""

from collections.abc import Sequence
from typing import Any

from interp.tasks.batch import Tokens

FIRST, OTHER = "first", "other"
KINDS = ("first", "punctuation", "line break", "space", "number", "word", "other")


def token_kinds(model: Any, batch: Any, attention: str, keys: Sequence[int]) -> list[list[str]]:
    """The kind of every key of every prompt.

    The first token is ``first`` whatever it is, except for a special token, which has the name that the tokenizer gives it
    (``[CLS]``, ``<s>``). The rest by their text: ``punctuation`` (no letter or digit in it), ``line break``, ``space``,
    ``number``, ``word``. Without a tokenizer, or for keys that are no tokens of a text (image patches), all but the first
    are ``other``.

    Args:
        keys: how many keys each prompt has.
    """
    rows = batch.clean.rows() if isinstance(getattr(batch, "clean", None), Tokens) else None
    if model.tokenizer is None or rows is None or attention not in ("self", "encoder"):
        return [[FIRST, *[OTHER] * (count - 1)] for count in keys]
    special = dict(zip(model.tokenizer.all_special_ids, model.tokenizer.all_special_tokens, strict=False))
    texts = {token: model.tokenizer.decode([token]) for row in rows for token in set(row)}
    return [[special.get(token, FIRST if at == 0 else _kind(texts[token])) for at, token in enumerate(row[:count])]
            for row, count in zip(rows, keys, strict=True)]


def _kind(text: str) -> str:
    bare = text.strip()
    if "\n" in text and not bare:
        return "line break"
    if not bare:
        return "space"
    if bare.isdigit():
        return "number"
    return "word" if any(letter.isalnum() for letter in bare) else "punctuation"
