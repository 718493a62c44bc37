"""From scores to a circuit: the best edges, cut to what is connected, or grown so that it is.

* ``top``: the n best edges, then loose ends off (``prune=False`` keeps them). Fewer than n edges remain, and an edge that
  hangs together with no other is lost however good it is.
* ``greedy``: from the output upwards: the best edge into any node reached so far, n times (EAP-IG's ``apply_greedy``), then
  loose ends off. Better edges that lie behind a weak one are not seen.
* ``connected``: the best edge that is not in the circuit yet, together with the fewest (then best) edges that join it to the
  embedding and to the output, as long as they fit into n. Nothing hangs loose at any size.

Signed and absolute scores give different circuits: ``by="size"`` keeps what works against the behaviour (a circuit that is
to do what the model does), ``by="value"`` drops it (a circuit that is to do the task better than the model does).
"""

from typing import Any

import numpy as np

from interp.core.circuit import Circuit
from interp.core.errors import InterpError
from interp.core.registry import unknown
from interp.discovery.graph import circuit_of, edge_slice, edges_among, prune
from interp.discovery.node_scores import NodeScores
from interp.engine.edges import Edges, EdgeScores

HOWS = ("top", "greedy", "connected")


def select(scores: EdgeScores | NodeScores, n: int, *, how: str = "top", by: str = "size", loose_ends: bool = False,
           places: bool = False, name: str = "", citation: str = "") -> Circuit:
    """The circuit of the ``n`` best edges (or nodes, of node scores) by mean over prompts; see ``choose``.

    Args:
        places: choose among the parts of edges at the places that were scored (``EdgeScores.places``), how="top" alone. Ends
            are loose if the edge is, whatever its places: which tokens attention connects the scores do not say.
    """
    chosen = {None: choose(scores, n, how=how, by=by, loose_ends=loose_ends)} if not places else _at_places(
        scores, n, how, by, loose_ends)
    found = scores.provenance
    picked = {"n": n, "how": how, "by": by, "loose_ends": loose_ends, "places": places}
    made: dict[str, Any] = {"method": found.measure, "options": dict(found.options), "select": picked,
                            "metric": found.metric, "model": dict(found.model), "task": dict(found.task),
                            "versions": dict(found.versions), "date": found.date}
    edges = (edge for place, mask in chosen.items() for edge in circuit_of(scores.edges, mask, position=place).edges)
    return Circuit(edges=tuple(edges), name=name, model=str(found.model.get("name", "")),
                   task=str(found.task.get("name", "")), citation=citation, provenance=made)


def _at_places(scores: EdgeScores | NodeScores, n: int, how: str, by: str, loose_ends: bool) -> dict[str | None, np.ndarray]:
    """The ``n`` best pairs of place and edge, as a mask of edges by place."""
    if isinstance(scores, NodeScores) or not scores.places:
        raise InterpError("select edges by place", "these scores have no places", "score with positions=...")
    if how != "top":
        raise InterpError(f"select edges by place and by {how!r}", "which tokens attention connects is not known",
                          "use how='top'")
    stacked = np.concatenate(list(scores.places.values()))
    chosen = _mask(len(stacked), best(_key(stacked.mean(1), n, by), n)).reshape(len(scores.places), -1)
    kept = chosen if loose_ends else chosen & prune(scores.edges, chosen.any(0))
    return dict(zip(scores.places, kept, strict=True))


def _key(mean: np.ndarray, n: int, by: str) -> np.ndarray:
    """What edges are ranked by; -inf where there is no score."""
    if by not in ("size", "value"):
        raise unknown("order of scores", str(by), ["size", "value"])
    if not 1 <= n <= len(mean):
        raise InterpError(f"select {n} of {len(mean)} edges or nodes", "that is none, or more than there are",
                          f"choose between 1 and {len(mean)}")
    return np.where(np.isfinite(mean), np.abs(mean) if by == "size" else mean, -np.inf)


def choose(scores: EdgeScores | NodeScores, n: int, *, how: str = "top", by: str = "size", loose_ends: bool = False
           ) -> np.ndarray:
    """At most ``n`` edges as a mask [edge] (see the module); of node scores all edges among the ``n`` best nodes, to which
    the embedding always belongs. Edges without a score are never chosen; ties go to the earlier edge.

    Raises:
        InterpError: an unknown way, fewer than one edge, or more than there are.
    """
    if how not in HOWS:
        raise unknown("way of selecting edges", str(how), list(HOWS))
    key = _key(scores.mean(), n, by)
    if isinstance(scores, NodeScores):
        if how != "top":
            raise InterpError(f"select nodes by {how!r}", "only edges lead from one to the next", "use how='top'")
        nodes = np.zeros(len(key), dtype=bool)
        nodes[best(key, n)] = True
        nodes[0] = True
        chosen = edges_among(scores.edges, nodes)
    elif how == "connected":
        return _connected(scores.edges, key, n)
    else:
        chosen = _greedy(scores.edges, key, n) if how == "greedy" else _mask(len(key), best(key, n))
    return chosen if loose_ends else prune(scores.edges, chosen)


def best(key: np.ndarray, n: int) -> np.ndarray:
    """Indices of the ``n`` largest, best first; -inf is never among them."""
    order = np.argsort(-key, kind="stable")[:n]
    return order[np.isfinite(key[order])]


def _mask(size: int, at: np.ndarray) -> np.ndarray:
    chosen = np.zeros(size, dtype=bool)
    chosen[at] = True
    return chosen


def _greedy(edges: Edges, key: np.ndarray, n: int) -> np.ndarray:
    reached = ~edges.feeds.any(1)      # receivers of nodes in the circuit: at first the output
    inside = np.zeros(len(edges.senders), dtype=bool)
    chosen = np.zeros(len(edges), dtype=bool)
    for _ in range(n):
        open_ = np.where(reached[edges.receiver] & ~chosen, key, -np.inf)
        i = int(open_.argmax())
        if not np.isfinite(open_[i]):
            break
        chosen[i] = True
        if not inside[edges.sender[i]]:
            inside[edges.sender[i]] = True
            reached |= edges.feeds[:, edges.sender[i]]
    return chosen


def _connected(edges: Edges, key: np.ndarray, n: int) -> np.ndarray:
    chosen = np.zeros(len(edges), dtype=bool)
    finite = np.isfinite(key)
    largest = max(float(np.abs(key[finite]).max()), 1e-300) if finite.any() else 1.0
    weak = np.where(finite, 1 + (1 - key / largest) / (2 * len(edges) + 2), np.inf)      # few edges first, then good ones
    ways = None
    for i in best(key, len(key)):
        if chosen.sum() == n:
            break
        if chosen[i]:
            continue
        ways = _ways(edges, chosen, weak) if ways is None else ways
        added = _joined(edges, chosen, int(i), ways)
        if added is not None and (added & ~chosen).sum() + chosen.sum() <= n:
            chosen |= added
            ways = None
    return chosen


def _ways(edges: Edges, chosen: np.ndarray, weak: np.ndarray) -> tuple[np.ndarray, ...]:
    """The cheapest way of each node from the embedding and to the output: its cost, and the edge it takes next."""
    price, count = np.where(chosen, 0.0, weak), len(edges.senders)
    up, up_edge = np.full(count, np.inf), np.full(count, -1)
    up[0] = 0
    for receiver in range(len(edges.receivers)):
        mine = edge_slice(edges, receiver)
        costs = price[mine] + up[:edges.before[receiver]]
        j = int(costs.argmin())
        better = edges.feeds[receiver] & (up > costs[j])
        up[better], up_edge[better] = costs[j], mine.start + j
    down, down_edge = np.full(count, np.inf), np.full(count, -1)
    for receiver in reversed(range(len(edges.receivers))):
        mine, fed = edge_slice(edges, receiver), edges.feeds[receiver]
        costs = price[mine] + (down[fed].min() if fed.any() else 0.0)
        before = np.arange(edges.before[receiver])
        better = before[costs < down[before]]
        down[better], down_edge[better] = costs[better], mine.start + better
    return up, up_edge, down, down_edge


def _joined(edges: Edges, chosen: np.ndarray, i: int, ways: tuple[np.ndarray, ...]) -> np.ndarray | None:
    """An edge with its cheapest way from the embedding and to the output; None where there is none."""
    up, up_edge, down, down_edge = ways
    found = _mask(len(edges), np.array([i]))
    sender, fed = int(edges.sender[i]), np.flatnonzero(edges.feeds[edges.receiver[i]])
    if not np.isfinite(up[sender]) or (len(fed) and not np.isfinite(down[fed]).any()):
        return None
    while sender > 0:
        found[up_edge[sender]] = True
        sender = int(edges.sender[up_edge[sender]])
    while len(fed):
        step = int(down_edge[fed[down[fed].argmin()]])
        found[step] = True
        fed = np.flatnonzero(edges.feeds[edges.receiver[step]])
    return found
