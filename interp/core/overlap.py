"""What two circuits share, beside what chance gives: Jaccard of heads, nodes or edges, weighted and by rank, per role.

Of two random sets of a and b out of n the number shared is hypergeometric, ab / n on average, so that large circuits share
much by size alone. Circuits also tend to sit in the same layers: *matched* chance draws as many items from each stratum
(layer of a head, layers and kinds of an edge's ends) as either circuit has there; its distribution is the convolution of the
strata's. Both are exact. Statistics of weights and ranks have a permutation p, over items or within strata.

Sources: Merullo et al. 2024 (overlap of circuits of two tasks); Li and Subramani 2026 (arXiv 2605.08348) on chance; Fagin et
al. 2003 (average overlap of top lists); Ružička's weighted Jaccard.
"""

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import gammaln

from interp.core.circuit import Circuit, Node
from interp.core.errors import InterpError
from interp.core.intervals import Floats, check_confidence, resamples
from interp.core.universe import Shape, Universe, universe

MATCHES = ("none", "layer")


@dataclass(frozen=True)
class Chance:
    """What two random sets share.

    Attributes:
        shared: on average. jaccard: on average, of shared / union. p: probability of sharing at least what was observed.
    """

    shared: float
    jaccard: float
    p: float


@dataclass(frozen=True)
class SetOverlap:
    """What two circuits share.

    Attributes:
        unit: heads, nodes or edges; ``n`` of them there are.
        sizes: how many either circuit has. shared: those in both. only: those of the first alone, of the second alone.
        chance: of two sets of these sizes. matched: with as many in each stratum as they have there.
    """

    unit: str
    n: int
    sizes: tuple[int, int]
    shared: tuple[Any, ...]
    only: tuple[tuple[Any, ...], tuple[Any, ...]]
    chance: Chance
    matched: Chance

    @property
    def jaccard(self) -> float:
        """shared / union, 0 to 1; 1 of two empty sets."""
        return _jaccard(len(self.shared), *self.sizes)

    @property
    def smaller(self) -> float:
        """shared / size of the smaller circuit (overlap coefficient): 1 where one holds the other."""
        return len(self.shared) / min(self.sizes) if min(self.sizes) else float("nan")

    def __str__(self) -> str:
        return (f"{len(self.shared)} {self.unit} of {self.sizes[0]} and {self.sizes[1]} shared (of {self.n}): Jaccard "
                f"{self.jaccard:.2f}; by chance {self.chance.jaccard:.2f} (p = {self.chance.p:.2g}), matched by layer "
                f"{self.matched.jaccard:.2f} (p = {self.matched.p:.2g})")


def overlap(a: Circuit, b: Circuit, among: Universe) -> SetOverlap:
    """What two circuits of one model share of the heads, nodes or edges that there are (``interp.core.universe``)."""
    return overlap_of(among.members(a), among.members(b), among.strata, unit=among.unit)


def overlap_of(a: Collection[Any], b: Collection[Any], strata: Mapping[Any, Hashable], *, unit: str = "items") -> SetOverlap:
    """What two sets share of the items that ``strata`` maps to what they are matched by."""
    one, other = set(a), set(b)
    if missing := (one | other) - set(strata):
        raise InterpError(f"compare two sets of {unit}", f"there is no {min(map(str, missing))} to choose from",
                          "check the shape")
    kinds = sorted(set(map(str, strata.values())))
    counts = [Counter(str(strata[item]) for item in chosen) for chosen in (strata, one, other)]
    sizes = (len(one), len(other))
    shared = len(one & other)
    whole = _shared_by_chance([(len(strata), *sizes)])
    layered = _shared_by_chance([(counts[0][kind], counts[1][kind], counts[2][kind]) for kind in kinds])
    return SetOverlap(unit, len(strata), sizes, _sorted(one & other), (_sorted(one - other), _sorted(other - one)),
                      _chance(whole, shared, sizes), _chance(layered, shared, sizes))


def by_role(a: Circuit, b: Circuit, shape: Shape) -> pd.DataFrame:
    """The overlap of each role's heads: a row per role that either circuit has, with sizes, shared, Jaccard and chance.

    ``elsewhere``: heads of the first circuit's role that the other has, in another role or in none.
    """
    rows, every = [], universe(shape, "heads")
    for role in sorted({*a.roles.values(), *b.roles.values()}):
        one, other = (_of_role(circuit, role) for circuit in (a, b))
        found = overlap_of(one, other, every.strata, unit="heads")
        away = (one - other) & every.members(b)
        rows.append({"role": role, "a": len(one), "b": len(other), "shared": len(found.shared), "jaccard": found.jaccard,
                     "chance": found.chance.jaccard, "p": found.chance.p, "heads": ", ".join(map(str, found.shared)),
                     "elsewhere": ", ".join(map(str, _sorted(away)))})
    return pd.DataFrame(rows, columns=["role", "a", "b", "shared", "jaccard", "chance", "p", "heads", "elsewhere"])


def weighted_jaccard(a: ArrayLike, b: ArrayLike) -> float:
    """Σ min(u, v) / Σ max(u, v) of two sets of scores [item] by size, each scaled to sum 1: what share of their weight two
    circuits put in the same place. 1 = the same up to scale, 0 = nowhere the same."""
    u, v = (np.abs(_known(x)) for x in (a, b))
    if u.shape != v.shape or not u.any() or not v.any():
        raise InterpError("compare the weights of two circuits", "they are not two scores of the same items, some above 0",
                          "give [item] for both")
    u, v = u / u.sum(), v / v.sum()
    return float(np.minimum(u, v).sum() / np.maximum(u, v).sum())


def average_overlap(a: ArrayLike, b: ArrayLike, depth: int | None = None) -> float:
    """Mean over d = 1 … ``depth`` of the share of the top d (by size) that two scores [item] have in common: agreement at
    the very top counts most. By chance (depth + 1) / (2 · items). Ties go to the earlier item."""
    u, v = (np.abs(_known(x)) for x in (a, b))
    depth = len(u) if depth is None else depth
    if u.shape != v.shape or not 1 <= depth <= len(u):
        raise InterpError(f"compare the top {depth} of {len(u)} and {len(v)}", "they are not that many of the same items",
                          "give [item] for both, and a depth of 1 to their number")
    place = [np.argsort(np.argsort(-x, kind="stable"), kind="stable") for x in (u, v)]
    enters = np.maximum(*place)      # the depth (from 0) at which both have the item
    shared = np.cumsum(np.bincount(enters, minlength=len(u)))[:depth]
    return float((shared / np.arange(1, depth + 1)).mean())


def top_jaccard(a: ArrayLike, b: ArrayLike, k: tuple[int, int]) -> float:
    """Jaccard of the ``k[0]`` best of one and the ``k[1]`` best of the other, by size."""
    tops = [set(np.argsort(-np.abs(_known(x)), kind="stable")[:size].tolist()) for x, size in zip((a, b), k, strict=True)]
    return _jaccard(len(tops[0] & tops[1]), *k)


def permutation_p(statistic: Callable[[Any, Any], float], a: ArrayLike, b: ArrayLike, *,
                  strata: Collection[Any] | None = None, n: int = 999, seed: int = 0) -> float:
    """Probability that a statistic of two scores [item] is as large when the second's items are exchanged at random.

    (1 + how many of ``n`` draws reach the observed) / (1 + n). ``strata`` [item]: exchanged within these alone (matched).
    """
    u, v = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    groups = [np.arange(len(v))] if strata is None else _groups(strata)
    random, observed, reached = np.random.default_rng(seed), statistic(u, v), 0
    for _ in range(n):
        order = np.arange(len(v))
        for group in groups:
            order[group] = random.permutation(group)
        reached += statistic(u, v[order]) >= observed - 1e-12
    return (1 + reached) / (1 + n)


def bootstrap_overlap(statistic: Callable[[Any, Any], float], a: ArrayLike, b: ArrayLike, *, paired: bool = False,
                      confidence: float = 0.95, n_boot: int = 500, seed: int = 0) -> tuple[float, float, float]:
    """A statistic of two circuits' mean scores, with its interval over prompts: (value, low, high), clipped to 0 and 1.

    Args:
        a, b: scores [item, prompt]; of different prompts, unless ``paired``.

    The interval is the "basic" one, reflected at the value: resampled means are noisier than the means, so that resampled
    circuits share less than the observed ones, and a percentile interval would lie too low.
    """
    check_confidence(confidence)
    values = [np.asarray(x, dtype=np.float64).T for x in (a, b)]
    value = statistic(*(x.mean(0) for x in values))
    if min(len(x) for x in values) < 2:
        return value, float("nan"), float("nan")
    draws = [resamples(len(x), n_boot, seed if paired else seed + i) @ x / len(x) for i, x in enumerate(values)]
    boot = [statistic(u, v) for u, v in zip(*draws, strict=True)]
    high, low = 2 * value - np.quantile(boot, [(1 - confidence) / 2, (1 + confidence) / 2])
    return value, float(np.clip(low, 0, 1)), float(np.clip(high, 0, 1))


def _shared_by_chance(parts: Collection[tuple[int, int, int]]) -> Floats:
    """Distribution of the number shared: probabilities [0 … max], of sets of (n, a, b) in independent strata."""
    found = np.ones(1)
    for n, a, b in parts:
        if a and b:
            found = np.convolve(found, _hypergeometric(n, a, b))
    return found


def _hypergeometric(n: int, a: int, b: int) -> Floats:
    """Probabilities of sharing 0 … min(a, b) for random sets of a and b out of n."""
    s = np.arange(min(a, b) + 1)
    there = b - s <= n - a
    s = s[there]
    logs = _log_choose(a, s) + _log_choose(n - a, b - s) - _log_choose(n, b)
    found = np.zeros(len(there))
    found[there] = np.exp(logs)
    shares: Floats = found / found.sum()
    return shares


def _log_choose(n: int, k: ArrayLike) -> Floats:
    of = np.asarray(k, dtype=np.float64)
    return np.asarray(gammaln(n + 1) - gammaln(of + 1) - gammaln(n - of + 1))


def _chance(chance: Floats, shared: int, sizes: tuple[int, int]) -> Chance:
    numbers = np.arange(len(chance))
    mean = float((chance * [_jaccard(int(s), *sizes) for s in numbers]).sum())
    return Chance(float((chance * numbers).sum()), mean, float(min(1.0, chance[shared:].sum())))


def _jaccard(shared: int, a: int, b: int) -> float:
    return shared / (a + b - shared) if a + b - shared else 1.0


def _of_role(circuit: Circuit, role: str) -> frozenset[Node]:
    return frozenset(Node.of(head) for head in circuit.heads(role))


def _groups(strata: Collection[Any]) -> list[np.ndarray]:
    kinds = np.array([str(kind) for kind in strata])
    return [np.flatnonzero(kinds == kind) for kind in np.unique(kinds)]


def _known(values: ArrayLike) -> Floats:
    """Scores, 0 where there is none."""
    return np.nan_to_num(np.asarray(values, dtype=np.float64))


def _sorted(items: Collection[Any]) -> tuple[Any, ...]:
    return tuple(sorted(items, key=_key))


def _key(item: Any) -> tuple[Any, ...]:
    if isinstance(item, Node):
        return item.depth, item.head if item.head is not None else -1, str(item)
    if hasattr(item, "source"):
        return *_key(item.source), *_key(item.target), str(item.input)
    return (str(item),)
