"""Measures of attention patterns written a second time: plain numpy on transformers' own ``output_attentions``."""

import numpy as np
import torch


def patterns(network, **inputs):
    """[layer, head, row, key] of one prompt, float64."""
    with torch.no_grad():
        out = network(**inputs, output_attentions=True)
    found = getattr(out, "attentions", None) or out.encoder_attentions
    return np.stack([layer[0].double().numpy() for layer in found])


def share_on(pattern, ids, target):
    """Mean over the rows (but the first) that have a target of the weight on their targets, [layer, head]."""
    rows = []
    for i in range(1, len(ids)):
        keys = target(i, ids)
        if keys:
            rows.append(pattern[:, :, i, keys].sum(-1))
    return np.mean(rows, axis=0)


TARGETS = {
    "previous token": lambda i, ids: [i - 1],
    "duplicate token": lambda i, ids: [j for j in range(i) if ids[j] == ids[i]],
    "induction": lambda i, ids: [j + 1 for j in range(i) if ids[j] == ids[i]],
    "first token": lambda i, ids: [0],
    "self": lambda i, ids: [i],
}


def over_rows(pattern, of_row):
    """Mean over rows but the first of ``of_row(weights of the visible keys)`` [layer, head]."""
    layers, heads, length = pattern.shape[:3]
    found = np.zeros((layers, heads))
    for layer, head in np.ndindex(layers, heads):
        found[layer, head] = np.mean([of_row(pattern[layer, head, i, : i + 1]) for i in range(1, length)])
    return found


def entropy(row):
    seen = row[row > 0]
    return -(seen * np.log(seen)).sum()


def mean_distance(row):
    return (row * (len(row) - 1 - np.arange(len(row)))).sum()


def spread(row):
    return np.sqrt((row * (len(row) - 1 - np.arange(len(row)) - mean_distance(row)) ** 2).sum())


def span(row, gamma=0.9):
    total = 0.0
    for taken in range(1, len(row) + 1):
        total += row[-taken]
        if total >= gamma - 1e-6:
            return taken
    return len(row)


def top(row, k=5):
    return np.sort(row)[::-1][:k].sum()


def grid_hops(pattern, side, hops):
    """Mean over patches of the weight on the patches k steps away, and on the class token: [layer, head, hops + 3]."""
    places = [(row, column) for row in range(side) for column in range(side)]
    found = np.zeros((*pattern.shape[:2], hops + 3))
    for i, (row, column) in enumerate(places):
        for j, (other_row, other_column) in enumerate(places):
            k = max(abs(row - other_row), abs(column - other_column))
            found[..., min(k, hops + 1)] += pattern[:, :, 1 + i, 1 + j]
        found[..., hops + 2] += pattern[:, :, 1 + i, 0]
    return found / len(places)


def grid_distance(pattern, side):
    """Mean over patches of the mean distance to other patches, their weights made to sum to one."""
    places = np.array([(row, column) for row in range(side) for column in range(side)], dtype=float)
    away = np.sqrt(((places[:, None] - places[None]) ** 2).sum(-1))
    inside = pattern[:, :, 1:, 1:]
    return ((inside * away).sum(-1) / inside.sum(-1)).mean(-1)


def layer_cosines(pattern):
    """[layer, head, layer] cosines of the flattened maps of heads of one index."""
    flat = pattern.reshape(*pattern.shape[:2], -1)
    flat = flat / np.linalg.norm(flat, axis=-1, keepdims=True)
    return np.einsum("lhx,mhx->lhm", flat, flat)


def block_recall(pattern, size, keep):
    """Share of each block row's attention in its blocks of largest weight, mean over block rows that have a choice."""
    length = pattern.shape[-1]
    edges = list(range(0, length, size))
    found = []
    for a in edges[1:]:
        cut = [pattern[:, :, a : a + size, b : b + size] for b in edges if b <= a]
        largest = np.stack([x.max((-1, -2)) for x in cut], axis=-1)
        sums = np.stack([x.sum((-1, -2)) for x in cut], axis=-1)
        kept = int(np.ceil(keep * len(cut) - 1e-9)) or 1
        best = np.argsort(-largest, axis=-1, kind="stable")[..., :kept]
        found.append(np.take_along_axis(sums, best, -1).sum(-1) / sums.sum(-1))
    return np.mean(found, axis=0)
