"""An indirect-object circuit: duplicate-token head, S-inhibition head, name mover, and a backup name mover."""

import random

import torch

from interp.core.head import Head
from interp.models.handmade.handmade import BOS, HandMade, TokenPair, circuit
from interp.models.handmade.weights import HeadWeights, Residual, assemble, first_match, one_hot, previous_token

NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gil", "Hana")
VOCABULARY = (BOS, *NAMES, "and", "went", ".", "gave", "to")
CONTEXT = 16
GAIN = 10.0      # logit of a name that a mover copies with weight 1

DUPLICATE, INHIBITION, MOVER, BACKUP = Head(0, 1), Head(1, 2), Head(2, 0), Head(3, 1)


def ioi(beta: float = 30.0) -> HandMade:
    """``Ada and Ben went . Ben gave to`` -> ``Ada`` by four heads out of twelve, one of which sleeps.

    The residual stream holds ``tok`` (one-hot token; names are tokens 1 to 8), ``pos`` (one-hot position), ``one`` (the
    constant 1), ``dup`` (1 where the token is a name seen before), ``inhibit`` (the name not to be moved), ``moved`` (how
    much of the name mover's attention is on names), ``out`` (votes for the next token) and ``spare`` (read by nobody).

    =====  ======================  =====================================================  =================================
    head   role                    score of a key                                         writes of what it attends to
    =====  ======================  =====================================================  =================================
    L0H1   duplicate token         beta ([same token] - [same position] + 1/2 [<bos>])    [name] into ``dup``
    L1H2   S-inhibition            beta (key's ``dup`` + 1/2 [<bos>])                     name into ``inhibit``
    L2H0   name mover              beta ([name] - query's ``inhibit`` · key's token)      name into ``out``, flags ``moved``
    L3H1   backup name mover       the name mover's + 2 beta query's ``moved`` [<bos>]    name into ``out``
    L2H2   unread name mover       the name mover's                                       name into ``spare``
    L0H2   unread previous token   beta [key is one position back]                        token into ``spare``
    L1H0   silent S-inhibition     the S-inhibition head's                                nothing
    others silent or unread        beta [same position]                                   nothing or token into ``spare``
    =====  ======================  =====================================================  =================================

    At the last token ("to") the S-inhibition head fetches the repeated name S, so the name mover scores S with 0 and the
    other name (IO) with beta, and writes IO and ``moved`` = 1. That flag lifts <bos> to 2 beta for the backup, which
    attends there and writes nothing. Set the name mover's z to zero and the flag falls: the backup moves IO instead, and
    the logits do not change at all. Put the corrupted prompt's z there and the flag stays up: nothing replaces the name.

    Corruptions: ``third`` replaces the second S by a third name (no name is repeated, the mover spreads over all three
    names, logit difference 0); ``exchange`` replaces it by IO (the sign of the difference flips). Wrong answer: S.
    The duplicate-token head says *that* a name is repeated, not which: ``exchange`` leaves its output alone, and denoising
    it after ``third`` only inhibits the third name. Only noising with ``third`` and zero ablation find it; mean ablation
    misses it too, for its output at S2 is the same in every clean prompt.
    """
    size = len(VOCABULARY)
    space = Residual(tok=size, pos=CONTEXT, one=1, dup=1, inhibit=len(NAMES), moved=1, out=size, spare=size)
    is_name = one_hot(size, *range(1, len(NAMES) + 1))
    is_bos = space.read("tok", one_hot(size, 0))
    pick = torch.eye(size)[1 : len(NAMES) + 1]      # token -> its name among the names
    name = space.read("tok", pick)
    to_spare = space.write("spare")

    duplicate = first_match(space, beta, 0, space.read("tok", is_name), space.write("dup"))
    inhibition = HeadWeights(beta * torch.cat([space.read("one"), space.read("one") / 2]),
                             torch.cat([space.read("dup"), is_bos]), name, space.write("inhibit"))
    names_but = (torch.cat([space.read("one"), -space.read("inhibit")]), torch.cat([space.read("tok", is_name), name]))
    mover = HeadWeights(beta * names_but[0], names_but[1], torch.cat([name, space.read("tok", is_name)]),
                        torch.cat([space.write("out", pick.T), space.write("moved")], dim=1))
    backup = HeadWeights(beta * torch.cat([names_but[0], 2 * space.read("moved")]), torch.cat([names_but[1], is_bos]),
                         name, space.write("out", pick.T))
    unread_mover = HeadWeights(mover.q, mover.k, name, space.write("spare", pick.T))
    unread_previous = previous_token(space, beta, space.read("tok"), to_spare)
    unread = HeadWeights(beta * space.read("pos"), space.read("pos"), space.read("tok"), to_spare)
    silent = unread.silent()

    layers = [[silent, duplicate, unread_previous], [inhibition.silent(), unread, inhibition],
              [mover, silent, unread_mover], [unread, backup, silent]]
    heads = {"duplicate token": DUPLICATE, "S-inhibition": INHIBITION, "name mover": MOVER, "backup name mover": BACKUP}
    seen = frozenset({DUPLICATE, INHIBITION, MOVER})
    return HandMade(
        name="handmade-ioi",
        description="indirect objects by a duplicate-token head, an S-inhibition head, a name mover and its backup",
        vocabulary=VOCABULARY,
        model=assemble(space, layers, GAIN * space.read("out")),
        circuit=circuit("handmade-ioi", heads, """
            embed -> duplicate token.q
            embed -> duplicate token.k
            embed -> duplicate token.v
            duplicate token -> S-inhibition.k
            embed -> S-inhibition.k
            embed -> S-inhibition.v
            S-inhibition -> name mover.q
            embed -> name mover.k
            embed -> name mover.v
            S-inhibition -> backup name mover.q
            name mover -> backup name mover.q
            embed -> backup name mover.k
            embed -> backup name mover.v
            name mover -> logits.out
            backup name mover -> logits.out
        """),
        make_pairs=_pairs,
        corruptions={"third": "the second S becomes a third name", "exchange": "the second S becomes IO"},
        truths={("third", "noising"): seen, ("third", "denoising"): seen - {DUPLICATE},
                ("exchange", "noising"): seen - {DUPLICATE}, ("exchange", "denoising"): seen - {DUPLICATE},
                **{(corruption, "zero"): seen - {MOVER} for corruption in ("third", "exchange")},
                **{(corruption, "mean"): seen - {DUPLICATE} for corruption in ("third", "exchange")}},
        heads=heads | {"unread name mover": Head(2, 2), "silent S-inhibition": Head(1, 0)},
    )


def _pairs(n: int, seed: int, corruption: str) -> list[TokenPair]:
    rng = random.Random(seed)
    word = {text: index for index, text in enumerate(VOCABULARY)}
    pairs = []
    for _ in range(n):
        io, s, third = rng.sample(range(1, len(NAMES) + 1), 3)
        first, second = rng.sample([io, s], 2)
        frame = [0, first, word["and"], second, word["went"], word["."], s, word["gave"], word["to"]]
        corrupt = [*frame[:6], {"third": third, "exchange": io}[corruption], *frame[7:]]
        s1, s_io = (1, 3) if first == s else (3, 1)
        pairs.append(TokenPair(tuple(frame), tuple(corrupt), answer=io, wrong=s,
                               positions={"IO": s_io, "S1": s1, "S2": 6, "end": 8}))
    return pairs
