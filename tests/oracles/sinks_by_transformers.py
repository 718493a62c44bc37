"""Sink measures written a second time, in numpy on transformers' own ``output_attentions`` and ``hidden_states``."""

import numpy as np
import torch


def attentions(network, which="attentions", **inputs):
    """Patterns [layer, head, row, key] and hidden states [layer + 1, token, d] of one prompt."""
    with torch.no_grad():
        out = network(**inputs, output_attentions=True, output_hidden_states=True)
    hidden = out.get("hidden_states")
    hidden = hidden if hidden is not None else out.get("encoder_hidden_states")
    patterns = np.stack([layer[0].double().numpy() for layer in out[which]])
    return patterns, np.stack([layer[0].double().numpy() for layer in hidden])


def alpha(pattern, causal):
    """Mean over the rows that come no earlier: the sum over all rows, each divided by T - k (0-based k)."""
    size = pattern.shape[-1]
    ratios = np.arange(size, 0, -1) if causal else np.full(size, pattern.shape[-2])
    return (pattern / ratios).sum(-2)


def first_token(pattern, causal, value, epsilon=0.3):
    if value == "rows":
        return (pattern[..., 1:, 0] > epsilon).mean(-1)
    weight = alpha(pattern, causal)[..., 0]
    return weight if value == "weight" else (weight > epsilon) * 1.0


def anywhere(pattern, causal, rule, spare):
    """Mass on the keys above 5/N or 0.1, over the rows that can see more than themselves."""
    size = pattern.shape[-1]
    limit = 5 / size if rule == "of the length" else 0.1
    found = np.zeros(pattern.shape[:2])
    for place in np.ndindex(*found.shape):
        sinks = [k for k in range(size) if alpha(pattern[place], causal)[k] > limit]
        sinks = sinks[1:] if spare == "first detected" else [k for k in sinks if k or spare == "none"]
        rows = pattern[place][1:] if causal else pattern[place]
        found[place] = rows[:, sinks].sum(1).mean()
    return found


def massive(pattern, hidden, causal, *, tau, dimensions, first_layer):
    """Mass on tokens with phi > tau in the hidden state that enters the layer."""
    found = np.full(pattern.shape[:2], np.nan)
    for layer in range(first_layer, len(pattern)):
        x = hidden[layer]
        phi = np.abs(x[:, list(dimensions)]).max(1) / np.sqrt((x**2).mean(1))
        rows = pattern[layer][:, 1:] if causal else pattern[layer]
        found[layer] = rows[..., phi > tau].sum(-1).mean(-1)
    return found


def by_norm(pattern, hidden, causal, ratio, first_layer):
    """Mass on tokens whose hidden state is longer than ``ratio`` times the median."""
    found = np.full(pattern.shape[:2], np.nan)
    for layer in range(first_layer, len(pattern)):
        norms = np.linalg.norm(hidden[layer], axis=1)
        rows = pattern[layer][:, 1:] if causal else pattern[layer]
        found[layer] = rows[..., norms > ratio * np.median(norms)].sum(-1).mean(-1)
    return found


def secondary(hidden, layers, cosine=0.9):
    """position -> (first layer, number of layers) of tokens like the first one within its massive window; its window."""
    norms = np.linalg.norm(hidden, axis=-1)
    sink = int(norms[:, :2].mean(0).argmax())
    growth = np.diff(norms[:, sink])
    start = int(growth.argmax()) + 1
    end = int(growth[start:].argmin()) + start + 1 if start < len(growth) else len(norms)
    levels = {}
    for token in range(sink + 1, hidden.shape[1]):
        alike = [layer for layer in range(start, end)
                 if abs(hidden[layer, token] @ hidden[layer, sink]) > cosine * norms[layer, token] * norms[layer, sink]]
        if alike:
            levels[token] = alike[0], len(alike)
    return levels, (start, end)
