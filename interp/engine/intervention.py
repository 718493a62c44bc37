"""``Intervention``: what is changed in a forward pass, where, and to which value. Frozen data that prints as a sentence.

``str(Intervention("z", 9, 9, "S2", Zero()))`` is ``zero z of L9H9 at S2``. Nothing here runs a model.
"""

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from interp.core.errors import InterpError
from interp.core.head import Head
from interp.core.registry import unknown
from interp.models.sites import PER_KV_HEAD, SQUARE, Site

Positions = None | str | int | Iterable[str | int]
SIDES = ("clean", "corrupt")


@dataclass(frozen=True)
class Zero:
    """Zero: the activation becomes 0 (zero ablation). On a pattern the rows then sum to less than one; on scores, 0 is no
    ablation but an ordinary score."""

    def phrase(self, where: str) -> str:
        return f"zero {where}"


@dataclass(frozen=True, eq=False)
class Mean:
    """Mean: the activation becomes its mean over a reference set (mean ablation).

    * ``reference``: ``"clean"`` or ``"corrupt"`` (the prompts of the batch at hand); another ``Batch``, of which the side
      ``on`` is meant; or ``Tokens``.
    * ``mode="position"``: the k-th selected token gets the mean over the k-th selected tokens of the reference prompts
      (with ``positions=None`` the k-th real token, with a named span the k-th token of that span) that have one.
    * ``mode="token"``: one vector, the mean over all real tokens of all reference prompts.

    Padding is never counted. The mean of a pattern is by position only; a key that a reference prompt does not have counts
    as weight 0 in it. Scores have no mean. No intervention is active in the reference run.
    """

    reference: Any = "clean"
    mode: str = "position"
    on: str = "clean"

    def __post_init__(self) -> None:
        if self.mode not in ("position", "token"):
            raise unknown("mode of a mean", str(self.mode), ["position", "token"])
        if self.on not in SIDES:
            raise unknown("side of a batch", str(self.on), list(SIDES))
        if isinstance(self.reference, str) and self.reference not in SIDES:
            raise unknown("reference set", self.reference, list(SIDES))

    def phrase(self, where: str) -> str:
        over = self.reference if isinstance(self.reference, str) else f"another batch ({self.on})"
        return f"set {where} to its mean over {over} by {self.mode}"


@dataclass(frozen=True, eq=False)
class Resample:
    """Resample: the activation is taken from another run (patching, resample ablation).

    * ``source``: ``"clean"`` or ``"corrupt"``, the untouched run of that side of the batch, or a tensor in the site's layout
      over the whole batch ([n, position, ...], [n, head, query, key]).
    * ``shuffle``: with a seed, prompt i takes it not from its own counterpart but from that of another prompt. The partners
      form one random cycle among prompts with equally many selected tokens (of equal length, for scores and patterns).

    The k-th selected token takes from the k-th selected token of the source; their number must agree in each prompt.
    """

    source: Any = "corrupt"
    shuffle: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.source, str):
            if self.source not in SIDES:
                raise unknown("source of a resampling", self.source, list(SIDES))
        elif not isinstance(self.source, Tensor):
            raise InterpError(f"resample from a {type(self.source).__name__}", "a source is a side of the batch or a tensor",
                              "use 'clean', 'corrupt' or a tensor in the site's layout")
        elif self.shuffle is not None:
            raise InterpError("shuffle a given tensor", "shuffling picks partners among runs of the batch",
                              "index the tensor yourself or give 'clean' or 'corrupt'")

    def phrase(self, where: str) -> str:
        source = self.source if isinstance(self.source, str) else _shape(self.source)
        return f"take {where} from {source}" + ("" if self.shuffle is None else f" of another prompt (seed {self.shuffle})")


@dataclass(frozen=True)
class Uniform:
    """Uniform: each selected row of the pattern becomes uniform over the keys that its query can see.

    Causality, sliding windows and padding are respected: what is visible is read from the masked scores of the same pass.
    Rows sum to one: a learned sink gets nothing.
    """

    def phrase(self, where: str) -> str:
        return f"make {where} uniform over visible keys"


@dataclass(frozen=True)
class AttendToFirst:
    """AttendToFirst: each selected row of the pattern puts weight 1 on the first key that its query can see: the prompt's
    first token, or the first in its sliding window."""

    def phrase(self, where: str) -> str:
        return f"point {where} at the first visible key"


@dataclass(frozen=True)
class Scale:
    """Scale: the activation is multiplied by ``factor``. Rows of a pattern are not renormalised."""

    factor: float

    def phrase(self, where: str) -> str:
        return f"scale {where} by {self.factor:g}"


@dataclass(frozen=True, eq=False)
class Add:
    """Add: a vector is added to the activation.

    A number; or a tensor [d] (every selected head and token); [heads, d] (one row per selected head); or in the site's
    layout over the whole batch, [n, position, heads, d], [n, position, d_model] or [n, heads, query, key], where ``heads``
    counts the selected heads or all of them.
    """

    vector: Tensor | float

    def phrase(self, where: str) -> str:
        return f"add {_shape(self.vector)} to {where}"


@dataclass(frozen=True, eq=False)
class Replace:
    """Replace: the activation becomes the given tensor, in one of the shapes of ``Add``."""

    tensor: Tensor | float

    def phrase(self, where: str) -> str:
        return f"replace {where} by {_shape(self.tensor)}"


@dataclass(frozen=True)
class RowEdit:
    """RowEdit: each selected row of the pattern gets the stated weights on the stated keys.

    * ``weights``: key -> weight, a key being a named span, ``"end"`` or a token index. The weight of a span of several
      tokens is shared equally among them; a token named twice gets the sum.
    * ``rest``: what becomes of the other keys: ``"zero"``; ``"keep"`` (untouched: the row's sum changes); ``"rescale"``
      (scaled so that the row keeps its sum; all zero where the other keys had no weight).

    A key that a selected query cannot see is refused.
    """

    weights: Mapping[str | int, float]
    rest: str = "zero"

    def __post_init__(self) -> None:
        if self.rest not in ("zero", "keep", "rescale"):
            raise unknown("way to treat the rest of a row", str(self.rest), ["zero", "keep", "rescale"])
        if not self.weights:
            raise InterpError("edit a row of a pattern", "no key was given", "say which keys get which weight")
        object.__setattr__(self, "weights", dict(self.weights))

    def __hash__(self) -> int:
        return hash((tuple(self.weights.items()), self.rest))

    def phrase(self, where: str) -> str:
        row = ", ".join(f"{weight:g} on {key}" for key, weight in self.weights.items())
        return f"set {where} to {row} ({'rest ' + self.rest})"


Value = Zero | Mean | Resample | Uniform | AttendToFirst | Scale | Add | Replace | RowEdit
ROW_VALUES = (Uniform, AttendToFirst, RowEdit)


@dataclass(frozen=True)
class Intervention:
    """One change to a forward pass: the activation ``what`` of a layer, at some heads and positions, gets a value.

    Attributes:
        what: a name of ``interp.models.sites``: ``z``, ``q``, ``k``, ``v``, ``scores``, ``pattern``, ``resid_pre``, ...
        layer: the layer, from 0.
        heads: a head, several, or None for all. ``k_pre``, ``k`` and ``v`` have key-value heads.
        positions: None for all real tokens; a named span of the batch, ``"end"`` (the last real token), a token index
            (counted over real tokens from the prompt's first, whatever the padding; negative from its last), or several of
            these. For scores and patterns they are the queries. A prompt too short for an index is left as it is.
        value: one of the values above.
        attention: ``self``, ``encoder``, ``cross`` or ``vision``.
        keys: for scores and patterns, which key columns are meant (as ``positions``); None for all.
        unit: what ``heads`` counts: None for what the site has; ``"head"`` or ``"kv_head"`` to have it checked.
    """

    what: str
    layer: int
    heads: tuple[int, ...] | None
    positions: str | tuple[str | int, ...] | None
    value: Value
    attention: str = "self"
    keys: str | tuple[str | int, ...] | None = None
    unit: str | None = None
    site: Site = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        def fix(name: str, new: object) -> None:
            object.__setattr__(self, name, new)

        fix("site", Site(self.what, self.layer, self.attention))
        fix("heads", _tuple(self.heads))
        fix("positions", self.positions if isinstance(self.positions, str) else _tuple(self.positions))
        fix("keys", self.keys if isinstance(self.keys, str) else _tuple(self.keys))
        self._check()

    def _check(self) -> None:
        asked = str(self)
        if not isinstance(self.value, Value):
            raise InterpError(f"set {self.site} to a {type(self.value).__name__}", "that is no value of an intervention",
                              "use Zero, Mean, Resample, Uniform, AttendToFirst, Scale, Add, Replace or RowEdit")
        if isinstance(self.value, ROW_VALUES) and self.what != "pattern":
            raise InterpError(asked, f"{type(self.value).__name__} describes rows of an attention pattern",
                              "use it on 'pattern'")
        if self.keys is not None and self.what not in SQUARE:
            raise InterpError(asked, f"{self.what} has no keys", "give keys for scores or pattern only")
        if self.keys is not None and isinstance(self.value, ROW_VALUES):
            raise InterpError(asked, f"{type(self.value).__name__} sets whole rows", "leave keys out, or use RowEdit")
        if isinstance(self.value, Mean) and self.value.mode == "token" and self.what in SQUARE:
            raise InterpError(asked, "rows of different tokens have different keys", "use the mean by position")
        if isinstance(self.value, Mean) and self.what == "scores":
            raise InterpError(asked, "scores of masked keys have no mean", "use the mean of the pattern")
        if self.heads is not None and self.site.head_axis is None:
            raise InterpError(asked, f"{self.what} has no heads", "leave heads out")
        for name, chosen in (("heads", self.heads), ("positions", self.positions), ("keys", self.keys)):
            if chosen == ():
                raise InterpError(asked, f"an empty tuple of {name} selects nothing", f"name some, or None for all {name}")
        if self.heads is not None and (min(self.heads) < 0 or len(set(self.heads)) < len(self.heads)):
            raise InterpError(asked, "heads count from 0, each named once", "name each head once")
        if self.unit not in (None, "head", "kv_head"):
            raise unknown("unit of heads", str(self.unit), ["head", "kv_head"])

    @classmethod
    def at(cls, head: Head | str, what: str, value: Value, positions: Positions = None,
           keys: Positions = None) -> "Intervention":
        """The intervention on one head, named as ``L9H9`` or ``Head(9, 9)``."""
        head = Head.parse(head)
        return cls(what, head.layer, (head.head,), positions, value, head.attention, keys)

    def __str__(self) -> str:
        where = f"{self.what} of {self._heads()} at {_said(self.positions, 'all tokens')}"
        if self.keys is not None:
            where += f" from key {_said(self.keys, '')}"
        return self.value.phrase(where) if isinstance(self.value, Value) else where

    def _heads(self) -> str:
        prefix = "" if self.attention == "self" else f"{self.attention} "
        if self.site.head_axis is None:
            return f"{prefix}layer {self.layer}"
        if self.heads is None:
            return f"every head of {prefix}layer {self.layer}"
        if self.what in PER_KV_HEAD:
            return f"{prefix}layer {self.layer} kv head " + ", ".join(map(str, self.heads))
        return ", ".join(str(Head(self.layer, h, self.attention)) for h in self.heads)


def _tuple(chosen: Any) -> tuple | None:
    if chosen is None:
        return None
    if isinstance(chosen, str) or not isinstance(chosen, Iterable):
        chosen = (chosen,)
    return tuple(c if isinstance(c, str) else operator.index(c) for c in chosen)


def _said(chosen: str | tuple | None, all_: str) -> str:
    if chosen is None:
        return all_
    if isinstance(chosen, str):
        return chosen
    return ", ".join(c if isinstance(c, str) else f"token {c}" for c in chosen)


def _shape(tensor: Tensor | float) -> str:
    return f"a tensor of shape {list(tensor.shape)}" if isinstance(tensor, Tensor) else f"{tensor:g}"
