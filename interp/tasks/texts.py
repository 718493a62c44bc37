"""``Texts``: prompts without a counterfactual, for measures that ask where heads look and what they write.

A ``Texts`` has what measures and engine need of a ``Batch`` (tokens, named positions, provenance) and no corrupted side, no
answers and no metric: whatever asks for one of these gets an ``InterpError``.

    interp.tasks.from_texts(model, ["some text", "another"], spans={"name": "some"})
    interp.tasks.plain_texts(model, n=16, length=64)       # passages that come with interp
    interp.tasks.random_texts(model, n=16, length=64)      # random token ids; kind="repeated": one id again and again
"""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.core.registry import unknown
from interp.tasks.batch import Tokens
from interp.tasks.own import Places, token_range
from interp.tasks.passages import PASSAGES
from interp.tasks.tokenise import begin

_OF_PAIRS = ("corrupt", "corrupt_spans", "answers", "answer_mask", "wrong", "wrong_mask", "metric", "with_metric")
MOST_UNKNOWN = 0.5
"""Texts of which a larger share of tokens stand for the unknown are refused."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """A network's own inputs in place of tokens, e.g. ``pixel_values``: name -> tensor with the prompts first."""

    inputs: Mapping[str, Tensor]

    @property
    def n(self) -> int:
        return len(next(iter(self.inputs.values())))


@dataclass(frozen=True, eq=False)
class Texts:
    """Prompts that stand for themselves.

    Attributes:
        task: a name for them.
        clean: their tokens (``interp.tasks.Tokens``), or other inputs of a network (``Inputs``).
        spans: name -> token range (start, stop) of each prompt, [prompt, 2], in padded coordinates; ``end``, the last real
            token, is always there for tokens.
        texts: what the tokens were made of; empty strings where token ids were given.
        origin: name, version, seed and options, for the provenance.
    """

    task: str
    clean: Tokens | Inputs
    spans: Mapping[str, Tensor]
    texts: tuple[str, ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)
    aligned: bool = True
    paired: bool = False

    def __post_init__(self) -> None:
        for name in ("spans", "origin"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def __getattr__(self, name: str) -> Any:
        if name in _OF_PAIRS:
            raise InterpError(f"use the {name.replace('_', ' ')} of {self.task}", "these texts have no counterfactual, no "
                              "answers and no metric", "use a task or pairs of prompts, or a measure that needs none")
        raise AttributeError(f"Texts has no attribute {name!r}")

    @property
    def n(self) -> int:
        """Number of prompts."""
        return self.clean.n

    @property
    def answer_position(self) -> Tensor:
        """Index of the last real token of each prompt, [prompt]."""
        return self._tokens("answer position").last

    @property
    def positions(self) -> tuple[str, ...]:
        """The names of the positions."""
        return tuple(self.spans)

    def tokens(self, on: str = "clean") -> Tokens:
        """The tokens; there is no side but ``clean``."""
        if on != "clean":
            raise unknown("run", on, ["clean"])
        return self._tokens("tokens")

    def span(self, name: str, on: str = "clean") -> Tensor:
        """Token range of a named position, [prompt, 2]; an unknown name is answered with the nearest ones."""
        self.tokens(on)
        if name not in self.spans:
            raise unknown(f"position of {self.task}", name, list(self.spans))
        return self.spans[name]

    def subset(self, indices: Sequence[int]) -> "Texts":
        """The prompts at ``indices``, in that order, with the padding that they need."""
        if not len(indices):
            raise InterpError(f"take a subset of {self.task}", "no prompt is chosen", "choose at least one")
        at = torch.as_tensor(indices, dtype=torch.int64)
        if isinstance(self.clean, Inputs):
            clean: Tokens | Inputs = Inputs({name: x[at.to(x.device)] for name, x in self.clean.inputs.items()})
            shift = 0
        else:
            side, lengths, old = self.clean.padding_side, self.clean.lengths[at], self.clean.ids.shape[1]
            width = int(lengths.max())
            cut = slice(0, width) if side == "right" else slice(old - width, None)
            shift = 0 if side == "right" else old - width
            clean = Tokens(self.clean.ids[at][:, cut], self.clean.mask[at][:, cut], side, lengths)
        return replace(self, clean=clean, spans={name: span[at] - shift for name, span in self.spans.items()},
                       texts=tuple(self.texts[i] for i in at.tolist()) if self.texts else ())

    def tokens_sha256(self) -> str:
        """Hash of the token ids (of the inputs, for other inputs); padding does not count."""
        if isinstance(self.clean, Tokens):
            return hashlib.sha256(json.dumps(self.clean.rows(), separators=(",", ":")).encode()).hexdigest()
        total = hashlib.sha256()
        for name, x in sorted(self.clean.inputs.items()):
            total.update(f"{name} {list(x.shape)}\n".encode())
            total.update(x.detach().cpu().contiguous().numpy().tobytes())
        return total.hexdigest()

    def positions_sha256(self) -> str:
        """Hash of where the named positions stand, counted from each prompt's first token."""
        start = self.clean.start if isinstance(self.clean, Tokens) else torch.zeros(self.n, dtype=torch.int64)
        found = {name: (span - start[:, None].to(span.device)).tolist() for name, span in sorted(self.spans.items())}
        return hashlib.sha256(json.dumps(found, separators=(",", ":")).encode()).hexdigest()

    def provenance_dict(self) -> dict[str, Any]:
        """The task part of a ``Provenance``: name, version, seed, n, options, tokens_sha256, positions_sha256."""
        origin = {"version": None, "seed": None, "options": {}} | dict(self.origin)
        return {"name": self.task, **origin, "n": self.n, "tokens_sha256": self.tokens_sha256(),
                "positions_sha256": self.positions_sha256()}

    def _tokens(self, what: str) -> Tokens:
        if isinstance(self.clean, Tokens):
            return self.clean
        raise InterpError(f"use the {what} of {self.task}", "its prompts are not plain tokens", "use all positions")


def from_texts(model: Any, texts: Any, *, spans: Mapping[str, Any] | None = None, length: int | None = None,
               name: str = "own texts", padding_side: str = "right", origin: Mapping[str, Any] | None = None) -> Texts:
    """Texts as tokens of ``model``, with the special tokens that its tokenizer adds by itself.

    Args:
        texts: strings, or token ids taken as they stand (rows that may differ in length, or a tensor [prompt, position]).
        spans: name -> where it stands: a piece of the text (its first occurrence), an index or a (start, stop) tuple in
            tokens for all prompts, or a list with one of these per prompt; negative indices count from the end.
        length: every text is cut to so many tokens, special ones included; a shorter one is refused. None: as they are.

    Raises:
        InterpError: no texts; a text of no tokens, shorter than ``length`` or longer than the context; token ids the model
            does not have; a span that a text lacks; more than half of the tokens unknown to the tokenizer; a model that
            takes more than one sequence of tokens.
    """
    asked = f"make texts of {name}"
    if any(stack.attention in ("cross", "vision") for stack in model.stacks):
        raise InterpError(asked, f"{model.name} takes more than one sequence of tokens", "use interp.tasks.from_inputs")
    given = [texts] if isinstance(texts, str) else texts.tolist() if isinstance(texts, Tensor) else list(texts)
    if not given:
        raise InterpError(asked, "there are no texts", "give at least one")
    rows, offsets = [], []
    for i, text in enumerate(given):
        ids, where = _encode(model, text, length, f"use text {i} of {name}")
        rows.append(ids)
        offsets.append(where)
    for i, row in enumerate(rows):
        _check(model, row, length, f"use text {i} of {name}")
    unknowns = _unknown_share(model.tokenizer, given, rows)
    if unknowns > MOST_UNKNOWN:
        raise InterpError(asked, f"the tokenizer does not know {unknowns:.0%} of their tokens",
                          "use texts in its words, or interp.tasks.random_texts")
    tokens = Tokens.pad(rows, padding_side)
    found = {key: torch.tensor([_span(place, i, given, len(rows[i]), offsets[i], key, asked) for i in range(len(rows))])
             for key, place in (spans or {}).items()}
    placed = {key: span + tokens.start[:, None] for key, span in found.items()}
    placed["end"] = torch.stack([tokens.last, tokens.last + 1], dim=1)
    options = {"length": length} | ({"unknown_tokens": round(unknowns, 4)} if unknowns else {})
    return Texts(name, tokens.to(model.device), {key: span.to(model.device) for key, span in placed.items()},
                 tuple(text if isinstance(text, str) else "" for text in given),
                 {"options": options} if origin is None else origin)


def from_inputs(inputs: Mapping[str, Any], *, spans: Mapping[str, tuple[int, int]] | None = None,
                name: str = "own inputs") -> Texts:
    """Prompts from a network's own inputs, each with the prompts as its first axis: ``pixel_values`` of images, both
    ``input_ids`` and ``pixel_values`` of a vision-language model, or the ``input_ids``, ``attention_mask`` and
    ``decoder_input_ids`` of an encoder-decoder.

    ``spans``: name -> (start, stop) in tokens, the same for all prompts. Raises ``InterpError`` where there are no inputs or
    where they differ in the number of prompts.
    """
    sizes = {key: len(x) for key, x in inputs.items()}
    if not sizes or len(set(sizes.values())) > 1 or 0 in sizes.values():
        raise InterpError(f"make prompts of {name}", f"the inputs have these numbers of prompts: {sizes or 'none'}",
                          "give tensors with the same number of prompts on their first axis")
    n = next(iter(sizes.values()))
    return Texts(name, Inputs(dict(inputs)), {span: torch.tensor([where] * n) for span, where in (spans or {}).items()})


def plain_texts(model: Any, n: int = 12, length: int | None = 64, seed: int = 0, *, padding_side: str = "right") -> Texts:
    """``n`` texts of ``length`` tokens, put together from the passages in ``interp.tasks.passages``.

    Each begins with a passage of its own as long as there are any (twelve) and goes on with others in an order drawn by
    ``seed``; a text longer than all passages together (some 700 words) repeats them, and from there on a head that looks
    for what was said before finds it. ``length=None``: the passages as they are.
    """
    rng = random.Random(seed)
    starts = [i % len(PASSAGES) for i in range(n)]
    texts = []
    for start in starts:
        text = PASSAGES[start]
        while length is not None and (missing := length - len(_ids(model, text, "make plain texts"))) > 0:
            others = [i for i in range(len(PASSAGES)) if i != start]
            rng.shuffle(others)
            for i in others:        # a token has at most about six characters on average; the rest is cut
                text, missing = f"{text} {PASSAGES[i]}", missing - len(PASSAGES[i]) // 6
                if missing <= 0:
                    break
        texts.append(text)
    origin = {"version": 1, "seed": seed, "options": {"length": length}}
    return from_texts(model, texts, length=length, name="plain texts", padding_side=padding_side, origin=origin)


def random_texts(model: Any, n: int = 12, length: int = 64, seed: int = 0, *,
                 kind: Literal["random", "repeated"] = "random", begin_token: bool = False,
                 padding_side: str = "right") -> Texts:
    """``n`` texts of ``length`` random token ids, special tokens left out.

    ``kind="repeated"``: one id, another for each text, from the first token to the last. A network whose positions are
    relative only (rotary, ALiBi) then cannot tell the tokens apart, and has no sink; one with absolute positions can
    (Gu et al. 2025). ``begin_token``: put the tokenizer's own beginning before them; this makes the first token differ.
    """
    if kind not in ("random", "repeated"):
        raise unknown("kind of random texts", kind, ["random", "repeated"])
    special = set() if model.tokenizer is None else set(model.tokenizer.all_special_ids)
    known = model.vocab_size if model.tokenizer is None else len(model.tokenizer)
    size = min(model.vocab_size or known, known)
    ids = [token for token in range(size) if token not in special]
    first = list(begin(model.tokenizer)) if begin_token else []
    if not ids or length <= len(first):
        raise InterpError("make random texts", f"there are {len(ids)} tokens to draw from and {length} places",
                          "use a model with a vocabulary, and a larger length")
    rng = random.Random(seed)
    count = length - len(first)
    rows = [first + ([rng.choice(ids)] * count if kind == "repeated" else rng.choices(ids, k=count)) for _ in range(n)]
    origin = {"version": 1, "seed": seed, "options": {"length": length, "kind": kind, "begin_token": begin_token}}
    return from_texts(model, rows, length=length, name=f"{kind} tokens", padding_side=padding_side, origin=origin)


def _encode(model: Any, text: Any, length: int | None, asked: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Token ids, and the characters that each stands for (none for token ids)."""
    if isinstance(text, str):
        ids = _ids(model, text, asked, length)
        fast = getattr(model.tokenizer, "is_fast", False)
        again = model.tokenizer(text, return_offsets_mapping=True) if fast else None
        return ids, [] if again is None else [tuple(pair) for pair in again["offset_mapping"]]
    listed = text.tolist() if hasattr(text, "tolist") else text
    return [int(token) for token in listed][:length], []


def _ids(model: Any, text: str, asked: str, length: int | None = None) -> list[int]:
    if model.tokenizer is None:
        raise InterpError(asked, "the model has no tokenizer",
                          "load it with tokenizer=, give token ids, or use interp.tasks.random_texts")
    cut = {} if length is None else {"truncation": True, "max_length": length}
    return list(model.tokenizer(text, **cut)["input_ids"])


def _check(model: Any, row: Sequence[int], length: int | None, asked: str) -> None:
    if not row or (length is not None and len(row) < length):
        raise InterpError(asked, f"it has {len(row)} tokens" + ("" if length is None else f" and {length} were asked for"),
                          "give a longer text" + ("" if length is None else ", or a smaller length"))
    if model.context_length is not None and len(row) > model.context_length:
        raise InterpError(asked, f"it has {len(row)} tokens and the context of the model is {model.context_length}",
                          "give a shorter text, or length=")
    size = model.vocab_size
    if size and not 0 <= min(row) <= max(row) < size:
        token = min(row) if min(row) < 0 else max(row)
        raise InterpError(asked, f"the token {token} is none of the {size} of the model", "use the model's own tokens")


def _unknown_share(tokenizer: Any, given: Sequence[Any], rows: Sequence[Sequence[int]]) -> float:
    """Share of the tokens of the strings among ``given`` that stand for what the tokenizer does not know."""
    if tokenizer is None or getattr(tokenizer, "unk_token_id", None) is None:
        return 0.0
    ids = [token for text, row in zip(given, rows, strict=True) if isinstance(text, str) for token in row]
    return ids.count(tokenizer.unk_token_id) / len(ids) if ids else 0.0


def _span(place: Places | str | list[Any], i: int, given: Sequence[Any], length: int, offsets: Sequence[tuple[int, int]],
          name: str, asked: str) -> tuple[int, int]:
    """Token range of a named position in text ``i``."""
    if isinstance(place, list) and len(place) == len(given):
        place = place[i]
        place = [place] * len(given) if not isinstance(place, str) else place
    if not isinstance(place, str):
        return token_range(place, i, len(given), length, name, asked)
    text = given[i]
    if not isinstance(text, str) or not offsets:
        raise InterpError(asked, f"text {i} is token ids, or its tokenizer does not say which characters a token stands for",
                          f"give the place of {name!r} in tokens")
    start = text.find(place) if place else -1
    inside = [at for at, (left, right) in enumerate(offsets) if left < start + len(place) and right > start and right > left]
    if start < 0 or not inside or inside[-1] >= length:
        raise InterpError(asked, f"{place!r}, the position {name!r}, is not in text {i}" +
                          (" up to where it is cut" if start >= 0 else ""), "correct it")
    return inside[0], inside[-1] + 1
