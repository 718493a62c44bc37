"""Which interventions change which prompts, and from which position on: read off the untouched run, before anything is run.

What changes nothing (up to rounding, as everywhere in the engine) costs nothing. Interventions that differ in nothing but
their heads share one look at the activations.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.engine.edits import applied, rounding, scores_of, unmasked
from interp.engine.ground import Ground, given
from interp.engine.intervention import Intervention, Mean, Resample
from interp.models.sites import SQUARE

SPREADING = ("resid_pre", "k_pre", "k", "v")
"""A change here reaches every later position within its own layer; a change of any other site stays at its position."""


@dataclass(frozen=True)
class Effect:
    """What one intervention changes in the untouched run, per prompt.

    Attributes:
        acts: whether it changes anything, bool [n].
        at: at which positions (queries, for scores and patterns), bool [n, position].
    """

    acts: np.ndarray
    at: np.ndarray


@dataclass(frozen=True)
class Table:
    """What lists of interventions change, [list, prompt].

    Attributes:
        acted: whether anything in the list changes something.
        layer: the layer from which on something is to be computed; -1 where nothing reaches the answer.
        first, stop: the positions of the residual stream behind that layer that are changed lie in [first, stop);
            ``first`` is also the first position that anything in the list changes in any layer.
    """

    acted: np.ndarray
    layer: np.ndarray
    first: np.ndarray
    stop: np.ndarray


@dataclass(frozen=True)
class _Look:
    """How far each head moves: largest change [n, position, head], and largest selected entry [n, head]."""

    moved: np.ndarray
    size: np.ndarray
    dtype: torch.dtype


class Effects:
    """The effects of interventions on a ground, each looked at once."""

    def __init__(self, ground: Ground):
        self.ground = ground
        self._looks: dict[tuple, _Look] = {}
        self._found: dict[int, Effect] = {}

    def of(self, item: Intervention) -> Effect:
        """What the intervention changes."""
        if id(item) not in self._found:
            self._found[id(item)] = self._effect(item)
        return self._found[id(item)]

    def _effect(self, item: Intervention) -> Effect:
        key = look_key(item)
        if key not in self._looks:
            self._looks[key] = _look(self.ground, item)
        look = self._looks[key]
        heads = slice(None) if item.heads is None or item.site.head_axis is None else list(item.heads)
        size = look.size[:, heads].max(axis=1)
        at = ~(look.moved[:, :, heads].max(axis=2) <= rounding(look.dtype) * size[:, None])
        return Effect(at.any(axis=1), at)


def look_key(item: Intervention) -> tuple:
    """Equal for interventions that differ in nothing but their heads, where these do not matter for the value."""
    value: Any = item.value
    if given(item) is not None:
        return (id(item),)
    if isinstance(value, Resample):
        value = ("resample", value.source, value.shuffle)
    elif isinstance(value, Mean):
        value = ("mean", value.reference if isinstance(value.reference, str) else id(value.reference), value.mode, value.on)
    elif not hasattr(value, "__eq__") or type(value).__eq__ is object.__eq__:
        value = id(value)
    return item.site, item.positions, item.keys, value


def _look(ground: Ground, item: Intervention) -> _Look:
    captured, source = ground.recording.captured, ground.source(item)
    item = item if given(item) is not None else replace(item, heads=None)
    x = captured[item.site]
    scores = captured.get(scores_of(item))
    after, entries = applied(x, ground.prompts, item, source, None if scores is None else unmasked(scores))
    moved = torch.where(entries, (after - x).abs(), 0)
    size = torch.where(entries, torch.maximum(after.abs(), x.abs()), 0)
    if item.what in SQUARE:
        moved, size = moved.amax(3).transpose(1, 2), size.amax((2, 3))
    elif item.site.head_axis is None:
        moved, size = moved.amax(2, keepdim=True), size.amax((1, 2))[:, None]
    else:
        moved, size = moved.amax(3), size.amax((1, 3))
    return _Look(_numbers(moved), _numbers(size), x.dtype)


def _numbers(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().cpu().numpy()


def table(effects: Effects, lists: Sequence[Sequence[Intervention]], *, n_layers: int, causal: bool,
          latent: bool, answer: np.ndarray | None) -> Table:
    """What the lists change, for the prompts of a ground.

    Args:
        causal: whether a change leaves earlier positions as they are.
        latent: whether the keys and values of a layer are made anew from latents of all positions, so that their edit
            takes the whole prompt.
        answer: the position at which each prompt's answer is read [n]; None where all positions are read.
    """
    n, length = effects.ground.n, effects.ground.length
    result = Table(np.zeros((len(lists), n), dtype=bool), np.full((len(lists), n), -1), np.zeros((len(lists), n), dtype=int),
                   np.full((len(lists), n), length))
    read = np.full(n, length - 1) if answer is None else answer
    for i, entry in enumerate(lists):
        reached = np.zeros(n, dtype=bool)       # whether a change of the last layer stands where the answer is read
        for item in sorted(entry, key=lambda item: item.layer):
            effect = effects.of(item)
            here = effect.acts & ((result.layer[i] < 0) | (result.layer[i] == item.layer))
            begin, end = effect.at.argmax(axis=1), length - effect.at[:, ::-1].argmax(axis=1)
            spreads = item.what in SPREADING
            stop = np.full(n, length) if spreads else end
            result.stop[i] = np.where(here & (result.layer[i] == item.layer), np.maximum(result.stop[i], stop),
                                      np.where(here, stop, result.stop[i]))
            result.first[i] = np.where(effect.acts & result.acted[i], np.minimum(result.first[i], begin),
                                       np.where(effect.acts, begin, result.first[i]))
            result.layer[i] = np.where(here, item.layer, result.layer[i])
            result.acted[i] |= effect.acts
            reached |= effect.acts & (effect.at[np.arange(n), read] if not spreads and causal else True)
        if latent and any(item.what in ("k", "v") for item in entry):
            result.first[i], result.stop[i] = np.where(result.acted[i], 0, result.first[i]), length
        if not causal:
            result.first[i], result.stop[i] = 0, length
        elif answer is not None:
            unread = (result.first[i] > answer) | ((result.layer[i] == n_layers - 1) & ~reached)
            result.layer[i] = np.where(unread, -1, result.layer[i])
    return result
