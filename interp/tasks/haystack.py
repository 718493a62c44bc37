"""Haystacks: a context of a given length with one needle at a given depth, and a question about it. Pure python.

A maker is a function ``(rng, length, depth, size) -> PromptPair`` whose clean prompt has at most ``length`` tokens by the
count ``size`` and the spans ``needle`` and ``answer`` (within it); ``grid_pairs`` calls it for the cells of a grid. Any
behaviour that can be put as context, question and answer becomes a grid by writing such a maker. Its pair's ``frame`` is the
name of the needle; if it can be put at some depths only, the maker returns ``(pair, depth in percent where it stands)``.
"""

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import lcm
from pathlib import Path

from interp.core.grid import Cell
from interp.tasks import key_value
from interp.tasks.prompt import Prompt, PromptPair

Size = Callable[[str], int]
Maker = Callable[[random.Random, int, int, Size], PromptPair | tuple[PromptPair, float]]
DATA = Path(__file__).parent / "data"
QUESTION = "\n\nQuestion: {question}\nAnswer:"


@dataclass(frozen=True)
class Needle:
    """A sentence with an ``{answer}``, the question about it, and the answers that may stand there (unlike from their first
    letter on)."""

    name: str
    sentence: str
    question: str
    answers: tuple[str, ...]


def grid_pairs(n: int, seed: int, lengths: Sequence[int], depths: Sequence[int], make: Maker, size: Size,
               reserved: int = 0) -> list[PromptPair]:
    """``n`` prompt pairs: every cell of the grid once, in the order of ``even_cells``, then every cell again, and so on.

    Equal arguments give equal pairs and a larger n continues a smaller one. A pair's ``frame`` is its cell
    (``interp.core.grid.Cell``). ``reserved``: tokens of each length that the tokenizer puts in by itself.
    """
    if not lengths or not depths or not all(0 <= depth <= 100 for depth in depths):
        raise ValueError(f"the grid has the lengths {list(lengths)} and the depths {list(depths)} (percent, 0 to 100)")
    pairs = []
    for i in range(n):
        turn, place = divmod(i, len(lengths) * len(depths))
        length, depth = even_cells(lengths, depths, random.Random(f"{seed} {turn}"))[place]
        made = make(random.Random(f"{seed} {turn} {length} {depth}"), length - reserved, depth, size)
        pair, placed = made if isinstance(made, tuple) else (made, None)
        pairs.append(replace(pair, frame=str(Cell(length, depth, pair.frame, placed))))
    return pairs


def even_cells(lengths: Sequence[int], depths: Sequence[int], rng: random.Random) -> list[tuple[int, int]]:
    """Every (length, depth) once, in a random order of which any beginning is even: each length comes as often as every
    other (or once more), each depth likewise, and the next one is as far as can be from those that came (two of the depths
    0, 25, ... 100 are at least 50 apart)."""
    longs, deep = _apart(lengths, rng), _apart(depths, rng)
    both = lcm(len(longs), len(deep))       # after which the same pairs would come again, but for the shift by one
    return [(longs[i % len(longs)], deep[(i + i // both) % len(deep)]) for i in range(len(longs) * len(deep))]


def _apart(numbers: Sequence[int], rng: random.Random) -> list[int]:
    """The numbers from a random one on, each as far from those before it as can be."""
    left = rng.sample(list(numbers), len(numbers))
    order = [left.pop()]
    while left:
        order.append(left.pop(max(range(len(left)), key=lambda i: min(abs(left[i] - one) for one in order))))
    return order


@cache
def own_needles() -> tuple[Needle, ...]:
    """The needles that come with interp."""
    listed = json.loads((DATA / "needles.json").read_text(encoding="utf-8"))
    return tuple(Needle(**{**item, "answers": tuple(item["answers"])}) for item in listed)


def sentences(haystack: str) -> tuple[str, ...]:
    """The sentences of a text: ``text`` is the one that comes with interp, anything else the path of a file."""
    path = DATA / "haystack.txt" if haystack == "text" else Path(haystack)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ValueError(f"the haystack {haystack!r} cannot be read ({why})") from error
    parts = re.split(r"(?<=[.!?])\s+|(?<=[.!?][\"'”’)])\s+|\n\s*\n", text)
    found = tuple(" ".join(part.split()) for part in parts if part.split())
    if len(found) < 2:
        raise ValueError(f"the haystack {haystack!r} has {len(found)} sentences, and a needle is put between two")
    return found


def text_maker(haystack: str, needles: Sequence[Needle], size: Size) -> Maker:
    """Needles in a running text, which begins at a random sentence and is repeated where it is too short.

    The needle goes behind the last whole sentence within ``depth`` percent of the text's tokens (100: to the end). The
    corrupted prompt has another answer in the needle, of as many tokens where there is one.
    """
    text = sentences(haystack)
    sizes = [size(" " + sentence) for sentence in text]
    choices = {needle: _answers(needle, size) for needle in needles}
    if clash := next((needle for needle in needles if any(needle.sentence.format(answer=answer) in " ".join(text)
                                                           for answer in needle.answers)), None):
        raise ValueError(f"the needle {clash.name!r} stands in the haystack already")

    def make(rng: random.Random, length: int, depth: int, size: Size) -> tuple[PromptPair, float]:
        needle = rng.choice(list(needles))
        answer, other = rng.choice(choices[needle])
        start = rng.randrange(len(text))
        asked = QUESTION.format(question=needle.question)
        room = length - size(" " + needle.sentence.format(answer=answer)) - size(asked)
        chosen: list[int] = []
        while sum(sizes[i] for i in chosen) + sizes[(start + len(chosen)) % len(text)] <= room:
            chosen.append((start + len(chosen)) % len(text))
        while chosen:
            inside = depth / 100 * sum(sizes[i] for i in chosen)
            before = max(k for k in range(len(chosen) + 1) if sum(sizes[i] for i in chosen[:k]) <= inside + 1e-9)
            clean = _prompt([text[i] for i in chosen], before, needle, answer)
            if size(clean.text) <= length:
                corrupt = _prompt([text[i] for i in chosen], before, needle, other)
                placed = 100 * sum(sizes[i] for i in chosen[:before]) / sum(sizes[i] for i in chosen)
                return PromptPair(clean, corrupt, f" {answer}", (f" {other}",), f" {other}", needle.name), placed
            chosen.pop()
        raise ValueError(f"a length of {length} leaves {room} tokens for the haystack, and a sentence needs "
                         f"{sizes[start]}; use longer lengths")

    return make


def list_maker(rng: random.Random, length: int, depth: int, size: Size) -> tuple[PromptPair, float]:
    """A key and its value in a list of such pairs (as in the task ``key_value``), the key asked for at the end."""
    words = [*key_value.entries().train, *key_value.entries().held_out]
    key, value, other = rng.sample(words, 3)
    rest = [word for word in rng.sample(words, len(words)) if word not in (key, value, other)]
    room = length - size("List:") - size(f" Query: {key}") - size(f" {key} {value},")
    pairs: list[str] = []
    for k, word in enumerate(rest):
        far = rest[-1 - k] if 2 * k + 2 <= len(rest) else rng.choice(rest[:k])
        room -= size(f" {word} {far},")
        if room < 0:
            break
        pairs.append(f" {word} {far}")
    if len(pairs) < 2 or room >= 0:
        raise ValueError(f"a list of length {length} would have {len(pairs) + 1} pairs, and there are words for 3 to "
                         f"{len(rest)}; choose other lengths")
    before = round(depth / 100 * len(pairs))

    def prompt(shown: str) -> Prompt:
        listed = [*pairs[:before], f" {key} {shown}", *pairs[before:]]
        head = "List:" + "".join(pair + "," for pair in listed[:before])
        tail = "".join("," + pair for pair in listed[before + 1 :])
        start = len(head)
        stop = start + len(listed[before])
        text = f"{head}{listed[before]}{tail}. Query: {key}"
        spans = {"needle": (start, stop), "answer": (stop - len(f" {shown}"), stop),
                 "question": (len(text) - len(f" {key}"), len(text))}
        return Prompt(text, spans)

    made = PromptPair(prompt(value), prompt(other), f" {value}", (f" {other}",), f" {other}", "list")
    return made, 100 * before / len(pairs)


def _answers(needle: Needle, size: Size) -> list[tuple[str, str]]:
    """Pairs of different answers; those of equally many tokens, if there are any."""
    pairs = [(one, other) for one in needle.answers for other in needle.answers if one != other]
    return [pair for pair in pairs if size(f" {pair[0]}") == size(f" {pair[1]}")] or pairs


def _prompt(text: Sequence[str], before: int, needle: Needle, answer: str) -> Prompt:
    head, tail = " ".join(text[:before]), " ".join(text[before:])
    told = (" " if head else "") + needle.sentence.format(answer=answer)
    asked = QUESTION.format(question=needle.question)
    start = len(head)
    at = start + told.rindex(f" {answer}")
    whole = head + told + (f" {tail}" if tail else "")
    of_question = asked.index(" " + needle.question)
    spans = {"needle": (start, start + len(told)), "answer": (at, at + len(f" {answer}")),
             "question": (len(whole) + of_question, len(whole) + of_question + 1 + len(needle.question))}
    return Prompt(whole + asked, spans)
