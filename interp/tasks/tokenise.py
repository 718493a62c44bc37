"""From text to token ids and back: named character spans become token spans, words are checked to be single tokens.

Knows tokenizers only by what those of transformers do when called. No torch.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from interp.core.errors import InterpError
from interp.tasks.prompt import Prompt, PromptPair


@dataclass(frozen=True)
class Encoded:
    """One prompt as token ids, begin-of-sequence token included, and its spans as token ranges (start, stop).

    ``cut`` names the spans whose first or last token holds other characters too, white space aside.
    """

    ids: tuple[int, ...]
    spans: Mapping[str, tuple[int, int]]
    cut: frozenset[str] = frozenset()


def begin(tokenizer: Any) -> tuple[int, ...]:
    """The token ids that the tokenizer puts before every text by itself (a begin-of-sequence token, or nothing)."""
    if tokenizer is None:
        return ()
    bare, whole = (tuple(tokenizer("a", add_special_tokens=special)["input_ids"]) for special in (False, True))
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return whole[:start]
    raise InterpError("tokenise a prompt", "the tokenizer changes a text's tokens where it adds its special tokens",
                      "give token ids with interp.tasks.from_tokens")


def word_ids(tokenizer: Any, word: str) -> tuple[int, ...]:
    """The token ids of a word as it continues a text, without what the tokenizer does at the beginning of a text."""
    anchor = "." if word.startswith(("\n", "\r")) else "\n"
    before, both = (tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in (anchor, anchor + word))
    if both[: len(before)] != before:
        raise InterpError(f"tokenise the word {word!r}", "the tokenizer merges it with what stands before it",
                          "choose another word, or give token ids")
    return both[len(before) :]


def is_single(tokenizer: Any, word: str) -> bool:
    """Whether a word is one token, and not the token for the unknown."""
    ids = word_ids(tokenizer, word)
    return len(ids) == 1 and not _unknown(tokenizer, ids[0], word)


def _unknown(tokenizer: Any, token: int, text: str) -> bool:
    """Whether a token stands for what the vocabulary lacks, rather than being spelt out (``<|endoftext|>`` is GPT-2's)."""
    return token == getattr(tokenizer, "unk_token_id", None) and text.strip() != tokenizer.unk_token


def encode(tokenizer: Any, prompt: Prompt, first: tuple[int, ...] | None = None) -> Encoded:
    """Token ids of a prompt after the tokenizer's own beginning, and its spans as token ranges in them.

    A span becomes the smallest range of tokens that covers its characters. ``first``: ``begin(tokenizer)``, if at hand.
    """
    first = begin(tokenizer) if first is None else first
    if prompt.ids is not None:
        shifted = {name: (start + len(first), stop + len(first)) for name, (start, stop) in prompt.spans.items()}
        return Encoded((*first, *prompt.ids), shifted)
    asked = f"tokenise {shown(prompt)}"
    if tokenizer is None:
        raise InterpError(asked, "the model has no tokenizer", "load it with tokenizer=, or give token ids")
    if not getattr(tokenizer, "is_fast", False):
        raise InterpError(asked, "its tokenizer does not say which characters a token stands for",
                          "load the fast tokenizer of the model, or give token ids with interp.tasks.from_tokens")
    coded = tokenizer(prompt.text, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = coded["input_ids"], coded["offset_mapping"]
    if not ids:
        raise InterpError(asked, "it has no tokens", "give a prompt with text in it")
    for token, ends in zip(ids, offsets, strict=True):
        if _unknown(tokenizer, token, prompt.text[slice(*ends)]):
            raise InterpError(asked, f"the tokenizer does not know {prompt.text[slice(*ends)]!r}", "use words that it knows")
    spans, cut = {}, set()
    for name, (start, stop) in prompt.spans.items():
        inside = [i for i, (left, right) in enumerate(offsets) if left < stop and right > start]
        if not inside:
            raise InterpError(asked, f"no token stands for the span {name!r} ({prompt.word(name)!r})", "widen the span")
        spans[name] = (inside[0] + len(first), inside[-1] + 1 + len(first))
        left, right = offsets[inside[0]][0], offsets[inside[-1]][1]
        if prompt.text[left:start].strip() or prompt.text[stop:right].strip():
            cut.add(name)
    return Encoded((*first, *ids), spans, frozenset(cut))


def corresponds(tokenizer: Any, pair: PromptPair, moving: Collection[str], first: tuple[int, ...]) -> bool:
    """Whether clean and corrupted prompt have equally many tokens, and each name in both the same range of whole tokens.

    Names in ``moving`` may stand elsewhere in the corrupted prompt.
    """
    clean, corrupt = (encode(tokenizer, prompt, first) for prompt in (pair.clean, pair.corrupt))
    fixed = [name for name in clean.spans if name not in moving and name in corrupt.spans]
    if clean.cut or corrupt.cut or len(clean.ids) != len(corrupt.ids):
        return False
    return all(clean.spans[name] == corrupt.spans[name] for name in fixed)


def shown(prompt: Prompt, width: int = 60) -> str:
    """A prompt for a message, shortened in the middle."""
    text = repr(prompt.text) if prompt.ids is None else "the token ids " + " ".join(map(str, prompt.ids))
    return text if len(text) <= width else f"{text[: width // 2 - 2]} … {text[-width // 2 + 2 :]}"


def token_text(tokenizer: Any, token: int) -> str:
    """One token as it continues a text, its leading space kept; ``<17>`` without a tokenizer."""
    if tokenizer is None:
        return f"<{token}>"
    anchor = tokenizer("a", add_special_tokens=False)["input_ids"]
    return token_texts(tokenizer, [*anchor, token])[-1]


def token_texts(tokenizer: Any, ids: Sequence[int]) -> tuple[str, ...]:
    """Tokens as text, each as what it adds to the text before it. A token that is no whole character by itself is shown as
    the tokenizer names it, in angle brackets (``<0xF0>``)."""
    if tokenizer is None:
        return tuple(f"<{token}>" for token in ids)
    texts, before = [], ""
    for i, token in enumerate(ids):
        after = tokenizer.decode(ids[: i + 1], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        added = after[len(before) :] if after.startswith(before) else ""
        if "\ufffd" in added or (not added and i):
            added = f"<{tokenizer.convert_ids_to_tokens(token).strip('<>')}>"
        texts.append(added)
        before = after
    return tuple(texts)


class SingleTokens:
    """Which words are single tokens: a predicate for generators that remembers what it turned down.

    ``dropped`` holds the words that it was asked for and refused, in order of asking.
    """

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        self.answers: dict[str, bool] = {}

    def __call__(self, word: str) -> bool:
        if word not in self.answers:
            self.answers[word] = is_single(self.tokenizer, word)
        return self.answers[word]

    @property
    def dropped(self) -> tuple[str, ...]:
        return tuple(word for word, kept in self.answers.items() if not kept)


