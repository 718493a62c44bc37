"""What a random sample says about those that were not drawn: how many may lie beyond it, and how far.

Both statements are about a finite population (all heads of a model, say) of which ``drawn`` members were drawn at random,
without replacement, each set of that size equally likely. The numbers of the population may be anything.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from interp.core.errors import InterpError
from interp.core.intervals import check_confidence

TAIL = 2.0
"""How fast large errors get rare: beyond the largest sampled one, those c times as large are c**TAIL times rarer."""


def most_unseen(population: int, drawn: int, confidence: float = 0.95) -> int:
    """How many members may lie beyond everything that was drawn: the exact upper limit, whatever the population.

    Let a score be given to each member. With at least this probability over the draw, no more than the returned number of
    members have a score above the largest that was drawn. (Were there m + 1 of them, none of the m + 1 largest would have
    been drawn, which has the hypergeometric probability C(population - m - 1, drawn) / C(population, drawn).)
    """
    check_sample(population, drawn)
    check_confidence(confidence)
    beyond = np.arange(1, population - drawn + 1)
    none_drawn = stats.hypergeom.pmf(0, population, beyond, drawn)
    return int((none_drawn > 1 - confidence).sum())


def most_unseen_of_strata(populations: Sequence[int], drawn: Sequence[int], confidence: float = 0.95) -> int:
    """``most_unseen`` where so many were drawn from each stratum by itself: the exact upper limit, whatever the populations.

    The probability that none of the largest m + 1 was drawn is a product over strata. Its logarithm is concave in how many
    of them each stratum holds, so the worst case is reached by giving them out one by one where it falls least. A stratum
    of which nothing was drawn may hold any number.
    """
    check_confidence(confidence)
    if len(populations) != len(drawn) or any(not 0 <= n <= size for size, n in zip(populations, drawn, strict=True)):
        raise InterpError(f"bound strata of {list(populations)} by samples of {list(drawn)}",
                          "a sample holds at most all of its stratum", "give as many samples as strata")
    found = sum(size for size, n in zip(populations, drawn, strict=True) if n == 0)
    losses = [math.log((size - m) / (size - m - n)) for size, n in zip(populations, drawn, strict=True)
              for m in range(size - n) if n]
    left = -math.log(1 - confidence)
    for loss in sorted(losses):
        left -= loss
        if left <= 0:
            break
        found += 1
    return found


def reach(population: int, drawn: int, risk: float, tail: float = TAIL) -> float:
    """Factor c such that no member lies beyond c times the largest that was drawn, save with probability ``risk``.

    Each of the ``population - drawn`` others exceeds the largest of the sample with probability 1 / (drawn + 1), whatever
    the population; that those which do are c times as large c**tail times more rarely is the one assumption (``tail``).
    The expected number beyond is then (population - drawn) / (drawn + 1) / c**tail, and c makes it ``risk``. At least 1.
    """
    check_sample(population, drawn)
    if not 0 < risk < 1 or tail <= 0:
        raise InterpError(f"bound errors at the risk {risk} and the tail {tail}",
                          "a risk lies between 0 and 1, a tail above 0", "use 0.05 and 2, say")
    return float(max(1.0, ((population - drawn) / (drawn + 1) / risk) ** (1 / tail)))


def sample_size(population: int) -> int:
    """How many are drawn unless something else is asked for: twice the square root, at least 10, at most all."""
    return min(population, max(10, int(np.ceil(2 * np.sqrt(population)))))


def check_sample(population: int, drawn: int) -> None:
    """Refuse a sample of nothing and one larger than what it is drawn from."""
    if not 1 <= drawn <= population:
        raise InterpError(f"draw {drawn} of {population}", "a sample holds at least one and at most all of them",
                          "choose a size between")
