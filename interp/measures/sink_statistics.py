"""What the keys of a prompt receive in each head, read in blocks: the ground of all measures of attention sinks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.engine.streaming import Block, Fold, alone, column_sums, per_row, stream
from interp.models.backend import Stack


@dataclass(frozen=True, eq=False)
class Received:
    """What each key of one prompt receives, float64.

    Attributes:
        sums: sum over query rows of the weight of each key [layer, head, key].
        column: the weight that each row gives to one token [layer, head, row]; NaN where the prompt has no such token.
        token: which token that is, counted from the first; None where the prompt has none.
        own: what the first row gives to the first key, in causal attention, where it can see nothing else [layer, head];
            zero in other attention.
        later: rows that come no earlier than each key [layer, key]: T − k in causal attention, all rows in other.
        visible: those of them that may see it, a sliding window taken into account [layer, key].
        rows: number of rows. causal: whether a row sees only earlier keys.
        extra: further statistics by name.
    """

    sums: np.ndarray
    column: np.ndarray
    token: int | None
    own: np.ndarray
    later: np.ndarray
    visible: np.ndarray
    rows: int
    causal: bool
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def keys(self) -> int:
        """Number of keys."""
        return self.sums.shape[-1]

    def alpha(self, count: str = "later queries") -> np.ndarray:
        """Mean weight that each key receives [layer, head, key]: its sum over the rows that come no earlier, or over those
        of them that may see it."""
        return self.sums / (self.later if count == "later queries" else self.visible)[:, None]

    def mass(self, chosen: np.ndarray) -> np.ndarray:
        """Share of a row's weight that goes to the ``chosen`` keys (bool, [layer, head, key] or alike), mean over rows
        [layer, head]. In causal attention the first row, which can only see itself, is left out."""
        rows = self.rows - 1 if self.causal else self.rows
        if rows == 0:
            return np.full(self.sums.shape[:2], np.nan)
        chosen = np.broadcast_to(chosen, self.sums.shape)
        return ((self.sums * chosen).sum(-1) - self.own * chosen[..., 0]) / rows

    def total(self) -> np.ndarray:
        """Mean weight of a row on all keys [layer, head]: 1, less what a learned sink takes."""
        return self.mass(np.ones(1, dtype=bool))


def received(model: Any, batch: Any, *, attention: str | None = None, token: int = 0, until: int | None = None,
             folds: Mapping[str, Fold] | None = None, block: int | None = None,
             batch_size: int | None = None) -> list[Received]:
    """What each key receives, for every prompt of the clean side of ``batch``, in one pass over the prompts.

    Args:
        token: whose column is kept; negative counts from the last.
        until: read the first so many tokens (causal attention only; elsewhere a cut text is another text and all is read).
        folds: further statistics, put into ``extra``. block, batch_size: as for ``stream``; change no number.
    """
    stack = model.stack(attention)
    until = until if stack.causal else None

    def column(read: Block) -> Tensor:
        at = token if token >= 0 else read.keys + token
        if not 0 <= at < read.keys:
            return read.tensor.new_full(read.tensor.shape[:3], torch.nan, dtype=torch.float32)
        there = read.tensor.shape[-1] > at
        return read.tensor[..., at].float() if there else read.tensor.new_zeros(read.tensor.shape[:3], dtype=torch.float32)

    wanted = {"sums": Fold("pattern", column_sums), "column": per_row("pattern", column), **(folds or {})}
    if stack.causal:
        wanted["own"] = Fold("pattern", _first)
    found = stream(model, batch, wanted, attention=attention, until=until, block=block, batch_size=batch_size)
    return [_received(stack, {name: found[name][i].numpy() for name in found}, token) for i in range(len(found["sums"]))]


def of_pattern(pattern: np.ndarray, stack: Stack, token: int = 0) -> Received:
    """The same of whole patterns [layer, head, row, key], for patterns that are at hand or made by hand."""
    pattern = np.asarray(pattern, dtype=np.float64)
    at = token if token >= 0 else pattern.shape[-1] + token
    column = pattern[..., at] if 0 <= at < pattern.shape[-1] else np.full(pattern.shape[:3], np.nan)
    return _received(stack, {"sums": pattern.sum(2), "column": column, "own": pattern[:, :, 0, 0]}, token)


def _first(kept: Tensor | None, read: Block) -> Tensor:
    """What the first row gives to the first key."""
    return alone(read.tensor[:, :, 0, 0].float(), read) if kept is None else kept


def over_prompts(values: Sequence[np.ndarray]) -> np.ndarray:
    """One array per prompt as [layer, head, prompt, ...]."""
    return np.stack(list(values), axis=2).astype(np.float64)


def _received(stack: Stack, found: Mapping[str, np.ndarray], token: int) -> Received:
    sums, column = (np.asarray(found[name], dtype=np.float64) for name in ("sums", "column"))
    rows, keys = column.shape[-1], sums.shape[-1]
    later = np.tile(rows - np.arange(keys) if stack.causal else np.full(keys, rows), (sums.shape[0], 1))
    windows = [stack.windows[layer] if layer < len(stack.windows) else None for layer in range(sums.shape[0])]
    visible = np.stack([np.minimum(row, window or rows) for row, window in zip(later, windows, strict=True)])
    at = token if token >= 0 else keys + token
    own = np.asarray(found["own"], dtype=np.float64) if stack.causal else np.zeros(sums.shape[:2])
    extra = {name: array for name, array in found.items() if name not in ("sums", "column", "own")}
    return Received(sums, column, at if 0 <= at < keys else None, own, later, visible, rows, stack.causal, extra)


def check_count(stack: Stack, count: str, measure: str) -> None:
    """Refuse counting visible queries where a window reaches both ways."""
    if count == "visible queries" and not stack.causal and any(stack.windows):
        raise InterpError(f"count the queries that may see a key, for {measure}", "the windows of this attention reach both "
                          "ways", "use count='later queries'")


def known_late(received: Received, epsilon: float, count: str) -> np.ndarray:
    """Keys seen by too few queries to be told from attention to one's own neighbourhood: at most 1/epsilon [layer, key].

    A head that looks only at its own token gives the last keys 1, 1/2, 1/3, ...: those above epsilon are no sinks.
    """
    queries = received.later if count == "later queries" else received.visible
    return queries <= 1 / epsilon if received.causal else np.zeros_like(queries, dtype=bool)


def uniform_alpha(received: Received, token: int = 0) -> float:
    """What a head that spreads its attention evenly over all it may see gives to a token: H_T / T to the first of T in
    causal attention. A threshold near it tells nothing."""
    at = token if token >= 0 else received.keys + token
    if not 0 <= at < received.keys:
        return float("nan")
    if not received.causal:
        return 1 / received.keys
    return float((1 / np.arange(at + 1, received.rows + 1)).mean())
