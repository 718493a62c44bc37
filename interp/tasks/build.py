"""From prompt pairs to a ``Batch``: tokenise, check, pad."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.tasks.batch import Batch, Tokens
from interp.tasks.metrics import Metric, metric_of
from interp.tasks.prompt import PromptPair
from interp.tasks.tokenise import Encoded, begin, encode, is_single, shown, word_ids


def build(
    pairs: Sequence[PromptPair],
    tokenizer: Any = None,
    *,
    name: str,
    metric: str | Metric = "logit_diff",
    positions: Sequence[str] | None = None,
    moving: Sequence[str] = (),
    padding_side: str = "right",
    context_length: int | None = None,
    vocab_size: int | None = None,
    device: Any = "cpu",
    first_token: bool = False,
    dropped: Sequence[str] = (),
    misaligned: int = 0,
    origin: Mapping[str, Any] | None = None,
    places: Sequence[str] | None = None,
) -> Batch:
    """Tokenise ``pairs`` and check them.

    Args:
        tokenizer: of the model; None where all prompts and answers are token ids.
        positions: names that every prompt must have; ``S1+1`` is the token after the span ``S1``. None: those that all have.
        moving: names that stand elsewhere in the corrupted prompt by design.
        context_length, vocab_size: of the model, None = not checked.
        first_token: score answers of several tokens by the first token in which they differ; the tokens that they share
            before it are appended to both prompts. Otherwise such an answer is refused.
        places: where each pair comes from (file and line), for messages.

    Raises:
        InterpError: no pairs; a corrupted prompt equal to the clean one; a prompt longer than the context; an answer that is
            not one token; an answer that is also a wrong one; a position that a prompt lacks. The message names the prompt.
    """
    if not pairs:
        raise InterpError(f"make a batch of {name}", "there are no prompts", "give at least one pair")
    places = places or [f"prompt {i} of {name}" for i in range(len(pairs))]
    first, known = begin(tokenizer), {}
    rows = [_pair(pair, tokenizer, first, place, first_token, vocab_size, known)
            for pair, place in zip(pairs, places, strict=True)]
    for place, (clean, corrupt, _, _) in zip(places, rows, strict=True):
        length = max(len(clean.ids), len(corrupt.ids))
        if context_length is not None and length > context_length:
            raise InterpError(f"use {place}", f"it has {length} tokens and the context of the model is {context_length}",
                              "give a shorter prompt")
    clean, corrupt = [row[0] for row in rows], [row[1] for row in rows]
    width = max(len(prompt.ids) for prompt in (*clean, *corrupt))
    tokens = [Tokens.pad([prompt.ids for prompt in side], padding_side, width) for side in (clean, corrupt)]
    names = _names(clean, corrupt, positions, places)
    spans = [_spans(side, token, names, places) for side, token in zip((clean, corrupt), tokens, strict=True)]
    fixed = [span for span in names if span not in moving]
    aligned = bool((tokens[0].lengths == tokens[1].lengths).all()) and all(
        torch.equal(spans[0][span], spans[1][span]) for span in fixed)
    answers, answer_mask = _ragged([row[2] for row in rows])
    wrong, wrong_mask = _ragged([row[3] for row in rows])
    return Batch(
        task=name, prompts=tuple(pairs), clean=tokens[0].to(device), corrupt=tokens[1].to(device),
        spans=spans[0] | {"end": _end(tokens[0])}, corrupt_spans=spans[1] | {"end": _end(tokens[1])},
        answers=answers, answer_mask=answer_mask, wrong=wrong, wrong_mask=wrong_mask, metric=metric_of(metric),
        moving=tuple(moving), aligned=aligned, dropped=tuple(dropped), misaligned=misaligned, origin=origin or {},
    )


def _pair(pair: PromptPair, tokenizer: Any, first: tuple[int, ...], place: str, first_token: bool,
          vocab_size: int | None, known: dict[str, tuple[int, ...]]) -> tuple[Encoded, Encoded, list[int], list[int]]:
    """Clean and corrupted prompt, right and wrong answers of one pair as token ids, checked."""
    asked = f"use {place} ({shown(pair.clean)})"
    if pair.clean.text.endswith(" ") and any(_spaced(answer) for answer in _answers(pair)[0]):
        raise InterpError(asked, "the prompt ends in a space and the answer begins with one", "remove the space at the end")
    clean, corrupt = (encode(tokenizer, prompt, first) for prompt in (pair.clean, pair.corrupt))
    if clean.ids == corrupt.ids:
        raise InterpError(asked, "the corrupted prompt is equal to the clean one", "change what the answer depends on")
    if clean.spans and not corrupt.spans:
        if len(clean.ids) != len(corrupt.ids):
            true = f"it marks positions and has {len(clean.ids)} tokens, the corrupted prompt {len(corrupt.ids)}"
            raise InterpError(asked, true, "mark the positions of the corrupted prompt too (corrupt_positions)")
        corrupt = Encoded(corrupt.ids, clean.spans)
    right, wrong = ([_ids(answer, tokenizer, asked, known) for answer in side] for side in _answers(pair))
    if not right:
        raise InterpError(asked, "it has no answer", "give one")
    if first_token:
        shared = _shared([*right, *wrong])
        if any(len(ids) == len(shared) for ids in (*right, *wrong)):
            raise InterpError(asked, "one answer is the beginning of all others", "use answers that differ in a token")
        clean, corrupt = (Encoded((*prompt.ids, *shared), prompt.spans) for prompt in (clean, corrupt))
        right, wrong = ([ids[len(shared) : len(shared) + 1] for ids in side] for side in (right, wrong))
    for answer, ids in zip((*_answers(pair)[0], *_answers(pair)[1]), (*right, *wrong), strict=True):
        if len(ids) != 1:
            pieces = " ".join(repr(piece) for piece in _pieces(tokenizer, ids)) or "nothing"
            raise InterpError(asked, f"the answer {answer!r} is {len(ids)} tokens ({pieces})",
                              "use answers of one token, or first_token=True to score where they first differ")
    good, bad = (list(dict.fromkeys(ids[0] for ids in side)) for side in (right, wrong))
    if set(good) & set(bad):
        both = sorted(set(good) & set(bad))
        raise InterpError(asked, f"right and wrong answers share the token {_pieces(tokenizer, both)[0]!r}",
                          "use answers that differ")
    used = {*clean.ids, *corrupt.ids, *good, *bad}
    if vocab_size == 0:
        raise InterpError(asked, "the model has no output over a vocabulary to answer with",
                          "load the model with its language-model head")
    if vocab_size is not None and not 0 <= min(used) <= max(used) < vocab_size:
        token = min(used) if min(used) < 0 else max(used)
        raise InterpError(asked, f"the token {token} is none of the {vocab_size} of the model", "use the model's own tokens")
    return clean, corrupt, good, bad


def _answers(pair: PromptPair) -> tuple[tuple[str | int, ...], tuple[str | int, ...]]:
    return pair.answers or (pair.answer,), pair.wrong


def _spaced(answer: str | int) -> bool:
    return isinstance(answer, str) and answer.startswith(" ")


def _ids(answer: str | int, tokenizer: Any, asked: str, known: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Token ids of an answer; ``known`` collects those of words, as many prompts share them."""
    if isinstance(answer, int):
        return (answer,)
    if tokenizer is None:
        raise InterpError(asked, f"the answer {answer!r} is text and there is no tokenizer", "give token ids as answers")
    if answer not in known:
        known[answer] = word_ids(tokenizer, answer)
        if len(known[answer]) == 1 and not is_single(tokenizer, answer):
            raise InterpError(asked, f"the tokenizer does not know the answer {answer!r}", "use words that it knows")
    return known[answer]


def _pieces(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    return [str(token) for token in ids] if tokenizer is None else tokenizer.convert_ids_to_tokens(list(ids))


def _shared(rows: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The longest common beginning of all rows."""
    length = 0
    while all(len(row) > length for row in rows) and len({row[length] for row in rows}) == 1:
        length += 1
    return rows[0][:length] if len(rows) > 1 else ()


def _names(clean: Sequence[Encoded], corrupt: Sequence[Encoded], positions: Sequence[str] | None,
           places: Sequence[str]) -> list[str]:
    """The positions to keep; each must be in every prompt."""
    everywhere = set.intersection(*(set(prompt.spans) for prompt in (*clean, *corrupt)))
    if positions is None:
        return [name for name in clean[0].spans if name in everywhere]
    wanted = [name for name in positions if name != "end"]
    for name in wanted:
        base, _ = _derived(name)
        for i, pair in enumerate(zip(clean, corrupt, strict=True)):
            if any(base not in prompt.spans for prompt in pair):
                raise InterpError(f"use {places[i]}", f"it has no position {base!r}", "mark it in all prompts or in none")
    return wanted


def _spans(prompts: Sequence[Encoded], tokens: Tokens, names: Sequence[str], places: Sequence[str]) -> dict[str, Tensor]:
    """Token ranges in padded coordinates; ``name+k`` is the k-th token after the end of ``name``."""
    found = {}
    for name in names:
        base, after = _derived(name)
        ranges = [prompt.spans[base] for prompt in prompts]
        if after:
            ranges = [(stop + after - 1, stop + after) for _, stop in ranges]
        for i, (_, stop) in enumerate(ranges):
            if stop > tokens.lengths[i]:
                raise InterpError(f"use {places[i]}", f"its position {name!r} lies behind its end", "leave the position out")
        found[name] = torch.tensor(ranges) + tokens.start[:, None]
    return found


def _derived(name: str) -> tuple[str, int]:
    """``S1+2`` as (``S1``, 2); a plain name as (name, 0)."""
    match = re.fullmatch(r"(.+)\+([1-9]\d*)", name)
    return (match[1], int(match[2])) if match else (name, 0)


def _end(tokens: Tokens) -> Tensor:
    return torch.stack([tokens.last, tokens.last + 1], dim=1)


def _ragged(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Rows of token ids padded with 0, and which entries are real."""
    width = max(1, *(len(row) for row in rows)) if rows else 1
    ids = torch.zeros(len(rows), width, dtype=torch.int64)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = torch.tensor(row, dtype=torch.int64), True
    return ids, mask
