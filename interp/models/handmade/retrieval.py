"""Retrieval from a list of keys and values: a matching head points, a copy head follows the pointer through its queries."""

import random

import torch

from interp.core.head import Head
from interp.models.handmade.handmade import BOS, HandMade, TokenPair, circuit
from interp.models.handmade.weights import HeadWeights, Residual, assemble, first_match, previous_token

KEYS, VALUES = tuple(f"k{i}" for i in range(8)), tuple(f"v{i}" for i in range(16))
VOCABULARY = (BOS, *KEYS, *VALUES)
CONTEXT = 32
GAIN = 10.0
ENTRIES = 4

MATCH, COPY = Head(0, 0), Head(1, 2)


def retrieval(beta: float = 40.0) -> HandMade:
    """``<bos> k3 v1 v9 k0 v4 v7 ... k3`` -> ``v1`` -> ``v9``: key-value strings of two values, copied one token at a time.

    The residual stream holds ``tok`` (one-hot token), ``pos`` (one-hot position), ``one`` (the constant 1), ``ptr`` (where
    the query's token stood before), ``out`` (votes for the next token) and ``spare`` (read by nobody).

    =====  ==================  ===================================================  ==================================
    head   role                score of a key                                       writes of what it attends to
    =====  ==================  ===================================================  ==================================
    L0H0   match               beta ([same token] - [same position] + 1/2 [<bos>])  its position into ``ptr`` (not <bos>'s)
    L0H1   silent match        the match head's                                     nothing
    L0H2   unread              beta [key is one position back]                      token into ``spare``
    L1H0   unread copy         beta [key is one after query's ``ptr``]              token into ``spare``
    L1H1   silent              beta [key is one position back]                      nothing
    L1H2   copy                beta [key is one after query's ``ptr``]              token into ``out``
    =====  ==================  ===================================================  ==================================

    The copy head attends to the very token that is generated (a retrieval head by the copying criterion); the match head
    attends to the key before it, so that criterion misses it although nothing is retrieved without it. Generating on, the
    match head points at the value just written and the copy head takes the next one.

    Corruptions: ``keys`` exchanges the asked key with another one of the list (both heads carry the difference);
    ``values`` exchanges their value strings (the pointer is the same, only the copy head carries it). Wrong answer: the
    other key's first value.
    """
    size = len(VOCABULARY)
    space = Residual(tok=size, pos=CONTEXT, one=1, ptr=CONTEXT, out=size, spare=size)
    token = space.read("tok")
    place = torch.eye(CONTEXT)[1:]                                       # position, but for the first
    match = first_match(space, beta, 0, space.read("pos", place), space.write("ptr", place.T))
    onward = torch.diag(torch.ones(CONTEXT - 1), diagonal=-1)            # (onward @ e_p) = e_{p+1}
    copy = HeadWeights(beta * space.read("ptr", onward), space.read("pos"), token, space.write("out"))
    unread = previous_token(space, beta, token, space.write("spare"))
    layers = [[match, match.silent(), unread], [copy.into(space.write("spare")), unread.silent(), copy]]
    heads = {"match": MATCH, "copy": COPY}
    both, last = frozenset({MATCH, COPY}), frozenset({COPY})
    return HandMade(
        name="handmade-retrieval",
        description="key-value retrieval by a matching head that points and a copy head that follows",
        vocabulary=VOCABULARY,
        model=assemble(space, layers, GAIN * space.read("out")),
        circuit=circuit("handmade-retrieval", heads, """
            embed -> match.q
            embed -> match.k
            embed -> match.v
            match -> copy.q
            embed -> copy.k
            embed -> copy.v
            copy -> logits.out
        """),
        make_pairs=_pairs,
        corruptions={"keys": "the asked key exchanges places with another one",
                     "values": "the value strings of the two keys exchange places"},
        truths={("values", "noising"): last, ("values", "denoising"): last, ("keys", "noising"): both,
                ("keys", "denoising"): both, **{(c, kind): both for c in ("keys", "values") for kind in ("zero", "mean")}},
        heads=heads | {"silent match": Head(0, 1), "unread copy": Head(1, 0)},
    )


def _pairs(n: int, seed: int, corruption: str) -> list[TokenPair]:
    rng = random.Random(seed)
    pairs = []
    for _ in range(n):
        keys = rng.sample(range(1, 1 + len(KEYS)), ENTRIES)
        values = rng.sample(range(1 + len(KEYS), len(VOCABULARY)), 2 * ENTRIES)
        strings = [values[2 * i : 2 * i + 2] for i in range(ENTRIES)]
        asked, other = rng.sample(range(ENTRIES), 2)
        swapped = list(range(ENTRIES))
        swapped[asked], swapped[other] = other, asked
        key_order, value_order = (swapped, range(ENTRIES)) if corruption == "keys" else (range(ENTRIES), swapped)
        clean = [token for i in range(ENTRIES) for token in (keys[i], *strings[i])]
        corrupt = [token for k, v in zip(key_order, value_order, strict=True) for token in (keys[k], *strings[v])]
        pairs.append(TokenPair((0, *clean, keys[asked]), (0, *corrupt, keys[asked]), answer=strings[asked][0],
                               wrong=strings[other][0],
                               positions={"key": 1 + 3 * asked, "needle": 2 + 3 * asked, "end": 1 + 3 * ENTRIES}))
    return pairs
