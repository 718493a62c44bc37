"""What many circuits share: a matrix of pairs, intersections (UpSet), the union graph, shared and task-only heads."""

from collections import Counter
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from interp.core.circuit import Circuit, Node
from interp.core.errors import InterpError
from interp.core.hypotheses import holm
from interp.core.overlap import overlap
from interp.core.universe import Universe


def pairs(circuits: Mapping[str, Circuit], among: Universe) -> pd.DataFrame:
    """Every two circuits, a row each: sizes, shared, Jaccard, chance, and p by chance matched by layer.

    ``chance`` and ``matched``: mean Jaccard of random circuits of these sizes, and with as many in each layer. ``p`` is of
    matched chance, ``p_holm`` the same corrected for the number of pairs (Holm).
    """
    _named(circuits)
    rows = []
    for a, b in combinations(circuits, 2):
        found = overlap(circuits[a], circuits[b], among)
        rows.append({"a": a, "b": b, "size_a": found.sizes[0], "size_b": found.sizes[1], "shared": len(found.shared),
                     "jaccard": found.jaccard, "of_smaller": found.smaller, "chance": found.chance.jaccard,
                     "matched": found.matched.jaccard, "p": found.matched.p})
    frame = pd.DataFrame(rows)
    return frame.assign(p_holm=holm(frame["p"]))


def weighted_pairs(weights: Mapping[str, Mapping[Any, float]], among: Universe, *, n: int = 999, seed: int = 0
                   ) -> pd.DataFrame:
    """Every two circuits by the weights of their items (scores; only their size counts), a row each.

    ``weighted``: the weighted Jaccard (``weighted_jaccard``). ``matched``: its mean when the second circuit's weights are
    exchanged at random within strata (layers), ``n`` times with this seed. ``p``: (1 + draws that reach it) / (1 + n),
    ``p_holm`` the same corrected for the number of pairs. NaN where a circuit has no weight.
    """
    _named(weights)
    items = list(among.strata)
    if missing := {item for some in weights.values() for item in some} - set(items):
        raise InterpError("compare the weights of circuits", f"there is no {min(map(str, missing))}", "check the shape")
    scaled = {name: np.abs([some.get(item, 0.0) for item in items]) for name, some in weights.items()}
    scaled = {name: values / values.sum() if values.any() else values * np.nan for name, values in scaled.items()}
    _, kinds = np.unique([str(kind) for kind in among.strata.values()], return_inverse=True)
    draws = np.random.default_rng(seed).random((n, len(items))) + kinds
    moved = np.empty(draws.shape, dtype=np.int32)      # what stands at each item after the exchange
    moved[:, np.argsort(kinds, kind="stable")] = np.argsort(draws, axis=1)
    rows = []
    for a, b in combinations(weights, 2):
        here = np.flatnonzero(scaled[a])
        both = [np.minimum(scaled[a][here], scaled[b][at]).sum(-1) for at in (here, moved[:, here])]
        found, chance = (shared / (2 - shared) for shared in both)
        p = (1 + int((chance >= found - 1e-12).sum())) / (1 + n) if np.isfinite(found) else np.nan
        rows.append({"a": a, "b": b, "weighted": float(found), "matched": float(chance.mean()), "p": p})
    frame = pd.DataFrame(rows)
    return frame.assign(p_holm=holm(frame["p"]))


def matrix(found: pd.DataFrame, column: str = "jaccard") -> pd.DataFrame:
    """One column of ``pairs`` as a symmetric table [circuit, circuit]; on the diagonal 1 of a Jaccard, else NaN."""
    names = list(dict.fromkeys([*found["a"], *found["b"]]))
    table = pd.DataFrame(np.nan, index=names, columns=names)
    for row in found.to_dict("records"):
        table.loc[row["a"], row["b"]] = table.loc[row["b"], row["a"]] = row[column]
    if column == "jaccard":
        for name in names:
            table.loc[name, name] = 1.0
    return table


def intersections(circuits: Mapping[str, Circuit], among: Universe) -> pd.DataFrame:
    """The UpSet table: for each combination of circuits the items that lie in all of these and in no other.

    Columns: ``circuits`` (names), ``degree`` (how many), ``count``, ``chance`` (how many there would be on average of
    independent random circuits with as many in each stratum), ``items``. Most shared first; combinations without items and
    with less than half an item by chance are left out.
    """
    _named(circuits)
    members = {name: among.members(circuit) for name, circuit in circuits.items()}
    found: dict[tuple[str, ...], list[Any]] = {}
    for item in among.strata:
        inside = tuple(name for name in circuits if item in members[name])
        if inside:
            found.setdefault(inside, []).append(item)
    sizes = Counter(among.strata.values())
    counts = [Counter(among.strata[item] for item in members[name]) for name in circuits]
    shares = np.array([[own[kind] / size for kind, size in sizes.items()] for own in counts])
    rows = []
    every = (some for degree in range(1, len(circuits) + 1) for some in combinations(circuits, degree))
    for some in every if len(circuits) <= 12 else found:
        chosen = np.array([[name in some] for name in circuits])
        expected = float(np.where(chosen, shares, 1 - shares).prod(0) @ list(sizes.values()))
        items = found.get(some, [])
        if items or expected >= 0.5:
            rows.append({"circuits": some, "degree": len(some), "count": len(items), "chance": expected,
                         "items": tuple(map(str, items))})
    frame = pd.DataFrame(rows, columns=["circuits", "degree", "count", "chance", "items"])
    return frame.sort_values(["degree", "count"], ascending=False, kind="stable", ignore_index=True)


def union(circuits: Mapping[str, Circuit], among: Universe) -> tuple[Circuit, pd.DataFrame]:
    """All circuits as one graph, and what of it belongs to which: a row per item, a bool column per circuit."""
    _named(circuits)
    members = {name: among.members(circuit) for name, circuit in circuits.items()}
    items = [item for item in among.strata if any(item in some for some in members.values())]
    table = pd.DataFrame({name: [item in some for item in items] for name, some in members.items()},
                         index=pd.Index([str(item) for item in items], name=among.unit.removesuffix("s")))
    made = Circuit(nodes=tuple(node for one in circuits.values() for node in one.nodes),
                   edges=tuple(edge for one in circuits.values() for edge in one.edges),
                   name="union of " + ", ".join(circuits), model=next(iter(circuits.values())).model,
                   provenance={"union of": list(circuits)})
    return made, table


def heads(circuits: Mapping[str, Circuit]) -> pd.DataFrame:
    """Every head that some circuit has: a row per head with the circuits it is in, their number, and its role in each.

    ``share``: of the circuits. Sorted by share: first what all have in common, last what one alone has.
    """
    _named(circuits)
    rows: dict[Node, dict[str, str]] = {}
    for name, circuit in circuits.items():
        for node in circuit.nodes:
            if node.kind == "head":
                rows.setdefault(Node.of(node.as_head()), {})[name] = circuit.roles.get(node, "")
    table = pd.DataFrame([{"head": str(node), "n": len(inside), "share": len(inside) / len(circuits),
                           "circuits": ", ".join(inside),
                           "roles": "; ".join(f"{name}: {role}" for name, role in inside.items() if role)}
                          for node, inside in rows.items()], columns=["head", "n", "share", "circuits", "roles"])
    order = {str(node): i for i, node in enumerate(sorted(rows, key=lambda node: (node.depth, node.head or 0)))}
    return table.sort_values(["n", "head"], key=lambda c: c.map(order) if c.name == "head" else -c, ignore_index=True)


def _named(circuits: Mapping[str, Any]) -> None:
    if len(circuits) < 2:
        raise InterpError(f"compare {len(circuits)} circuits", "that is none or one alone", "give two or more")
