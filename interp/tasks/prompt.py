"""Prompts and prompt pairs: what a behaviour's generator returns. Pure python, no tensors, no tokenizer.

A `Prompt` is a text with named spans, or a sequence of token ids with named spans. A `PromptPair` is a clean
prompt, its corrupted counterpart, and what a model should and should not answer at the last token of the
clean one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Split = Literal["all", "train", "held_out"]
Keep = Callable[[str], bool]
Answer = str | int

_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Prompt:
    """One input to a model: a text (or token ids) with named spans.

    * `text`: the prompt. It never ends in a space: the answer carries the leading space (`" Mary"`).
    * `spans`: name -> (start, stop). **Character** ranges of `text`, the leading space of a word included;
      **token** ranges of `ids` where `ids` is given. The last token, `end`, is always a position and has no
      span.
    * `ids`: token ids in place of text (`text` may then be empty); no begin-of-sequence token is in them.
    """

    text: str
    spans: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    ids: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        size = len(self.text) if self.ids is None else len(self.ids)
        for name, (start, stop) in self.spans.items():
            if not 0 <= start < stop <= size:
                unit = "characters" if self.ids is None else "tokens"
                raise ValueError(
                    f"the span {name!r} ({start}, {stop}) is not inside a prompt of {size} {unit}"
                )
        object.__setattr__(self, "spans", MappingProxyType(dict(self.spans)))

    def __hash__(self) -> int:
        return hash((self.text, self.ids, tuple(sorted(self.spans.items()))))

    def __reduce__(
        self,
    ) -> tuple[type[Prompt], tuple[str, dict[str, tuple[int, int]], tuple[int, ...] | None]]:
        return Prompt, (self.text, dict(self.spans), self.ids)

    @classmethod
    def of(cls, *segments: str | tuple[str, str]) -> Prompt:
        """The prompt made of these pieces; a pair (name, piece) also names the piece as a span.

        `Prompt.of("When", ("IO", " Mary"), " and", ("S1", " John"), " left,", ("S2", " John"), " waved to")`
        """
        text = ""
        spans: dict[str, tuple[int, int]] = {}
        for segment in segments:
            name, piece = ("", segment) if isinstance(segment, str) else segment
            if name in spans:
                raise ValueError(f"the span {name!r} is given twice")
            if name:
                spans[name] = (len(text), len(text) + len(piece))
            text += piece
        return cls(text, spans)

    @classmethod
    def fill(cls, template: str, words: Mapping[str, str]) -> Prompt:
        """The template with each `{slot}` replaced by its word; every slot becomes a span, its leading space
        included.

        `Prompt.fill("When {IO} and {S1} left, {S2} waved to", {"IO": "Mary", "S1": "John", "S2": "John"})`
        """
        segments: list[str | tuple[str, str]] = []
        last = 0
        for match in _SLOT.finditer(template):
            before, space = template[last : match.start()], ""
            if before.endswith(" "):
                before, space = before[:-1], " "
            segments += [before, (match[1], space + words[match[1]])]
            last = match.end()
        return cls.of(*segments, template[last:])

    def word(self, span: str) -> str:
        """The characters of a named span (text prompts only)."""
        start, stop = self.spans[span]
        return self.text[start:stop]


@dataclass(frozen=True)
class PromptPair:
    """A clean prompt, its corrupted counterpart, and the answers at the last token.

    * `answer`: the right next token after `clean`, with its leading space (`" Mary"`), or a token id where
      prompts are ids.
    * `wrong`: the answers it is measured against (`logit_diff` = answer minus the mean or the largest of
      these: the task says).
    * `corrupt_answer`: the right next token after `corrupt`, `None` where the corrupted prompt has no single
      right answer.
    * `answers`: the whole set of right answers where there is more than one (greater-than: every later year).
      `answer` is then one of them, and `wrong` is the set of all wrong ones. Empty where `answer` is the only
      right one.
    * `frame`: which sentence frame it was made from, for tables by frame.
    """

    clean: Prompt
    corrupt: Prompt
    answer: Answer
    wrong: tuple[Answer, ...]
    corrupt_answer: Answer | None = None
    frame: str = ""
    answers: tuple[Answer, ...] = ()


def usable(
    words: Sequence[str], keep: Keep | None, least: int, what: str, *, space: bool = True
) -> list[str]:
    """Those of `words` that `keep` accepts (asked with the leading space if `space`), in order; at least
    `least` of them.

    Raises ValueError when fewer are left, saying how many there were.
    """
    kept = [word for word in words if keep is None or keep(f" {word}" if space else word)]
    if len(kept) < least:
        raise ValueError(
            f"{what}: {least} usable words are needed, {len(kept)} of {len(words)} are left "
            "(the others are no single token of this tokenizer, or were excluded)"
        )
    return kept


def choice_of(option: str, allowed: Sequence[str], what: str) -> str:
    """`option` itself if it is one of `allowed`; otherwise a ValueError that lists them."""
    if option not in allowed:
        raise ValueError(f"{what} {option!r} is not known; choose one of {', '.join(map(repr, allowed))}")
    return option
