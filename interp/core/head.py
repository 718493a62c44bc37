"""``Head``: the address of one attention head."""

import re
from dataclasses import dataclass
from typing import Literal, get_args

from interp.core.errors import InterpError

Attention = Literal["self", "encoder", "cross", "vision"]
ATTENTIONS: tuple[str, ...] = get_args(Attention)
_PREFIX = {"self": "", "encoder": "enc.", "cross": "cross.", "vision": "vis."}
_FORMS = (r"l(\d+)h(\d+)", r"(\d+)\.(\d+)", r"a(\d+)\.h(\d+)")


@dataclass(frozen=True, order=True)
class Head:
    """One attention head: layer and head count from zero.

    ``attention`` says in which attention it sits: ``self`` (a decoder's self-attention), ``encoder`` (an encoder's),
    ``cross`` (a decoder's attention to the encoder) or ``vision`` (an image encoder's).
    ``str`` gives ``L9H9``, with a prefix for the others: ``cross.L0H3``.
    """

    layer: int
    head: int
    attention: str = "self"

    def __post_init__(self) -> None:
        if self.attention not in ATTENTIONS:
            raise InterpError(f"name a head of the attention {self.attention!r}", "there is no such attention",
                              "use one of " + ", ".join(ATTENTIONS))
        if self.layer < 0 or self.head < 0:
            raise InterpError(f"name the head {self.layer}.{self.head}", "layers and heads count from 0",
                              "use numbers of 0 and above")

    def __str__(self) -> str:
        return f"{_PREFIX[self.attention]}L{self.layer}H{self.head}"

    @classmethod
    def parse(cls, text: "str | Head") -> "Head":
        """Read ``L9H9``, ``9.9`` or ``a9.h9``, with the prefixes ``enc.``, ``cross.`` and ``vis.``."""
        if isinstance(text, Head):
            return text
        rest, attention = text.strip().lower(), "self"
        for name, prefix in _PREFIX.items():
            if prefix and rest.startswith(prefix):
                rest, attention = rest[len(prefix):], name
        for form in _FORMS:
            if match := re.fullmatch(form, rest):
                return cls(int(match[1]), int(match[2]), attention)
        raise InterpError(f"read {text!r} as a head", "it is not of the form L9H9, 9.9 or a9.h9",
                          "write layer and head, both counted from 0")
