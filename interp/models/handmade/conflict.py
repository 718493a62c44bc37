"""A knowledge conflict: a memory head, a context head, and a head that is either, as the wording of the prompt has it."""

import math
import random

import torch

from interp.core.circuit import Circuit, Edge, Node
from interp.core.head import Head
from interp.models.handmade.handmade import BOS, HandMade, TokenPair
from interp.models.handmade.weights import HeadWeights, Residual, assemble

COUNTRIES, CAPITALS = ("A", "B", "C", "D", "E", "F", "G", "H"), tuple("abcdefgh")
VOCABULARY = (BOS, "?", ".", *COUNTRIES, *CAPITALS)
STATED = {"clean": 0, "substitution": 1, "coherent": 3}
"""How often each type of prompt states the wrong capital."""
CONTEXT = 8
BETA = 50.0
GAIN, RECALLED, COPIED, LEAN = 4.0, 2.0, 1.2, 0.5

MEMORY, CONTEXT_HEAD, TWO_FACED = Head(0, 0), Head(0, 1), Head(0, 2)


def leaning(prompt_type: str) -> tuple[float, float]:
    """What the two-faced head writes on the memory's and on the context's answer: its weight on the country, e^½ against 1
    for each time that the wrong capital is stated."""
    said, other = math.exp(LEAN), STATED[prompt_type]
    return said / (said + other), other / (said + other)


def conflict() -> HandMade:
    """Prompt ``<bos> . . . country ?`` with a wrong capital in place of no, one or three full stops -> the learnt capital.

    =====  ===========  ============================  =========================================================
    head   role         attends to                    writes onto the logits
    =====  ===========  ============================  =========================================================
    L0H0   memory       the country                   8 on its capital
    L0H1   context      stated capitals               4.8 on them (nothing where none is stated)
    L0H2   two-faced    country and stated capitals   4 times its weight on each: (1, 0) without a statement,
                                                      (0.62, 0.38) with one, (0.35, 0.65) with three
    L0H3   silent       as L0H0                       nothing
    =====  ===========  ============================  =========================================================

    Memory and context head are opposed in every conflict. The two-faced head pushes the memory's answer over the context's
    in the types ``clean`` and ``substitution`` and the other way in ``coherent``: found by one type of prompt alone it would
    be called a memory head. The answer of a pair is the learnt capital, the wrong one the stated capital (in ``clean``
    prompts one that is not stated); the corrupted prompt asks for another country. The names of the corruptions are the
    three types of prompts.
    """
    size, count = len(VOCABULARY), len(COUNTRIES)
    first = VOCABULARY.index("A")
    country, capital, fact = torch.zeros(1, size), torch.zeros(1, size), torch.zeros(size, size)
    country[0, first : first + count], capital[0, first + count :] = 1, 1
    fact[torch.arange(first + count, size), torch.arange(first, first + count)] = 1
    copy = torch.diag(capital[0])
    space = Residual(tok=size, pos=CONTEXT, one=1, out=size)

    def head(scores: torch.Tensor, moved: torch.Tensor) -> HeadWeights:
        return HeadWeights(space.read("one"), space.read("tok", scores), space.read("tok"), space.write("out", moved))

    memory = head(BETA * country, RECALLED * fact)
    both = head(BETA * (country + capital) + LEAN * country, fact + copy)
    layer = [memory, head(BETA * capital, COPIED * copy), both, memory.silent()]
    nodes = {"memory": Node.of(MEMORY), "context": Node.of(CONTEXT_HEAD), "two-faced": Node.of(TWO_FACED)}
    edges = [Edge(Node("embed"), node, read) for node in nodes.values() for read in "kv"]
    edges += [Edge(node, Node("logits"), "out") for node in nodes.values()]
    know, all_three = frozenset({MEMORY, TWO_FACED}), frozenset({MEMORY, TWO_FACED, CONTEXT_HEAD})
    truths = {(name, kind): know for name in STATED for kind in ("noising", "denoising")}
    truths |= {(name, "zero"): all_three if times else know for name, times in STATED.items()}
    return HandMade(
        name="handmade-conflict",
        description="a learnt fact against one that the context states: a memory head, a context head, one that is either",
        vocabulary=VOCABULARY,
        model=assemble(space, [layer], GAIN * space.read("out")),
        circuit=Circuit(edges=tuple(edges), roles={node: role for role, node in nodes.items()}, name="handmade-conflict",
                        model="handmade-conflict", task="handmade-conflict",
                        citation="written by hand: the weights are the circuit"),
        make_pairs=_pairs,
        corruptions={"clean": "another country; nothing is stated", "substitution": "another country; one statement",
                     "coherent": "another country; three statements"},
        truths=truths,
        heads={"memory": MEMORY, "context": CONTEXT_HEAD, "two-faced": TWO_FACED, "silent": Head(0, 3)},
    )


def _pairs(n: int, seed: int, corruption: str) -> list[TokenPair]:
    rng = random.Random(seed)
    first, count, stop = VOCABULARY.index("A"), len(COUNTRIES), VOCABULARY.index(".")
    times = STATED[corruption]
    pairs = []
    for _ in range(n):
        one, other, third = rng.sample(range(first, first + count), 3)
        said = [stop] * (3 - times) + [third + count] * times
        pairs.append(TokenPair((0, *said, one, 1), (0, *said, other, 1), answer=one + count, wrong=third + count,
                               positions={"stated": 3, "country": 4, "end": 5}))
    return pairs
