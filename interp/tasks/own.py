"""One's own prompts as token ids: a batch without a tokenizer."""

from collections.abc import Mapping, Sequence
from typing import Any

from interp.core.errors import InterpError
from interp.tasks.batch import Batch
from interp.tasks.build import build
from interp.tasks.metrics import Metric
from interp.tasks.prompt import Prompt, PromptPair

Place = int | tuple[int, int]
Places = Place | Sequence[Place]


def from_tokens(
    clean: Any,
    corrupt: Any,
    answer: Any,
    wrong: Any,
    *,
    positions: Mapping[str, Places] | None = None,
    metric: str | Metric = "logit_diff",
    name: str = "own tokens",
    model: Any = None,
    padding_side: str = "right",
) -> Batch:
    """A batch from token ids, taken as they stand: a begin-of-sequence token must be in them if the model wants one.

    Args:
        clean, corrupt: token ids, one row per prompt (rows may differ in length), or a tensor [prompt, position].
        answer, wrong: a token id per prompt, or a list of them per prompt, or one token id for all.
        positions: name -> where it stands: an index or a (start, stop) tuple for all prompts, or a list with one of these
            per prompt. A negative index counts from the end of each prompt. ``end``, the last token, is always there.
        model: if given, the tokens are checked against its context and vocabulary and put on its device.

    Raises:
        InterpError: as ``interp.tasks.build.build`` does; also where the parts are not of one length.
    """
    rows, others = _rows(clean), _rows(corrupt)
    n = len(rows)
    asked = f"make a batch of {name}"
    if len(others) != n:
        raise InterpError(asked, f"there are {n} clean prompts and {len(others)} corrupted ones", "give one for each")
    right, bad = (_per_prompt(part, n, asked, what) for part, what in ((answer, "answer"), (wrong, "wrong")))
    pairs = []
    for i, (row, other) in enumerate(zip(rows, others, strict=True)):
        if not row or not other:
            raise InterpError(f"use prompt {i} of {name}", "it has no tokens", "give at least one")
        spans = {key: token_range(place, i, n, len(row), key, asked) for key, place in (positions or {}).items()}
        pairs.append(PromptPair(Prompt("", spans, row), Prompt("", {}, other), right[i][0], bad[i], answers=right[i]))
    facts: dict[str, Any] = {}
    if model is not None:
        facts = {"context_length": model.context_length, "vocab_size": model.vocab_size, "device": model.device}
    return build(pairs, name=name, metric=metric, positions=tuple(positions or ()), padding_side=padding_side, **facts)


def _rows(part: Any) -> list[tuple[int, ...]]:
    """Token ids, one tuple per prompt."""
    listed = part.tolist() if hasattr(part, "tolist") else part
    return [tuple(int(token) for token in (row.tolist() if hasattr(row, "tolist") else row)) for row in listed]


def _per_prompt(part: Any, n: int, asked: str, what: str) -> list[tuple[int, ...]]:
    """The token ids given for each prompt."""
    listed = part.tolist() if hasattr(part, "tolist") else part
    listed = [listed] * n if isinstance(listed, int) else [x.tolist() if hasattr(x, "tolist") else x for x in listed]
    if len(listed) != n:
        raise InterpError(asked, f"{what} has {len(listed)} entries for {n} prompts", "give one for each, or one for all")
    return [(entry,) if isinstance(entry, int) else tuple(int(token) for token in entry) for entry in listed]


def token_range(places: Any, i: int, n: int, length: int, name: str, asked: str) -> tuple[int, int]:
    """Token range of a named position in prompt ``i``."""
    if hasattr(places, "tolist"):
        places = places.tolist()
    if isinstance(places, list):
        if len(places) != n:
            true = f"the position {name!r} has {len(places)} entries for {n} prompts"
            raise InterpError(asked, true, "give one for each prompt")
        places = places[i]
    start, stop = (places, places + 1) if isinstance(places, int) else (int(x) for x in places)
    if start < 0:
        start, stop = start + length, (stop + length if stop <= 0 else stop)
    if not 0 <= start < stop <= length:
        raise InterpError(asked, f"the position {name!r} is not inside prompt {i}, which has {length} tokens", "correct it")
    return start, stop
