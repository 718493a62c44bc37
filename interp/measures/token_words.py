"""Words of a prompt: which of its tokens make up one word, and what the word is."""

from collections.abc import Sequence
from typing import Any

BEGINS = ("Ġ", "▁", "Ċ", " ", "\n")
"""What a token begins with where it begins a word, in vocabularies of bytes and of sentence pieces."""


def token_words(tokenizer: Any, ids: Sequence[int]) -> list[tuple[int, str]]:
    """For each token the number of the word it belongs to and the word's text, in lower case and without space around it.

    A word ends where the next token begins with a space (or, in word-piece vocabularies, without ``##``), and between
    letters or digits and other signs. Vocabularies that mark neither have whole words for tokens. Special tokens, and
    words of no letter and digit, have the text ``""``: they are no words.
    """
    tokens = tokenizer.convert_ids_to_tokens(list(ids))
    vocabulary = tokenizer.get_vocab()
    pieces = any(token.startswith("##") for token in vocabulary)
    marked = any(token.startswith(("Ġ", "▁")) for token in vocabulary)
    special = set(tokenizer.all_special_ids)
    texts = [tokenizer.decode([token]).removeprefix("##") for token in ids]
    numbers, number = [], -1
    for i, token in enumerate(tokens):
        begins = not token.startswith("##") if pieces else token.startswith(BEGINS) if marked else True
        apart = i == 0 or ids[i] in special or ids[i - 1] in special or _letters(texts[i]) != _letters(texts[i - 1])
        number += begins or apart
        numbers.append(number)
    words: dict[int, str] = {}
    for i, at in enumerate(numbers):
        words[at] = words.get(at, "") + ("" if ids[i] in special or not _letters(texts[i]) else texts[i].strip())
    return [(at, words[at].casefold()) for at in numbers]


def _letters(text: str) -> bool:
    return any(sign.isalnum() for sign in text)
