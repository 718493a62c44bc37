"""Models whose weights are written by hand, with their circuits known: ``HANDMADE["handmade-induction"]()``.

Each entry is a function without required options that returns a ``HandMade``; ``induction(beta=5)`` and the like change
what can be changed. They are the truth that measures are tested on.
"""

from collections.abc import Callable

from interp.core.registry import Registry
from interp.models.handmade.conflict import conflict
from interp.models.handmade.gates import GATE_MODELS, gate
from interp.models.handmade.handmade import KINDS, HandMade, TokenPair
from interp.models.handmade.induction import induction
from interp.models.handmade.ioi import ioi
from interp.models.handmade.recall import recall
from interp.models.handmade.retrieval import retrieval
from interp.models.handmade.sink import sink

HANDMADE: Registry[Callable[[], HandMade]] = Registry("hand-made model")
for _name, _build in {"handmade-induction": induction, "handmade-ioi": ioi, "handmade-retrieval": retrieval,
                      "handmade-sink": sink, "handmade-recall": recall, "handmade-conflict": conflict,
                      **GATE_MODELS}.items():
    HANDMADE.add(_name, _build)

__all__ = ["HANDMADE", "KINDS", "HandMade", "TokenPair", "conflict", "gate", "induction", "ioi", "recall", "retrieval",
           "sink"]
