"""Gates on two heads: the smallest models on which each way of scoring a head has its blind spot."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from interp.core.head import Head
from interp.models.handmade.handmade import BOS, HandMade, TokenPair, circuit
from interp.models.handmade.weights import HeadWeights, MLPWeights, Residual, assemble, one_hot

VOCABULARY = (BOS, "0", "1", "?", "yes", "no", *"uvwxyz")
CONTEXT = 8
BETA = 50.0

A, B = Head(0, 0), Head(0, 2)
_BOTH, _A, _B, _NONE = frozenset({A, B}), frozenset({A}), frozenset({B}), frozenset[Head]()


@dataclass(frozen=True)
class Gate:
    """A gate: its value from the two inputs, its formula, and which single heads matter.

    ``neurons`` rows are (weight of a, weight of b, bias, output weight), ``bias`` is added to the output; ``direct`` says
    what the heads themselves write into the output; ``second`` is the position that the second head reads.
    """

    formula: str
    value: Callable[[int, int], int]
    noising: frozenset[Head]
    denoising: frozenset[Head]
    neurons: tuple[tuple[float, float, float, float], ...] = ()
    bias: float = 0.0
    direct: tuple[float, float] = (0.0, 0.0)
    second: int = 2


GATES: dict[str, Gate] = {
    "or": Gate("1 - relu(1 - a - b)", lambda a, b: a | b, _NONE, _BOTH, ((-1, -1, 1, -1),), 1.0),
    "and": Gate("relu(a + b - 1)", lambda a, b: a & b, _BOTH, _NONE, ((1, 1, -1, 1),)),
    "xor": Gate("relu(a + b + 1) - 2 relu(a + b - 1) - 1", lambda a, b: a ^ b, _BOTH, _BOTH,
                ((1, 1, 1, 1), (1, 1, -1, -2)), -1.0),
    "saturated": Gate("relu(40 (a + b) - 19.5) - relu(40 (a + b) - 20.5)", lambda a, b: a | b, _NONE, _BOTH,
                      ((40, 40, -19.5, 1), (40, 40, -20.5, -1))),
    "cancel": Gate("a - b", lambda a, b: a - b, _BOTH, _BOTH, direct=(1, -1)),
    "erased": Gate("a + b - (relu(a + 1) - 1)", lambda a, b: b, _B, _B, ((1, 0, 1, -1),), 1.0, direct=(1, 1)),
    "redundant": Gate("1 - relu(1 - a - a)", lambda a, b: a, _NONE, _BOTH, ((-1, -1, 1, -1),), 1.0, second=1),
}


def gate(kind: str) -> HandMade:
    """Prompt ``<bos> a b x ?`` with bits a and b; logit of "yes" = the gate's value, logit of "no" = 1/2, all others 0.

    The residual stream holds ``tok`` (one-hot token), ``pos`` (one-hot position), ``one`` (the constant 1), ``ab`` (what
    the two heads report), ``gate`` (the output) and ``spare`` (read by nobody).

    =====  ========  ======================  =============================================================
    head   role      score of a key          writes of what it attends to
    =====  ========  ======================  =============================================================
    L0H0   a         50 [position 1]         [token is "1"] into ``ab``[0] (and ``gate``, where said below)
    L0H1   silent    50 [position 2]         nothing
    L0H2   b         50 [position 2]         [token is "1"] into ``ab``[1] (and ``gate``, where said below)
    L0H3   unread    50 [position 3]         token into ``spare``
    =====  ========  ======================  =============================================================

    The MLP of layer 0 reads ``ab`` and writes ``gate``. Clean prompts have a = b = 1, corrupted ones a = b = 0; with the
    metric logit(yes) - logit(no) the change by single heads (a, b) is

    ==========  =======================================  =======  =========  =======================================
    gate        output                                   noising  denoising  what it shows
    ==========  =======================================  =======  =========  =======================================
    or          1 - relu(1 - a - b)                      0, 0     1, 1       noising and clean gradients miss both
    and         relu(a + b - 1)                          1, 1     0, 0       denoising and corrupt gradients do
    xor         relu(a+b+1) - 2 relu(a+b-1) - 1          -1, -1   1, 1       signs disagree; clean equals corrupt
    saturated   relu(40(a+b)-19.5) - relu(40(a+b)-20.5)  0, 0     1, 1       both gradients are zero
    cancel      a - b, by the heads alone                1, -1    1, -1      together the two heads do nothing
    erased      a + b by the heads, - a by the MLP       0, 1     0, 1       a has a direct effect, no total one
    redundant   or of two heads that both read a         0, 0     1, 1       each head does the other's work
    ==========  =======================================  =======  =========  =======================================

    (``erased``: the MLP computes -a as 1 - relu(a + 1), so that no neuron sits on its kink.) Zero ablation of a clean
    prompt equals noising, because a head that reads "0" writes nothing; mean ablation over clean prompts changes nothing,
    because every clean prompt holds the same bits. The letter x is noise, the same in both prompts.
    """
    made, size = GATES[kind], len(VOCABULARY)
    space = Residual(tok=size, pos=CONTEXT, one=1, ab=2, gate=1, spare=size)
    bit = space.read("tok", one_hot(size, VOCABULARY.index("1")))

    def at(position: int, v: torch.Tensor, o: torch.Tensor) -> HeadWeights:
        return HeadWeights(BETA * space.read("one"), space.read("pos", one_hot(CONTEXT, position)), v, o)

    def report(index: int) -> torch.Tensor:
        return space.write("ab", one_hot(2, index).T) + made.direct[index] * space.write("gate")

    second = at(made.second, bit, report(1))
    heads = [at(1, bit, report(0)), at(2, bit, report(1)).silent(), second,
             at(3, space.read("tok"), space.write("spare"))]
    mlps = {}
    if made.neurons:
        a, b, bias, out = torch.tensor(made.neurons).T
        mlps[0] = MLPWeights(space.read("ab", torch.stack([a, b], dim=1)), bias, space.write("gate", out[None]),
                             made.bias * space.write("gate")[:, 0])
    unembed = torch.zeros(size, space.d_model)
    unembed[VOCABULARY.index("yes")] = space.read("gate")[0]
    unembed[VOCABULARY.index("no")] = space.read("one")[0] / 2
    flows = [f"embed -> {role}.{read}" for role in "ab" for read in "kv"]
    flows += [f"{role} -> gate.mlp" for role, read in zip("ab", zip(*made.neurons, strict=True), strict=False) if any(read)]
    flows += [f"{role} -> logits.out" for role, writes in zip("ab", made.direct, strict=True) if writes]
    name = f"handmade-{kind}"
    return HandMade(
        name=name,
        description=f"two heads read two bits, the output is {made.formula}",
        vocabulary=VOCABULARY,
        model=assemble(space, [heads], unembed, mlps),
        circuit=circuit(name, {"a": A, "b": B}, "\n".join([*flows, *(["gate -> logits.out"] if mlps else [])]),
                        mlp="gate" if mlps else None),
        make_pairs=_pairs,
        corruptions={"zeros": "both bits become 0"},
        truths={("zeros", "noising"): made.noising, ("zeros", "denoising"): made.denoising, ("zeros", "zero"): made.noising,
                ("zeros", "mean"): _NONE},
        heads={"a": A, "b": B, "silent": Head(0, 1), "unread": Head(0, 3)},
    )


GATE_MODELS = {f"handmade-{kind}": partial(gate, kind) for kind in GATES}


def _pairs(n: int, seed: int, corruption: str) -> list[TokenPair]:
    rng = random.Random(seed)
    pairs = []
    for _ in range(n):
        noise = rng.randrange(6, len(VOCABULARY))
        pairs.append(TokenPair((0, 2, 2, noise, 3), (0, 1, 1, noise, 3), answer=VOCABULARY.index("yes"),
                               wrong=VOCABULARY.index("no"), positions={"a": 1, "b": 2, "end": 4}))
    return pairs
