"""The whole first family at once: one table of what each head does with sinks, read in one pass over the prompts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.core.head import Head
from interp.engine.streaming import per_row
from interp.measures.first_token_sink import strength
from interp.measures.massive_tokens import massive_tokens
from interp.measures.massive_tokens import residual_folds as massive_folds
from interp.measures.secondary_tokens import residual_folds as direction_folds
from interp.measures.secondary_tokens import secondary_tokens
from interp.measures.sink_key_bias import cosine_folds, key_cosine
from interp.measures.sink_norm import norm_ratio
from interp.measures.sink_statistics import received, uniform_alpha
from interp.measures.sinks_anywhere import find_sinks
from interp.tasks.batch import Tokens


def sink_table(model: Any, batch: Any, *, horizon: int | None = None, epsilon: float = 0.3, factor: float = 5.0,
               threshold: float = 0.1, attention: str | None = None, block: int | None = None,
               batch_size: int | None = None) -> pd.DataFrame:
    """One row per head, each number the mean over prompts, all from one pass that is read in blocks of query rows.

    Columns:
        head, layer, index.
        first_rate: share of prompts with α_1 > ε. first_weight: α_1. first_rows: share of the later rows that give the first
            token more than ε.
        anywhere_5N, anywhere_fixed: share of attention on sinks by the paper's rule and the code's (ACT), late keys left
            out; beyond_first: the paper's, without the first token; n_anywhere: how many sinks.
        sink_free: share of attention on tokens other than the first.
        massive: share of attention on tokens with massive activations. secondary: on secondary sinks (scaled rule).
        value_norm, key_norm: of the first token over the others' mean. key_cosine: mean cosine of the queries with its key.

    ``.attrs``: ``first_weight_if_even`` (α_1 of attention spread evenly), the massive dimensions, the primary sink's norm
    over the others'. Arguments as for ``first_token_sink`` and ``sinks_anywhere``; ``horizon`` None reads whole prompts.
    ``block``: rows of a block; changes no number.
    """
    stack = model.stack(attention)
    folds = {what: per_row(what, lambda read: read.tensor.float().norm(dim=-1), axis=1) for what in ("k", "v")}
    folds |= cosine_folds(stack)
    if stack.attention != "cross":
        folds |= massive_folds(model) | direction_folds()
    found = received(model, batch, attention=attention, until=horizon, folds=folds, block=block, batch_size=batch_size)
    columns: dict[str, np.ndarray] = {}

    def add(name: str, values: Sequence[np.ndarray]) -> None:
        stacked = np.stack(list(values)).astype(np.float64)
        there = np.isfinite(stacked)
        with np.errstate(invalid="ignore"):
            mean = np.where(there, stacked, 0).sum(0) / there.sum(0)
        columns[name] = np.repeat(mean, stack.n_heads // mean.shape[1], axis=1)

    for name, value in (("first_rate", "indicator"), ("first_weight", "weight"), ("first_rows", "rows")):
        add(name, [strength(one, value, epsilon, "later queries", False) for one in found])
    for name, options in (("anywhere_5N", ("of the length", factor, threshold, "none")),
                          ("anywhere_fixed", ("fixed", factor, threshold, "none")),
                          ("beyond_first", ("of the length", factor, threshold, "first token"))):
        add(name, [one.mass(find_sinks(one, *options, drop_late=True)) for one in found])
    add("n_anywhere", [find_sinks(one, "of the length", factor, drop_late=True).sum(-1) for one in found])
    add("sink_free", [one.total() - one.mass(np.arange(one.keys) == 0) for one in found])
    attrs: dict[str, Any] = {"first_weight_if_even": float(np.nanmean([uniform_alpha(one) for one in found]))}
    if "residual" in folds:
        massive = massive_tokens(found, model, stack)
        untested = np.where(massive.tested, 0, np.nan)[:, None]
        add("massive", [one.mass(at[:, None]) + untested for one, at in zip(found, massive.flagged, strict=True)])
        tokens = [secondary_tokens(one, stack.n_layers) for one in found]
        add("secondary", [one.mass(of.of("secondary")[: stack.n_layers, None])
                          for one, of in zip(found, tokens, strict=True)])
        attrs |= massive.notes | {"primary_norm_ratio": float(np.median([of.norm_ratio for of in tokens]))}
    for name, what in (("value_norm", "v"), ("key_norm", "k")):
        add(name, [norm_ratio(one.extra[what]) for one in found])
    add("key_cosine", [key_cosine(one.extra["query"], one.extra["first_key"], stack.group) for one in found])
    heads = [Head(layer, index, stack.attention) for layer in range(stack.n_layers) for index in range(stack.n_heads)]
    frame = pd.DataFrame({"head": [str(head) for head in heads], "layer": [head.layer for head in heads],
                          "index": [head.head for head in heads]} | {name: x.ravel() for name, x in columns.items()})
    frame.attrs = attrs
    return frame


def sink_tokens(model: Any, batch: Any, *, horizon: int | None = None, rule: str = "scaled", cosine: float = 0.9,
                candidates: Sequence[int] = (0, 1), tau: float | None = None, attention: str | None = None,
                block: int | None = None, batch_size: int | None = None) -> pd.DataFrame:
    """The tokens that are sinks by their hidden states, a row for each, of all prompts.

    Columns: prompt, position, token (id; None for other inputs), label (``primary``, the primary sink itself or a token like
    it nearly throughout; ``secondary``; ``noise``; ``massive`` for a token that only has massive activations), start and
    lifetime (layers; together the sink's level; of the primary sink its window), cosine (largest with the primary sink),
    massive_layers (in how many layers φ passes). ``.attrs``: as for ``sink_table``.
    """
    stack = model.stack(attention)
    folds = massive_folds(model, tau) | direction_folds(candidates)
    found = received(model, batch, attention=attention, until=horizon, folds=folds, block=block, batch_size=batch_size)
    massive = massive_tokens(found, model, stack, tau=tau)
    ids = batch.clean.rows() if isinstance(getattr(batch, "clean", None), Tokens) else None
    rows, ratios = [], []
    for i, one in enumerate(found):
        of = secondary_tokens(one, stack.n_layers, rule=rule, cosine=cosine, candidates=candidates)
        ratios.append(of.norm_ratio)
        layers = massive.flagged[i].sum(0)
        for k in range(len(layers)):
            if k != of.primary and not of.lifetime[k] and not layers[k]:
                continue
            first, last = of.window
            label, start, lifetime = ("primary", first, last - first) if k == of.primary else \
                (str(of.label[k]) or "massive", int(of.start[k]), int(of.lifetime[k]))
            token = None if ids is None else ids[i][k]
            rows.append((i, k, token, label, start, lifetime, float(of.cosine[k]), int(layers[k])))
    names = ["prompt", "position", "token", "label", "start", "lifetime", "cosine", "massive_layers"]
    frame = pd.DataFrame(rows, columns=names)
    frame.attrs = massive.notes | {"primary_norm_ratio": float(np.median(ratios))}
    return frame
