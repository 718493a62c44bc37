"""``Batch``: prompt pairs as padded token ids, with named positions, answers and a metric. What engine and measures take."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.core.registry import unknown
from interp.tasks.metrics import Metric, metric_of
from interp.tasks.prompt import PromptPair

SIDES = ("right", "left")


@dataclass(frozen=True, eq=False)
class Tokens:
    """Token ids of some prompts, padded to one length.

    Attributes:
        ids: [prompt, position], int64; padding holds token 0 and is never read.
        mask: [prompt, position], int64, 1 = real token.
        padding_side: ``right`` or ``left``.
        lengths: [prompt], number of real tokens.
    """

    ids: Tensor
    mask: Tensor
    padding_side: str
    lengths: Tensor

    @classmethod
    def pad(cls, rows: Sequence[Sequence[int]], padding_side: str = "right", length: int | None = None) -> "Tokens":
        """Pad ``rows`` of token ids to ``length`` (the longest, if None)."""
        if padding_side not in SIDES:
            raise unknown("padding side", padding_side, list(SIDES))
        lengths = torch.tensor([len(row) for row in rows])
        ids = torch.zeros(len(rows), length or int(lengths.max()), dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            where = slice(0, len(row)) if padding_side == "right" else slice(ids.shape[1] - len(row), None)
            ids[i, where], mask[i, where] = torch.tensor(row), 1
        return cls(ids, mask, padding_side, lengths)

    @property
    def n(self) -> int:
        """Number of prompts."""
        return len(self.ids)

    @property
    def start(self) -> Tensor:
        """Index of the first real token of each prompt, [prompt]."""
        return torch.zeros_like(self.lengths) if self.padding_side == "right" else self.ids.shape[1] - self.lengths

    @property
    def last(self) -> Tensor:
        """Index of the last real token of each prompt, [prompt]."""
        return self.start + self.lengths - 1

    @property
    def inputs(self) -> dict[str, Tensor]:
        """What a model takes: ``input_ids`` and ``attention_mask``."""
        return {"input_ids": self.ids, "attention_mask": self.mask}

    def rows(self) -> list[list[int]]:
        """The token ids of each prompt without padding."""
        return [row[real.bool()].tolist() for row, real in zip(self.ids, self.mask, strict=True)]

    def to(self, device: Any) -> "Tokens":
        """The same tokens on a device."""
        return replace(self, ids=self.ids.to(device), mask=self.mask.to(device), lengths=self.lengths.to(device))


@dataclass(frozen=True, eq=False)
class Batch:
    """Clean and corrupted prompts as tokens, ready to be run.

    Attributes:
        task: name of the task.
        prompts: the pairs that the tokens were made of.
        clean, corrupt: their tokens, padded to one length on the same side.
        spans: name -> token range (start, stop) of each clean prompt, [prompt, 2], in padded coordinates; ``end`` is always
            there, the last real token. If ``aligned``, this range is to be exchanged between clean and corrupted prompt.
        corrupt_spans: where the same names stand in the corrupted prompt; differs from ``spans`` for names in ``moving``.
        moving: names that stand elsewhere in the corrupted prompt by design ("the right colour").
        aligned: whether each clean prompt and its corrupted one have equally many tokens and the same named ranges, so that
            positions correspond. If not, only all positions at once and ``end`` may be exchanged.
        answers, wrong: token ids of right and wrong answers, [prompt, k], padded with 0.
        answer_mask, wrong_mask: which of them are real.
        metric: the task's metric.
        dropped: words left out because they are no single token of this tokenizer.
        misaligned: how many pairs were left out because this tokenizer cuts the clean and the corrupted one differently,
            or cuts across a named position.
        origin: name, version, seed and options of the task, for the provenance.
    """

    task: str
    prompts: tuple[PromptPair, ...]
    clean: Tokens
    corrupt: Tokens
    spans: Mapping[str, Tensor]
    corrupt_spans: Mapping[str, Tensor]
    answers: Tensor
    answer_mask: Tensor
    wrong: Tensor
    wrong_mask: Tensor
    metric: Metric
    moving: tuple[str, ...] = ()
    aligned: bool = True
    dropped: tuple[str, ...] = ()
    misaligned: int = 0
    origin: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("spans", "corrupt_spans", "origin"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        n, shape = len(self.prompts), self.clean.ids.shape
        sides = {self.clean.padding_side, self.corrupt.padding_side}
        if not n or self.corrupt.ids.shape != shape or shape[0] != n or len(sides) > 1:
            raise ValueError(f"{n} pairs, clean tokens {tuple(shape)}, corrupted {tuple(self.corrupt.ids.shape)} do not fit")
        without = [i for i, real in enumerate(self.wrong_mask.any(1).tolist()) if not real]
        if self.metric.needs_wrong and without:
            raise InterpError(f"measure {self.metric.name} on {self.task}", f"prompt {without[0]} has no wrong answer",
                              "give wrong answers, or use the metric answer_logprob")
        for name, span in {**self.spans, **self.corrupt_spans}.items():
            if span.shape != (n, 2):
                raise ValueError(f"the span {name!r} has the shape {tuple(span.shape)} in place of ({n}, 2)")

    @property
    def n(self) -> int:
        """Number of prompts."""
        return len(self.prompts)

    @property
    def answer_position(self) -> Tensor:
        """Index of the token whose logits answer, in the clean prompts: the last real one, [prompt]."""
        return self.clean.last

    @property
    def positions(self) -> tuple[str, ...]:
        """The names of the positions."""
        return tuple(self.spans)

    def tokens(self, on: str) -> Tokens:
        """The ``clean`` or the ``corrupt`` tokens."""
        if on not in ("clean", "corrupt"):
            raise unknown("run", on, ["clean", "corrupt"])
        return self.clean if on == "clean" else self.corrupt

    def span(self, name: str, on: str = "clean") -> Tensor:
        """Token range of a named position, [prompt, 2]; an unknown name is answered with the nearest ones."""
        spans = self.spans if self.tokens(on) is self.clean else self.corrupt_spans
        if name not in spans:
            raise unknown(f"position of the task {self.task}", name, list(spans))
        return spans[name]

    def check_aligned(self, asked: str) -> None:
        """Refuse what needs positions that correspond, naming the first pair in which they do not."""
        if self.aligned:
            return
        other = {name for name in self.spans if name not in (*self.moving, "end")}
        at = next(i for i in range(self.n) if _differ(self, i, other))
        one, two = int(self.clean.lengths[at]), int(self.corrupt.lengths[at])
        true = f"clean and corrupted prompt {at} of {self.task} do not correspond token by token ({one} and {two} tokens)"
        raise InterpError(asked, true, "use pairs with the same tokens at the same places, or all positions, or 'end'")

    def with_metric(self, metric: str | Metric) -> "Batch":
        """The same batch under another metric."""
        return replace(self, metric=metric_of(metric))

    def subset(self, indices: Sequence[int]) -> "Batch":
        """The prompts at ``indices``, in that order, with the padding that they need."""
        if not len(indices):
            raise InterpError(f"take a subset of {self.task}", "no prompt is chosen", "choose at least one")
        at = torch.as_tensor(indices, dtype=torch.int64)
        lengths = torch.stack([self.clean.lengths[at], self.corrupt.lengths[at]])
        width = int(lengths.max())
        side = self.clean.padding_side
        cut = slice(0, width) if side == "right" else slice(self.clean.ids.shape[1] - width, None)
        shift = 0 if side == "right" else self.clean.ids.shape[1] - width

        def some(tokens: Tokens) -> Tokens:
            return Tokens(tokens.ids[at][:, cut], tokens.mask[at][:, cut], side, tokens.lengths[at])

        rest = {name: getattr(self, name)[at] for name in ("answers", "answer_mask", "wrong", "wrong_mask")}
        spans = {name: span[at] - shift for name, span in self.spans.items()}
        corrupt_spans = {name: span[at] - shift for name, span in self.corrupt_spans.items()}
        chosen = replace(self, prompts=tuple(self.prompts[i] for i in at.tolist()), clean=some(self.clean),
                         corrupt=some(self.corrupt), spans=spans, corrupt_spans=corrupt_spans, **rest)
        others = {name for name in spans if name not in (*self.moving, "end")}
        return replace(chosen, aligned=not any(_differ(chosen, i, others) for i in range(chosen.n)))

    def tokens_sha256(self) -> str:
        """Hash of the token ids of clean and corrupted prompts and of the answers; padding does not count."""
        answers = [row[mask].tolist() for row, mask in zip(self.answers, self.answer_mask, strict=True)]
        wrong = [row[mask].tolist() for row, mask in zip(self.wrong, self.wrong_mask, strict=True)]
        content = json.dumps([self.clean.rows(), self.corrupt.rows(), answers, wrong], separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()

    def positions_sha256(self) -> str:
        """Hash of where the named positions stand, counted from each prompt's first token; padding does not count."""
        content = json.dumps([
            {name: (span - tokens.start[:, None].to(span.device)).tolist() for name, span in sorted(spans.items())}
            for tokens, spans in ((self.clean, self.spans), (self.corrupt, self.corrupt_spans))], separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()

    def provenance_dict(self) -> dict[str, Any]:
        """The task part of a ``Provenance``: name, version, seed, n, options, tokens_sha256, positions_sha256."""
        origin = {"version": None, "seed": None, "options": {}} | dict(self.origin)
        return {"name": self.task, **origin, "n": self.n, "tokens_sha256": self.tokens_sha256(),
                "positions_sha256": self.positions_sha256()}


def _differ(batch: Batch, i: int, names: set[str]) -> bool:
    """Whether the tokens of pair ``i`` do not correspond place by place."""
    if batch.clean.lengths[i] != batch.corrupt.lengths[i]:
        return True
    return any(not torch.equal(batch.spans[name][i], batch.corrupt_spans[name][i]) for name in names)
