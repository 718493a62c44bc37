"""Patterns made by hand, read by the folds of measures in blocks of rows, as a network's would be."""

import numpy as np
import torch

from interp.engine.streaming import Block
from interp.models.backend import Stack
from interp.models.sites import Site


def stack_of(heads=1, causal=True, attention="self", layers=1):
    return Stack(attention, layers, heads, heads, 4, 4, 8, causal=causal)


def folded(fold, pattern, ids=None, *, rows=None, causal=True, layer=0, key_ids=None, attention="self"):
    """What ``fold`` keeps of one prompt's ``pattern`` [head, row, key], as numpy, read ``rows`` rows at a time."""
    pattern = torch.as_tensor(np.asarray(pattern, dtype=np.float32))[None]
    heads, length, keys = pattern.shape[1:]
    ids = torch.arange(length)[None] if ids is None else torch.tensor([ids])
    key_ids = ids if key_ids is None else torch.tensor([key_ids])
    stack, kept = stack_of(heads, causal, attention), None
    for first in range(0, length, rows or length):
        part = pattern[:, :, first : first + (rows or length)]
        part = part[..., : first + part.shape[2]] if causal else part
        block = Block(part, first, length, keys, Site(fold.what, layer, attention), stack, torch.tensor([0]), ids, key_ids)
        kept = fold.fold(kept, block)
    return (kept if fold.finish is None else fold.finish(kept))[0].numpy()


def rows_of(*targets, length=None):
    """A pattern [1, row, key] whose row i looks at ``targets[i]``: a key, or key -> weight."""
    length = length or len(targets)
    pattern = np.zeros((1, len(targets), length))
    for i, target in enumerate(targets):
        for key, weight in (target if isinstance(target, dict) else {target: 1.0}).items():
            pattern[0, i, key] = weight
    return pattern


def uniform(length, heads=1):
    """Causal attention spread evenly over all visible keys [head, row, key]."""
    return np.tile(np.tril(np.ones((length, length))) / np.arange(1, length + 1)[:, None], (heads, 1, 1))


def random_patterns(heads, length, seed=0, causal=True):
    """Random rows that sum to one [head, row, key]."""
    weights = np.random.default_rng(seed).gamma(0.5, size=(heads, length, length)) + 1e-6
    weights = np.tril(weights) if causal else weights
    return weights / weights.sum(-1, keepdims=True)
