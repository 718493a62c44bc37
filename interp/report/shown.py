"""Prompts and attention patterns as the page shows them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from interp.report.results import Example, Shown
from interp.views import labels
from interp.views.svg.pattern import attention_pattern, colour_limit, pool, sink_mass, token_strip


def pair(one: Shown) -> dict[str, Any]:
    """A clean and a corrupted prompt side by side."""
    return {
        "clean": _tokens(one.clean, one.corrupt, one.spans),
        "corrupt": _tokens(one.corrupt, one.clean, one.spans),
        "answer": one.answer,
        "wrong": one.wrong,
        "said": one.said,
        "clean_metric": labels.number(one.clean_metric),
        "corrupt_metric": labels.number(one.corrupt_metric),
    }


def pattern(example: Example, identifier: str) -> dict[str, Any]:
    """One head's attention on one prompt; ``identifier``: unique in the page."""
    weights, visible = example.pattern, example.visible
    last = len(example.queries) - 1
    row = np.where(visible[last], weights[last], -1.0)
    best = [int(i) for i in np.argsort(-row, kind="stable")[:4] if row[i] > 0.0005]
    reads = ", ".join(
        f"{labels.token(example.keys[i], 16)}{labels.subscript(i)} {labels.weight(float(row[i]))}" for i in best
    )
    sink, rest = sink_mass(weights, visible), float((1 - np.where(visible, weights, 0).sum(1)).mean())
    title = f"Attention of {example.head} on prompt {example.prompt + 1}; the last token attends to {reads}"
    return {
        "head": str(example.head),
        "prompt": example.prompt + 1,
        "reads": reads,
        "last": labels.token(example.queries[last], 16),
        "sink": labels.weight(sink) if np.isfinite(sink) else "–",
        "limit": labels.weight(colour_limit(weights, visible)),
        "rest": labels.weight(rest) if rest > 0.005 else "",
        "block": pool(weights, visible).block,
        "svg": attention_pattern(
            weights, visible, example.queries, example.keys, title=title, identifier=identifier, spans=example.spans
        ),
        "strip": token_strip(np.where(visible[last], weights[last], 0.0), example.keys, query=len(example.keys) - 1),
        "query_tokens": json.dumps([labels.token(t) for t in example.queries]),
        "key_tokens": "" if example.keys == example.queries else json.dumps([labels.token(t) for t in example.keys]),
    }


def _tokens(tokens: Sequence[str], other: Sequence[str], spans: Mapping[str, tuple[int, int]]) -> list[dict[str, Any]]:
    """Tokens with the name of the position they start, and whether the other prompt has another token there."""
    starts = {start: name for name, (start, _) in spans.items()}
    inside = {index for start, stop in spans.values() for index in range(start, stop)}
    aligned = len(tokens) == len(other)
    return [
        {
            "text": labels.token(text),
            "span": starts.get(index, ""),
            "inside": index in inside,
            "differs": aligned and text != other[index],
            "line": "\n" in text,
        }
        for index, text in enumerate(tokens)
    ]
