"""Circuits whose drawing is known: a small one with scores, roles and a judgement, one with places, and many tasks."""

import numpy as np

from interp.core.circuit import Circuit, Edge, Node
from interp.core.universe import Shape

SHAPE = Shape(2, 3)
SCORES = {"embed->L0H1.v": 2.0, "L1H2->logits.out": 1.5, "L0H1->L1H2.k": 1.0, "L0H1->L1H2.q": -0.5, "embed->mlp0.mlp": 0.25}
EDGES = (*SCORES, "mlp0->logits.out")
HOSTILE = "<img src=x onerror=window.hacked=1></script>"


def small(**changes) -> Circuit:
    """Five edges with scores (one below zero) and one without, two roles of which one is hostile, judged by its file."""
    told = {"shape": SHAPE.record(), "scores": SCORES, "method": "mask_ig", "metric": "logit_diff",
            "task": {"name": "copying", "n": 8}, "judged_on": {"name": "copying"},
            "judged": {"faithfulness": 0.9, "low": 0.8, "high": 0.95, "n": 16, "ablation": "resample",
                       "metric": "logit_diff"}}
    given = {"edges": tuple(map(Edge.parse, EDGES)), "name": "small", "model": "toy", "task": "copying",
             "roles": {Node.parse("L1H2"): "name mover", Node.parse("L0H1"): HOSTILE}, "provenance": told}
    return Circuit(**{**given, **changes})


def large(layers: int = 12, heads: int = 12, edges: int = 2000, seed: int = 0) -> Circuit:
    """Random edges with random scores among all nodes of a shape."""
    random = np.random.default_rng(seed)
    every = list(Shape(layers, heads).edges())
    chosen = [every[i] for i in random.choice(len(every), edges, replace=False)]
    scores = {str(edge): float(value) for edge, value in zip(chosen, random.standard_t(2, edges), strict=True)}
    return Circuit(edges=tuple(chosen), name="large", provenance={"shape": Shape(layers, heads).record(), "scores": scores})


def several(count: int = 3) -> dict[str, Circuit]:
    """Circuits of a shape that share L0H1 -> L1H2, each with an edge and a head (L1H0, L1H1, ...) of its own."""
    shape = Shape(3, 12)
    found = {}
    for i in range(count):
        edges = ["embed->L0H1.v", "L0H1->L1H2.k", "L1H2->logits.out", f"embed->L2H{i}.v", f"L2H{i}->logits.out"]
        scores = dict.fromkeys(edges, 1.0 + i)
        found[f"task_{i}"] = Circuit(edges=tuple(map(Edge.parse, edges)), name=f"task_{i}", task=f"task_{i}",
                                     provenance={"shape": shape.record(), "scores": scores})
    return found
