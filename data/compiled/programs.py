"""The programs that are compiled to transformer weights, written in RASP (Weiss et al. 2021, arXiv 2106.06981).

Each is a function of the tokens of a prompt, computed at every position; the compiled transformer computes the same
(Lindner et al. 2023, arXiv 2301.05062). ``PROGRAMS`` says of each what it computes, over which tokens, and how its answer
is read off. The output is a word, or a number where it says so.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tracr.rasp import rasp

LENGTH = 6
"""Tokens of a promptout the start token."""
DIGITS, LETTERS = (1, 2, 3, 4), ("a", "b", "c", "d")


@dataclass(frozen=True)
class Program:
    """One program: how it is written, what it computes, its tokens, whether its output is a number."""

    build: Callable[[], rasp.SOp]
    computes: str
    tokens: tuple
    numerical: bool = False
    distinct: bool = False
    """Whether the tokens of a prompt are all different."""


def everywhere() -> rasp.Selector:
    return rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.TRUE)


def at(index: rasp.SOp, of: rasp.SOp) -> rasp.SOp:
    """``of`` at the position ``index``; nothing where there is no such position."""
    return rasp.Aggregate(rasp.Select(rasp.indices, index, rasp.Comparison.EQ), of, default=None)


def before(offset: int, of: rasp.SOp) -> rasp.SOp:
    """``of`` at the position ``offset`` earlier."""
    return at(rasp.Map(lambda i: i - offset, rasp.indices), of)


def share(of: Callable) -> rasp.SOp:
    """The share of tokens, up to this one, of which ``of`` is true."""
    upto = rasp.Select(rasp.indices, rasp.indices, rasp.Comparison.LEQ)
    return rasp.numerical(rasp.Aggregate(upto, rasp.numerical(rasp.Map(lambda t: float(of(t)), rasp.tokens)), default=0))


def reverse() -> rasp.SOp:
    length = rasp.SelectorWidth(everywhere())
    return at(rasp.SequenceMap(lambda n, i: n - 1 - i, length, rasp.indices), rasp.tokens)


def balance() -> rasp.SOp:
    opened, closed = share(lambda t: t == "("), share(lambda t: t == ")")
    return rasp.numerical(rasp.LinearSequenceMap(opened, closed, 1.0, -1.0))


def same() -> rasp.SOp:
    return rasp.SelectorWidth(rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.EQ))


def sort() -> rasp.SOp:
    place = rasp.SelectorWidth(rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.LT))
    return rasp.Aggregate(rasp.Select(place, rasp.indices, rasp.Comparison.EQ), rasp.tokens, default=None)


def sort_repeats() -> rasp.SOp:
    key = rasp.SequenceMap(lambda t, i: t + i / (LENGTH + 1), rasp.tokens, rasp.indices)
    place = rasp.SelectorWidth(rasp.Select(key, key, rasp.Comparison.LT))
    return rasp.Aggregate(rasp.Select(place, rasp.indices, rasp.Comparison.EQ), rasp.tokens, default=None)


def rarer() -> rasp.SOp:
    how_often = same()
    return rasp.SelectorWidth(rasp.Select(how_often, how_often, rasp.Comparison.LT))


def after_same() -> rasp.SOp:
    return rasp.Aggregate(rasp.Select(before(1, rasp.tokens), rasp.tokens, rasp.Comparison.EQ), rasp.tokens, default=None)


def follows() -> rasp.SOp:
    return rasp.SequenceMap(lambda one, other: one == "a" and other == "b", before(1, rasp.tokens), rasp.tokens)


def mirror() -> rasp.SOp:
    return rasp.SequenceMap(lambda one, other: one == other, reverse(), rasp.tokens)


def seen() -> rasp.SOp:
    code = rasp.SequenceMap(lambda t, i: 10 * t + i, rasp.tokens, rasp.indices)
    earlier = rasp.Select(code, code, lambda key, query: key // 10 == query // 10 and key < query)
    return rasp.Map(lambda n: n > 0, rasp.SelectorWidth(earlier))


def parity() -> rasp.SOp:
    many = rasp.SelectorWidth(rasp.Select(rasp.tokens, rasp.tokens, lambda key, query: key == "a"))
    return rasp.Map(lambda n: n % 2 == 1, many)


def hops() -> rasp.SOp:
    return before(1, before(2, rasp.tokens))


def largest() -> rasp.SOp:
    above = rasp.SelectorWidth(rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.GT))
    return rasp.Aggregate(rasp.Select(above, rasp.Map(lambda i: 0, rasp.indices), rasp.Comparison.EQ), rasp.tokens,
                          default=None)


PROGRAMS = {
    "reverse": Program(reverse, "the tokens in reverse order", LETTERS),
    "share": Program(lambda: share(lambda t: t == "a"), "the share of a among the tokens up to here", LETTERS, True),
    "balance": Program(balance, "the share of ( less that of ) up to here", ("(", ")", "a"), True),
    "same": Program(same, "how many tokens of the prompt are this one", LETTERS),
    "sort": Program(sort, "the tokens in ascending order (no token twice)", (1, 2, 3, 4, 5, 6, 7, 8), distinct=True),
    "sort-repeats": Program(sort_repeats, "the tokens in ascending order", DIGITS),
    "rarer": Program(rarer, "how many tokens of the prompt occur less often than this one", LETTERS),
    "after-same": Program(after_same, "the token after the other occurrence of this one", DIGITS),
    "follows": Program(follows, "whether this token is b and the one before a", LETTERS),
    "mirror": Program(mirror, "whether this token equals the one at the mirrored position", LETTERS),
    "seen": Program(seen, "whether this token occurs earlier", DIGITS),
    "parity": Program(parity, "whether the number of a is odd", LETTERS),
    "hops": Program(hops, "the token three positions earlier, in two steps", LETTERS),
    "largest": Program(largest, "the largest token (no token twice)", (1, 2, 3, 4, 5, 6, 7, 8), distinct=True),
}
