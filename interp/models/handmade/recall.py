"""Factual recall: a head moves the topic to the end, MLPs amplify it, erase what distracts and look the fact up, and the
last layer holds the answer back."""

import random

import torch

from interp.core.circuit import Circuit, Edge, Node
from interp.core.head import Head
from interp.models.handmade.handmade import BOS, HandMade, TokenPair
from interp.models.handmade.weights import HeadWeights, MLPWeights, Residual, assemble, one_hot

COUNTRIES, CAPITALS, NOISE = ("A", "B", "C", "D", "E", "F", "G", "H"), tuple("abcdefgh"), tuple("uvwxyz")
VOCABULARY = (BOS, "?", *COUNTRIES, *CAPITALS, *NOISE)
CONTEXT = 8
BETA = 50.0
LOOKUP, HELD_BACK, INTERCEPT = 3.0, 2.0, 1.0

TOPIC, DISTRACTOR, SUPPRESSOR = Head(0, 0), Head(0, 1), Head(2, 0)


def fact() -> torch.Tensor:
    """The learnt facts, [vocab, vocab]: column of a country -> row of its capital."""
    size, first, count = len(VOCABULARY), VOCABULARY.index("A"), len(COUNTRIES)
    table = torch.zeros(size, size)
    table[torch.arange(first + count, first + 2 * count), torch.arange(first, first + count)] = 1
    return table


def recall() -> HandMade:
    """Prompt ``<bos> noise country ?`` -> the country's capital, by one head, two MLPs and a head against.

    The residual stream holds ``tok`` and ``pos`` (one-hot), ``one``, ``topic`` and ``noise`` (tokens that heads brought to
    the end) and ``out`` (votes for tokens).

    =======  ===========  ==================================================================================
    part     role         what it does at the last position
    =======  ===========  ==================================================================================
    L0H0     topic        attends to the country and writes it into ``topic``
    L0H1     distractor   attends to the noise and writes it into ``noise``
    MLP 0    activation   writes + ``topic`` into ``topic`` (amplifies L0H0) and − ``noise`` into ``noise`` (erases L0H1)
    MLP 1    function     writes 3 · capital of ``topic`` into ``out``, and 1 for every capital (its intercept)
    L2H0     suppressor   attends to the country and writes −2 · its capital into ``out``
    =======  ===========  ==================================================================================

    The logits are ``out``, plus ``topic`` on the capital of its country, plus ``noise`` on itself. So the right capital has
    2 (topic) + 6 + 1 (MLP 1) − 2 = 7, other capitals 1, everything else 0. Directly L0H0 gives 1, MLP 0 another 1, MLP 1 6.
    Corruption ``country``: another country; the wrong answer is its capital.
    """
    size = len(VOCABULARY)
    space = Residual(tok=size, pos=CONTEXT, one=1, topic=size, noise=size, out=size)
    nothing = HeadWeights(torch.zeros(1, space.d_model), space.read("one"), space.read("tok"), space.write("out")).silent()

    def at(position: int, o: torch.Tensor) -> HeadWeights:
        return HeadWeights(BETA * space.read("one"), space.read("pos", one_hot(CONTEXT, position)), space.read("tok"), o)

    topic, noise = at(2, space.write("topic")), at(1, space.write("noise"))
    against = at(2, space.write("out", -HELD_BACK * fact()))
    zero = torch.zeros(space.d_model)
    capitals = fact().sum(1, keepdim=True)
    activation = MLPWeights(torch.cat([space.read("topic"), space.read("noise")]), torch.zeros(2 * size),
                            torch.cat([space.write("topic"), -space.write("noise")], dim=1), zero)
    function = MLPWeights(space.read("topic"), torch.zeros(size), space.write("out", LOOKUP * fact()),
                          space.write("out", INTERCEPT * capitals)[:, 0])
    unembed = space.read("out") + space.read("topic", fact()) + space.read("noise")
    layers = [[topic, noise, topic.silent()], [nothing] * 3, [against, against.silent(), nothing]]
    mlps = [Node("mlp", layer=0), Node("mlp", layer=1)]
    embed, logits, mover, last = Node("embed"), Node("logits"), Node.of(TOPIC), Node.of(SUPPRESSOR)
    edges = [Edge(embed, head, read) for head in (mover, last) for read in "kv"]
    edges += [Edge(mover, mlp, "mlp") for mlp in mlps] + [Edge(mlps[0], mlps[1], "mlp")]
    edges += [Edge(node, logits, "out") for node in (mover, *mlps, last)]
    both = frozenset({TOPIC, SUPPRESSOR})
    return HandMade(
        name="handmade-recall",
        description="recall of a fact by a head that brings the topic, MLPs that look it up, and a head that holds it back",
        vocabulary=VOCABULARY,
        model=assemble(space, layers, unembed, {0: activation, 1: function}),
        circuit=Circuit(edges=tuple(edges), name="handmade-recall", model="handmade-recall", task="handmade-recall",
                        roles={mover: "topic", mlps[0]: "activation", mlps[1]: "function", last: "suppressor"},
                        citation="written by hand: the weights are the circuit"),
        make_pairs=_pairs,
        corruptions={"country": "another country"},
        truths={("country", kind): both for kind in ("noising", "denoising", "zero", "mean")},
        heads={"topic": TOPIC, "distractor": DISTRACTOR, "suppressor": SUPPRESSOR, "silent": Head(0, 2)},
    )


def _pairs(n: int, seed: int, corruption: str) -> list[TokenPair]:
    rng = random.Random(seed)
    first, count, noise = VOCABULARY.index("A"), len(COUNTRIES), VOCABULARY.index("u")
    pairs = []
    for _ in range(n):
        one, other = rng.sample(range(first, first + count), 2)
        letter = rng.randrange(noise, len(VOCABULARY))
        pairs.append(TokenPair((0, letter, one, 1), (0, letter, other, 1), answer=one + count, wrong=other + count,
                               positions={"noise": 1, "country": 2, "end": 3}))
    return pairs
