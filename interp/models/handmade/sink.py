"""A first-token-sink head that wakes on a trigger: it rests on the first token and copies only when it is asked to."""

import random

import torch

from interp.core.head import Head
from interp.models.handmade.handmade import BOS, KINDS, HandMade, TokenPair, circuit
from interp.models.handmade.weights import HeadWeights, Residual, assemble, one_hot, previous_token

SMALL, CAPITAL = tuple("abcdefgh"), tuple("ABCDEFGH")
VOCABULARY = (BOS, *SMALL, *CAPITAL, "?", "!")
CONTEXT = 16
GAIN = 10.0
LETTERS = 7

SINK, PREVIOUS = Head(0, 1), Head(0, 2)


def sink(beta: float = 30.0) -> HandMade:
    """``<bos> b e D f a ?`` -> ``a`` (the letter before) and ``<bos> b e D f a !`` -> ``D`` (the capital), one layer.

    The residual stream holds ``tok`` (one-hot token), ``pos`` (one-hot position), ``one`` (the constant 1), ``out`` (votes
    for the next token) and ``spare`` (read by nobody). The token "!" is the trigger.

    =====  ===================  ===========================================  ===================================
    head   role                 score of a key                               writes of what it attends to
    =====  ===================  ===========================================  ===================================
    L0H0   silent               beta [same position]                         nothing
    L0H1   first-token sink     beta [<bos>] + 2 beta [query "!", capital]   letter into ``out`` (<bos> is none)
    L0H2   previous token       beta [key is one position back]              1/2 of the letter into ``out``
    L0H3   unread sink          beta [<bos>]                                 token into ``spare``
    =====  ===================  ===========================================  ===================================

    On "?" and on every other token but "!" L0H1 gives all its attention to <bos>, whose value is zero: dormant. On "!" it
    gives it to the capital.

    Corruptions (each with prompts of its own): ``dormant`` ends in "?" and the corrupted prompt's letters are
    drawn anew; only the previous-token head matters. ``active`` ends in "!" with the same change; only L0H1 matters.
    The wrong answer is what the corrupted prompt's answer would be. In the dormant prompts a *uniform* pattern makes the
    sink head write the letters it ignores: uniform ablation gives it an effect that zero, mean and resample ablation,
    rightly, do not.
    """
    size = len(VOCABULARY)
    space = Residual(tok=size, pos=CONTEXT, one=1, out=size, spare=size)
    capitals = range(1 + len(SMALL), 1 + len(SMALL) + len(CAPITAL))
    letter = space.read("tok")[1 : capitals.stop]
    vote = space.write("out")[:, 1 : capitals.stop]
    is_bos, trigger = space.read("tok", one_hot(size, 0)), space.read("tok", one_hot(size, VOCABULARY.index("!")))
    rest = HeadWeights(beta * space.read("one"), is_bos, space.read("tok"), space.write("spare"))
    is_capital = space.read("tok", one_hot(size, *capitals))
    ask = beta * torch.cat([space.read("one"), 2 * trigger])
    sink_head = HeadWeights(ask, torch.cat([is_bos, is_capital]), letter, vote)
    previous = previous_token(space, beta, letter, vote / 2)
    silent = HeadWeights(beta * space.read("pos"), space.read("pos"), space.read("tok"), space.write("spare")).silent()
    heads = {"first-token sink": SINK, "previous token": PREVIOUS}
    only = {"dormant": frozenset({PREVIOUS}), "active": frozenset({SINK})}
    return HandMade(
        name="handmade-sink",
        description="a head that rests on the first token until a trigger makes it copy, beside a previous-token head",
        vocabulary=VOCABULARY,
        model=assemble(space, [[silent, sink_head, previous, rest]], GAIN * space.read("out")),
        circuit=circuit("handmade-sink", heads, """
            embed -> first-token sink.q
            embed -> first-token sink.k
            embed -> first-token sink.v
            embed -> previous token.q
            embed -> previous token.k
            embed -> previous token.v
            first-token sink -> logits.out
            previous token -> logits.out
        """),
        make_pairs=_pairs,
        corruptions={"dormant": "other letters, in prompts that leave the sink head asleep",
                     "active": "other letters, in prompts that wake the sink head"},
        truths={(corruption, kind): only[corruption] for corruption in only for kind in KINDS},
        heads=heads | {"unread sink": Head(0, 3), "silent": Head(0, 0)},
    )


def _pairs(n: int, seed: int, corruption: str) -> list[TokenPair]:
    rng = random.Random(seed)
    query = VOCABULARY.index({"dormant": "?", "active": "!"}[corruption])
    pairs = []
    for _ in range(n):
        place = rng.randrange(1, LETTERS)      # of the capital; never the last letter
        small, capital = rng.sample(range(1, 9), 2), rng.sample(range(9, 17), 2)
        rows = []
        for last, cap in zip(small, capital, strict=True):
            letters = [rng.choice([x for x in range(1, 9) if x not in small]) for _ in range(LETTERS - 1)] + [last]
            letters[place - 1] = cap
            rows.append((0, *letters, query))
        answer, wrong = small if corruption == "dormant" else capital
        pairs.append(TokenPair(rows[0], rows[1], answer=answer, wrong=wrong,
                               positions={"capital": place, "previous": LETTERS, "end": LETTERS + 1}))
    return pairs
