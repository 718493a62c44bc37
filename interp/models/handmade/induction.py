"""An induction circuit: a previous-token head whose output an induction head reads through its keys."""

import random

import torch

from interp.core.head import Head
from interp.models.handmade.handmade import BOS, HandMade, TokenPair, circuit
from interp.models.handmade.weights import HeadWeights, Residual, assemble, previous_token

VOCABULARY = (BOS, *"abcdefghijklmnopqrst")
CONTEXT = 32
LETTERS = 10      # letters of a prompt before the repeated one
GAIN = 10.0       # logit of a token that attention copies with weight 1
WHISPER = 0.005   # size of what the whispering head writes

PREVIOUS, INDUCTION, WHISPERING = Head(0, 2), Head(1, 1), Head(1, 2)


def whisper_weights() -> torch.Tensor:
    """What the whispering head adds to each token's logit (row) for the token it attends to (column), in [-1, 1]·WHISPER."""
    tokens = torch.arange(len(VOCABULARY))
    return WHISPER * ((7 * tokens[:, None] * tokens + 3 * tokens[:, None] + 5 * tokens) % 11 - 5) / 5


def induction(beta: float = 20.0, beta_previous: float = 20.0) -> HandMade:
    """``... A B ... A`` -> ``B`` by two heads out of eight; ``beta`` is the gain of the induction head's softmax.

    The residual stream holds ``tok`` (one-hot token), ``pos`` (one-hot position), ``one`` (the constant 1), ``prev`` (the
    token before this one), ``out`` (votes for the next token) and ``spare`` (read by nobody).

    ===== ==================== ======================================================= ============================
    head  role                 score of a key                                          writes of what it attends to
    ===== ==================== ======================================================= ============================
    L0H0  silent               20 [same position]                                      nothing
    L0H1  unread               20 [same position]                                      token into ``spare``
    L0H2  previous token       beta_previous [key is one position back]                token into ``prev``
    L0H3  silent               0 everywhere                                            nothing
    L1H0  unread               beta [key's token = query's ``prev``]                   token into ``spare``
    L1H1  induction            beta [key's ``prev`` = query's token]                   token into ``out``
    L1H2  whisper              0.1 · key's position (later tokens more)                a faint scramble into ``out``
    L1H3  silent induction     beta [key's ``prev`` = query's token]                   nothing
    ===== ==================== ======================================================= ============================

    With one match among n visible keys the induction head's weight on it is e^beta / (e^beta + n - 1) (where the
    previous-token head is sharp), and the logit of a token is 10 times the weight on it, plus the whisper. At beta 1 the
    softmax is nearly linear; from beta 10 on it is saturated: the gradient through its keys vanishes, so first-order
    estimates lose the previous-token head, while the whisper (a scramble of tokens 0.005 in size, less than 0.1 logits in
    effect) keeps its gradient. L1H3 has an induction head's pattern and no effect: patterns are no evidence of use.

    Corruptions: ``keys`` exchanges A with the other key C in the context (``A B ... C D ... A`` becomes
    ``C B ... A D ... A``), both heads carry the difference; ``values`` exchanges B and D, and the previous-token head
    carries the same (A stands before) in both prompts, so only the induction head does. The wrong answer is D.
    """
    size = len(VOCABULARY)
    space = Residual(tok=size, pos=CONTEXT, one=1, prev=size, out=size, spare=size)
    token, unread = space.read("tok"), space.write("spare")
    here = HeadWeights(20 * space.read("pos"), space.read("pos"), token, unread)
    everywhere = HeadWeights(torch.zeros(1, space.d_model), space.read("one"), token, unread)
    previous = previous_token(space, beta_previous, token, space.write("prev"))
    match = HeadWeights(beta * space.read("tok"), space.read("prev"), token, space.write("out"))
    ahead = HeadWeights(beta * space.read("prev"), space.read("tok"), token, unread)
    recent = HeadWeights(0.1 * space.read("one"), space.read("pos", torch.arange(CONTEXT)[None].float()), token,
                         space.write("out", whisper_weights()))
    layers = [[here.silent(), here, previous, everywhere.silent()], [ahead, match, recent, match.silent()]]
    heads = {"previous token": PREVIOUS, "induction": INDUCTION}
    both, last = frozenset({PREVIOUS, INDUCTION}), frozenset({INDUCTION})
    return HandMade(
        name="handmade-induction",
        description=f"induction on random letters by a previous-token head and an induction head (softmax gain {beta:g})",
        vocabulary=VOCABULARY,
        model=assemble(space, layers, GAIN * space.read("out")),
        circuit=circuit("handmade-induction", heads, """
            embed -> previous token.q
            embed -> previous token.k
            embed -> previous token.v
            embed -> induction.q
            previous token -> induction.k
            embed -> induction.v
            induction -> logits.out
        """),
        make_pairs=_pairs,
        corruptions={"keys": "the two keys exchange places", "values": "the two values exchange places"},
        truths={("keys", "noising"): both, ("keys", "denoising"): both, ("keys", "zero"): both, ("keys", "mean"): both,
                ("values", "noising"): last, ("values", "denoising"): last},
        negligible=0.1,
        heads=heads | {"whisper": WHISPERING, "silent induction": Head(1, 3)},
    )


def _pairs(n: int, seed: int, corruption: str) -> list[TokenPair]:
    rng = random.Random(seed)
    pairs = []
    for _ in range(n):
        clean = [0, *rng.sample(range(1, len(VOCABULARY)), LETTERS)]
        first, second = sorted(rng.sample(range(1, LETTERS - 1), 2))     # places of the two keys: not neighbours
        first, second = (first, second + 1) if rng.random() < 0.5 else (second + 1, first)
        corrupt, shift = list(clean), {"keys": 0, "values": 1}[corruption]
        corrupt[first + shift], corrupt[second + shift] = clean[second + shift], clean[first + shift]
        key = clean[first]
        pairs.append(TokenPair((*clean, key), (*corrupt, key), answer=clean[first + 1], wrong=clean[second + 1],
                               positions={"key": first, "value": first + 1, "other_key": second, "end": LETTERS + 1}))
    return pairs
