"""A task's options as they are written in a shell."""

import re
from typing import Any

from interp.core.errors import InterpError

_NUMBERS = re.compile(r"\d+([-,]\d+)*")


def read(name: str, text: str, default: Any) -> Any:
    """The value that ``text`` stands for, of the kind of the option's ``default``.

    A number or a range of numbers (``16``, ``16-32``), ``true`` or ``false``, a name, or several names (``F01,F02``) where
    the default is None. ``tokens`` is ``vocabulary`` or token ids (``5,6,7``).
    """
    asked = f"read --{name.replace('_', '-')} {text}"
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise InterpError(asked, "it is neither true nor false", "write one of the two")
        return text.lower() == "true"
    if isinstance(default, int | tuple) or (name == "tokens" and text != "vocabulary"):
        if not _NUMBERS.fullmatch(text):
            raise InterpError(asked, "it is no number and no range of numbers", "write 16 or 16-32")
        numbers = tuple(int(number) for number in re.split("[-,]", text))
        return numbers[0] if len(numbers) == 1 and name != "tokens" else numbers
    if default is None and name != "tokens":
        return tuple(part.strip() for part in text.split(","))
    return text
