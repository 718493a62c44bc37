"""Targets of attention: which keys a query would look at if its head did one thing, such as looking at the token before.

A target is a function of a ``Block`` of attention rows: bool [prompt or 1, row, key] (keys of the block, from the prompt's
first). It is worked out from token ids block by block, so that no square of a long text is ever held.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.prompts import selected, side, sides
from interp.engine.streaming import Block
from interp.measures.token_kinds import KINDS, token_kinds
from interp.measures.token_words import token_words
from interp.models.backend import Stack

Target = Callable[[Block], Tensor]
TARGETS = ("previous token", "duplicate token", "induction", "first token", "self", "delimiter", "same word",
           "own word", "span")
PLACES = ("previous token", "induction", "self")
"""They compare the places of a query and a key, which must then be of one sequence."""
TEXT = ("previous token", "duplicate token", "induction", "delimiter", "same word", "own word", "span")
"""They need tokens, in order."""


def target_of(model: Any, batch: Any, stack: Stack, name: str, *, offset: int = 1, span: str | None = None) -> Target:
    """The target of that name (see ``attends_to``) for the attention ``stack`` on the clean side of ``batch``.

    Raises:
        InterpError: where the attention cannot have it (previous patch of an image, the query's own place in
            cross-attention), an offset below 1, a span that is missing or unknown, words without a tokenizer.
    """
    asked = f"find the target {name!r} of {stack.attention} attention"
    if stack.attention == "vision" and name in TEXT:
        raise InterpError(asked, "image patches are no tokens in a row",
                          "use first token or self, or the measure hop_profile")
    if stack.attention == "cross" and name in PLACES:
        raise InterpError(asked, "queries and keys are different sequences", "use a target that is about keys")
    if offset < 1:
        raise InterpError(f"{asked} with offset={offset}", "targets come at least one token before or after",
                          "use 1 or more")
    if (name == "span") != (span is not None):
        raise InterpError(f"{asked} with span={span!r}", "a span is named exactly where target='span'",
                          "give target='span' and span=NAME together")
    if name == "previous token":
        return lambda block: previous_token(block, offset)
    if name == "induction":
        return lambda block: induction(block, offset)
    if name == "span":
        return keys_of(tokens_of(model, batch, span, stack, of_keys=True))
    if name == "delimiter":
        return keys_of(_delimiters(model, batch, stack, asked))
    if name in ("same word", "own word"):
        return _words(model, batch, stack, name, asked)
    return {"duplicate token": duplicate_token, "first token": first_token, "self": itself}[name]


def previous_token(block: Block, offset: int = 1) -> Tensor:
    """The token ``offset`` places before the query's [1, row, key]."""
    return (keys(block)[None] == block.rows[:, None] - offset)[None]


def itself(block: Block) -> Tensor:
    """The query's own token [1, row, key]."""
    return previous_token(block, 0)


def first_token(block: Block) -> Tensor:
    """The prompt's first token [1, row, key]."""
    return (keys(block) == 0)[None, None].expand(1, len(block.rows), -1)


def duplicate_token(block: Block) -> Tensor:
    """Keys with the query's token id: earlier ones in causal attention, other ones in self-attention that sees both ways,
    all in cross-attention [prompt, row, key]."""
    same = block.key_ids[:, None, : block.tensor.shape[-1]] == _queries(block)
    return same if block.stack.attention == "cross" else same & _other(block, keys(block))


def induction(block: Block, offset: int = 1) -> Tensor:
    """Keys ``offset`` places after a duplicate token of the query's [prompt, row, key]."""
    before = torch.nn.functional.pad(block.key_ids, (offset, 0), value=-1)[:, None, : block.tensor.shape[-1]]
    seen = (before == _queries(block)) & _other(block, keys(block) - offset)
    return seen & (keys(block)[None] <= block.rows[:, None]) if block.stack.causal else seen


def keys_of(chosen: Sequence[Tensor]) -> Target:
    """The ``chosen`` keys of each prompt (bool [key], without padding), for every query."""
    def target(block: Block) -> Tensor:
        count = block.tensor.shape[-1]
        marked = torch.stack([chosen[i][:count] for i in block.prompts.tolist()]).to(block.tensor.device)
        return marked[:, None].expand(-1, len(block.rows), -1)

    return target


def tokens_of(model: Any, batch: Any, at: str | None, stack: Stack, *, of_keys: bool = False,
              on: str = "clean") -> list[Tensor]:
    """Which tokens of each prompt a named span (or ``"end"``) holds: bool [position] without padding."""
    prompts = side(sides(model, batch), on)
    if stack.attention == "vision":
        raise InterpError(f"select {at!r} in images", "patches have no names", "read all rows")
    real = prompts.real(stack.attention, of_keys, prompts.mask.shape[1])
    found = selected(prompts, at, stack.attention, of_keys=of_keys)
    return [row[there].cpu() for row, there in zip(found, real, strict=True)]


def keys(block: Block) -> Tensor:
    """Positions of the keys of a block [key]."""
    return torch.arange(block.tensor.shape[-1], device=block.tensor.device)


def _queries(block: Block) -> Tensor:
    return block.row_ids[:, block.rows, None]


def _other(block: Block, at: Tensor) -> Tensor:
    """Whether the places ``at`` [key] are earlier than the row's (causal), or others than it: [row, key]."""
    return at[None] < block.rows[:, None] if block.stack.causal else at[None] != block.rows[:, None]


def _delimiters(model: Any, batch: Any, stack: Stack, asked: str) -> list[Tensor]:
    """Punctuation, line breaks and special tokens, but for the first token."""
    if model.tokenizer is None or stack.attention == "cross" or not hasattr(batch.clean, "rows"):
        raise InterpError(asked, "the tokens of the keys have no text here",
                          "use a model with a tokenizer and plain prompts")
    kinds = token_kinds(model, batch, stack.attention, [int(length) for length in batch.clean.lengths])
    plain = {*KINDS} - {"punctuation", "line break"}
    return [torch.tensor([at > 0 and kind not in plain for at, kind in enumerate(row)]) for row in kinds]


def _words(model: Any, batch: Any, stack: Stack, name: str, asked: str) -> Target:
    """Other occurrences of the query's word, or the other tokens of this one."""
    if model.tokenizer is None or stack.attention not in ("self", "encoder") or not hasattr(batch.clean, "rows"):
        raise InterpError(asked, "the tokens have no text here", "use a model with a tokenizer and plain prompts")
    texts: dict[str, int] = {}
    places, kinds = [], []
    for row in batch.clean.rows():
        words = token_words(model.tokenizer, row)
        places.append(torch.tensor([word for word, _ in words]))
        kinds.append(torch.tensor([texts.setdefault(text, len(texts)) if text else -1 for _, text in words]))

    def target(block: Block) -> Tensor:
        count, members = block.tensor.shape[-1], block.prompts.tolist()
        place, kind = (torch.stack([of[i] for i in members]).to(block.tensor.device) for of in (places, kinds))
        own = place[:, None, :count] == place[:, block.rows, None]
        if name == "own word":
            return own & _other(block, keys(block)) & (kind[:, block.rows, None] >= 0)
        same = (kind[:, None, :count] == kind[:, block.rows, None]) & (kind[:, block.rows, None] >= 0)
        return same & ~own & _other(block, keys(block))

    return target
