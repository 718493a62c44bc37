"""``PatternSet``: attention patterns of all heads on some prompts, as the widgets read them, a layer at a time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from interp.core.errors import InterpError

Layer = tuple[np.ndarray, np.ndarray]
"""One layer on one prompt: weights [head, query, key] and what the mask lets through [head, query, key], bool."""

ASKED = "show attention patterns"
SHAPES = "give [layer, head, query, key], or a tuple of [prompt, head, query, key] with an entry for each layer"


@dataclass(frozen=True)
class TokenRow:
    """The tokens of one side of a prompt: text, ids (or none), and which of them are special by the tokenizer."""

    texts: tuple[str, ...]
    ids: tuple[int, ...] = ()
    special: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class PatternSet:
    """Patterns of every head on some prompts.

    Attributes:
        heads: query heads of each layer; 0 for a layer without attention.
        queries, keys: tokens of each prompt (the same for self-attention).
        read: (prompt, layer) -> weights and visibility of that layer; called when they are first needed.
        group: query heads that share one key-value head.
        attention: which attention stack, as in ``interp.core.head``.
        spans: named token ranges (start, stop) of each prompt.
        source: one line that says where the patterns come from.
        learned_sink: whether rows may sum to less than one because a learned score takes part in the softmax.
        marks: a word that tells a prompt from the others ("edited"), one for each prompt, mostly empty; or none at all.
    """

    heads: tuple[int, ...]
    queries: tuple[TokenRow, ...]
    keys: tuple[TokenRow, ...]
    read: Callable[[int, int], Layer]
    group: int = 1
    attention: str = "self"
    spans: tuple[Mapping[str, tuple[int, int]], ...] = field(default=())
    source: str = ""
    learned_sink: bool = False
    marks: tuple[str, ...] = ()

    @property
    def n_layers(self) -> int:
        """Number of layers, those without attention counted."""
        return len(self.heads)

    @property
    def n_heads(self) -> int:
        """Heads of the widest layer."""
        return max(self.heads)

    @property
    def n_prompts(self) -> int:
        """Number of prompts."""
        return len(self.queries)


def pattern_set(attention: Any, tokens: Any = None, *, keys: Any = None, visible: Any = None, group: int = 1,
                special: Sequence[str] = (), source: str = "") -> PatternSet:
    """Patterns from plain arrays.

    Args:
        attention: [layer, head, query, key], [head, query, key] or [query, key] of one prompt; [prompt, layer, head, query,
            key] of several; or a sequence with an entry for each layer, [prompt, head, query, key] or [head, query, key] as
            transformers returns ``attentions`` (None: a layer without attention; layers may differ in heads). Arrays of
            numpy or torch; or a cache of TransformerLens, whose ``blocks.N.attn.hook_pattern`` are read.
        tokens: one text per query, or a list of such lists, one for each prompt; None: their indices.
        keys: the same for the keys, where they are not the queries.
        visible: what the mask lets through, [query, key], or in the shape of one layer [head, query, key]; None: what is at
            or below the diagonal where a square pattern is zero above it in every head of a layer, else everything.
        group: query heads that share a key-value head.
        special: texts that are special tokens (``<s>``); they are drawn as such.
        source: one line that says what was run.

    Raises:
        InterpError: the shapes do not fit each other, with the shapes seen; a weight is negative or above one.
    """
    layers = _layers(attention)
    shown = [layer for layer in layers if layer is not None]
    if not shown:
        raise InterpError(ASKED, "no layer has any", SHAPES)
    prompts, queries, columns = shown[0].shape[0], shown[0].shape[2], shown[0].shape[3]
    for layer in shown:
        if layer.shape[0] != prompts or layer.shape[2:] != (queries, columns) or 0 in layer.shape:
            raise InterpError(ASKED, f"layers have the shapes {shown[0].shape} and {layer.shape}", SHAPES)
        if np.nanmin(layer, initial=0) < -1e-3 or np.nanmax(layer, initial=0) > 1.01:
            raise InterpError(ASKED, f"weights reach from {np.nanmin(layer):.3g} to {np.nanmax(layer):.3g}",
                              "give patterns (after the softmax), which lie between 0 and 1")
    rows = _rows(tokens, prompts, queries, "query", special)
    sides = rows if keys is None and queries == columns else _rows(keys, prompts, columns, "key", special)
    mask = None if visible is None else np.asarray(visible, dtype=bool)
    if mask is not None and mask.shape[-2:] != (queries, columns):
        raise InterpError(ASKED, f"visible has the shape {mask.shape} for patterns of {queries} x {columns}",
                          "give [query, key]")

    def read(prompt: int, layer: int) -> Layer:
        found = layers[layer]
        if found is None:
            empty = np.zeros((0, queries, columns))
            return empty, empty.astype(bool)
        weights = found[prompt]
        seen = guessed_mask(weights) if mask is None else mask
        return weights, np.broadcast_to(seen, weights.shape)

    heads = tuple(0 if layer is None else int(layer.shape[1]) for layer in layers)
    return PatternSet(heads, rows, sides, read, group, source=source)


def guessed_mask(weights: np.ndarray) -> np.ndarray:
    """[query, key] of a layer [head, query, key]: at or below the diagonal where all heads are zero above it, else all."""
    queries, keys = weights.shape[-2:]
    causal = queries == keys and queries > 1 and not np.nan_to_num(np.triu(weights, 1)).any()
    return np.tril(np.ones((queries, keys), bool)) if causal else np.ones((queries, keys), bool)


def _layers(attention: Any) -> list[np.ndarray | None]:
    """One array [prompt, head, query, key] per layer."""
    if hasattr(attention, "cache_dict") or isinstance(attention, Mapping):
        names = sorted((int(name.split(".")[1]), name) for name in attention if name.endswith("attn.hook_pattern"))
        if not names:
            raise InterpError(ASKED, "the cache holds no blocks.N.attn.hook_pattern", "run with_cache without a filter")
        found = {layer: _array(attention[name]) for layer, name in names}
        return [None if layer not in found else _prompts(found[layer]) for layer in range(max(found) + 1)]
    if isinstance(attention, list | tuple) and (not attention or attention[0] is None or np.ndim(attention[0]) >= 3):
        return [None if layer is None else _prompts(_array(layer)) for layer in attention]
    whole = _array(attention)
    if whole.ndim not in (2, 3, 4, 5):
        raise InterpError(ASKED, f"the array has the shape {whole.shape}", SHAPES)
    while whole.ndim < 5:
        whole = whole[None]
    return [whole[:, layer] for layer in range(whole.shape[1])]


def _array(values: Any) -> np.ndarray:
    """A numpy array of whatever holds numbers; torch's tensors are moved to the CPU, bfloat16 widened."""
    if hasattr(values, "detach"):
        values = values.detach().float().cpu().numpy()
    try:
        return np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InterpError(ASKED, f"a {type(values).__name__} holds no array of numbers ({error})", SHAPES) from None


def _prompts(layer: np.ndarray) -> np.ndarray:
    if layer.ndim not in (3, 4):
        raise InterpError(ASKED, f"a layer has the shape {layer.shape}", SHAPES)
    return layer if layer.ndim == 4 else layer[None]


def _rows(tokens: Any, prompts: int, count: int, side: str, special: Sequence[str]) -> tuple[TokenRow, ...]:
    rows = [[str(i) for i in range(count)]] * prompts if tokens is None else list(tokens)
    if rows and isinstance(rows[0], str):
        rows = [rows] * prompts
    if len(rows) != prompts or any(len(row) != count for row in rows):
        shape = f"{[len(row) for row in rows][:4]} tokens" if rows else "no token"
        raise InterpError(ASKED, f"there are {shape} for {prompts} prompts of {count} {side} tokens",
                          "give one text for each token")
    texts = [tuple(map(str, row)) for row in rows]
    return tuple(TokenRow(row, (), tuple(i for i, text in enumerate(row) if text in special)) for row in texts)
