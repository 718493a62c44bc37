"""Clean and corrupted prompts side by side, token for token, as a view draws them."""

from collections.abc import Mapping, Sequence
from typing import Any

from interp.core.errors import InterpError
from interp.tasks.tokenise import token_texts
from interp.views.widgets.pattern_set import TokenRow
from interp.views.widgets.state import token_row

PROMPTS = 16
"""Prompts whose tokens a view holds."""
ASKED = "draw clean and corrupted tokens"


def prompt_pairs(clean: Any = None, corrupt: Any = None, *, model: Any = None, batch: Any = None,
                 places: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """Tokens of up to 16 prompts: clean, corrupted where given, where they differ, and named spans; plain JSON data.

    Args:
        clean, corrupt: texts of tokens, of one prompt or a list of such lists; or
        model, batch: what they are read from (without a model as their numbers).
        places: positions that the tokens must reach; prompts of several lengths may all be shorter.

    Raises:
        InterpError: the two are not aligned token by token; there are more or fewer tokens than positions.
    """
    if batch is not None and clean is None:
        return _read(getattr(model, "tokenizer", None), batch)
    if clean is None:
        if corrupt is not None:
            raise InterpError(ASKED, "corrupted tokens were given without clean ones", "give clean= as well")
        return []
    rows = _rows(clean)
    others = [None] * len(rows) if corrupt is None else _rows(corrupt)
    if len(rows) != len(others):
        raise InterpError(ASKED, f"there are {len(rows)} clean and {len(others)} corrupted prompts", "give as many of both")
    for row, other in zip(rows, others, strict=True):
        if other is not None and len(other.texts) != len(row.texts):
            raise InterpError(ASKED, f"the clean prompt has {len(row.texts)} tokens, the corrupted one {len(other.texts)}",
                              "give prompts that are aligned token by token")
    lengths = {len(row.texts) for row in rows}
    if places and (max(lengths) > max(places) + 1 or lengths == {min(lengths)} != {max(places) + 1}):
        raise InterpError(ASKED, f"there are {max(places) + 1} positions and {max(lengths)} tokens",
                          "give the tokens that were patched, the first one included")
    return [_pair(row, other) for row, other in zip(rows, others, strict=True)][:PROMPTS]


def _rows(texts: Any) -> list[TokenRow]:
    """Prompts of texts: one, or several."""
    if isinstance(texts, str) or not isinstance(texts, Sequence) or not texts:
        raise InterpError(ASKED, f"{type(texts).__name__} holds no tokens", "give a list of texts, or a list of such lists")
    several = [texts] if isinstance(texts[0], str) else list(texts)
    return [row if isinstance(row, TokenRow) else TokenRow(tuple(map(str, row))) for row in several]


def _read(tokenizer: Any, batch: Any) -> list[dict[str, Any]]:
    """Tokens of the first prompts of a batch, with the spans that it names."""
    special = set(getattr(tokenizer, "all_special_ids", None) or ())
    sides = []
    for tokens in (batch.clean, batch.corrupt):
        rows = [tuple(row) for row in tokens.rows()[:PROMPTS]]
        sides.append([TokenRow(token_texts(tokenizer, row), row, tuple(i for i, one in enumerate(row) if one in special))
                      for row in rows])
    start = batch.clean.start.tolist()
    found = []
    for i, (row, other) in enumerate(zip(*sides, strict=True)):
        spans = {name: [int(span[i, 0]) - start[i], int(span[i, 1]) - start[i]] for name, span in batch.spans.items()}
        aligned = len(other.texts) == len(row.texts)
        found.append(_pair(row, other if aligned else None, spans) | {"unaligned": not aligned})
    return found


def _pair(clean: TokenRow, corrupt: TokenRow | None, spans: Mapping[str, list[int]] | None = None) -> dict[str, Any]:
    if corrupt is None:
        return {"clean": token_row(clean), "corrupt": None, "differ": [], "spans": dict(spans or {})}
    one, other = (row.ids or row.texts for row in (clean, corrupt))
    differ = [i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
    return {"clean": token_row(clean), "corrupt": token_row(corrupt), "differ": differ, "spans": dict(spans or {})}
