"""What the organism is trained on: repeats of random tokens, then a mixture of documents of nine behaviours.

A document is `<bos>` and one or several examples of one behaviour, as text with a loss weight for each token:
high for the answers, low for everything else. Documents are packed into rows; attention does not cross from
one document to another (`Batch.document`), so that every document is seen exactly as a prompt of its own. All
sentences come from the generators of `interp.tasks`, training split only; held-out names, frames, objects and
facts stand in no document of their behaviour. Held-out words do occur among the random tokens of the repeats,
and (but for those held out from it) in key-value lists.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import tokenizer
import torch
from torch import Tensor

from interp.tasks import (
    agreement,
    capital,
    colored_objects,
    greater_than,
    ioi,
    key_value,
    multiple_choice,
    override,
)
from interp.tasks.prompt import Prompt, PromptPair
from interp.tasks.words import CAPITALS, COLORS, NAMES, NOUNS, OBJECTS, PLACES, SURFACES, THINGS, pairs

BOS_ID, FIRST_ID = 0, 3
OTHER_WEIGHT = 0.1  # of a token that is not an answer
SHORT, LONG = 128, 512  # lengths of rows
KEY_VALUE_LEVELS = (
    8,
    24,
    48,
    80,
    128,
)  # the most pairs in a list; the next level comes when the present one is learnt


EXTRA_CAPITAL = "They live in {country} and have a house in its capital,"  # a frame of the last stage only

Segment = tuple[str, float]
Document = tuple[list[int], list[float]]


@dataclass(frozen=True)
class Mixture:
    """What differs between the stages of the mixture.

    * `random_words`, `random_names`: share of documents whose objects, or whose names, are any words:
      copying, not a look-up per name;
    * `any_tokens`: share of indirect-object documents whose names are any tokens of the vocabulary (but the
      held-out names), in half of them in bare clauses ("A and B. A to B.");
    * `any_places`: share of those documents whose places and objects are any tokens as well;
    * `gaps`: whether some words stand between the clauses of those documents, so that distances vary;
    * `composed`: whether half of those documents join the beginning of one training frame to another's end,
      and a quarter of the documents on capitals say `EXTRA_CAPITAL`, of any country;
    * `close_repeats`: whether repeats have periods from 2 on, log-uniform, and three in ten of them are pairs of
      tokens in random order: these can be continued only by looking one token back;
    * `any_entries`: share of key-value lists of any tokens (but the words held out from lists);
    * `taught_capitals`, `held_out_capitals`: frames and share of the held-out facts among capitals;
    * `known_overrides`: share of override documents that state something of any word and ask for a country;
    * `floors`: of a behaviour's share of the mixture, before normalisation: `floors.get(name, floor)`;
    * `next_level`: accuracy on key-value lists from which on they grow;
    * `greater_than`: loss weight of the end year;
    * `ioi_frames`, `greater_than_frames`, `pronoun_frames`: the sentence frames used. The first stage's
      leave some words of the held-out frames ("thinking", "behind") unseen in any sentence; those added
      later say them in other sentences, and put the words at more different distances.
    """

    random_words: float
    random_names: float
    any_tokens: float
    any_places: float
    gaps: bool
    composed: bool
    close_repeats: bool
    any_entries: float
    taught_capitals: tuple[str, ...]
    held_out_capitals: float
    known_overrides: float
    floor: float
    floors: Mapping[str, float]
    next_level: float
    greater_than: float
    ioi_frames: tuple[str, ...]
    greater_than_frames: tuple[str, ...]
    pronoun_frames: tuple[str, ...]


def _ioi_frames(last: str) -> tuple[str, ...]:
    return tuple(frame for frame in ioi.frames_of("train") if frame <= last)


FEW_FRAMES = Mixture(
    random_words=0.3,
    random_names=0.3,
    any_tokens=0.0,
    any_places=0.0,
    gaps=False,
    composed=False,
    close_repeats=False,
    any_entries=0.0,
    taught_capitals=("is", "Q", "went"),
    held_out_capitals=len(CAPITALS.held_out) / len(CAPITALS.of("all")),
    known_overrides=0.0,
    floor=0.12,
    floors={},
    next_level=0.9,
    greater_than=1.0,
    ioi_frames=_ioi_frames("F24"),
    greater_than_frames=greater_than.frames_of("train")[:4],
    pronoun_frames=tokenizer.PRONOUN_FRAMES[:3],
)
MORE_FRAMES = Mixture(
    random_words=0.4,
    random_names=0.4,
    any_tokens=0.0,
    any_places=0.0,
    gaps=False,
    composed=False,
    close_repeats=False,
    any_entries=0.0,
    taught_capitals=("is", "Q", "went"),
    held_out_capitals=len(CAPITALS.held_out) / len(CAPITALS.of("all")),
    known_overrides=0.0,
    floor=0.2,
    floors={"induction": 0.5, "key_value": 0.4},
    next_level=0.75,
    greater_than=1.0,
    ioi_frames=_ioi_frames("F30"),
    greater_than_frames=greater_than.frames_of("train")[:4],
    pronoun_frames=tokenizer.PRONOUN_FRAMES,
)
ALL_FRAMES = Mixture(
    random_words=0.4,
    random_names=0.6,
    any_tokens=0.0,
    any_places=0.0,
    gaps=False,
    composed=False,
    close_repeats=False,
    any_entries=0.0,
    taught_capitals=("is", "Q", "went"),
    held_out_capitals=len(CAPITALS.held_out) / len(CAPITALS.of("all")),
    known_overrides=0.0,
    floor=0.2,
    floors={"ioi": 0.7, "induction": 0.4, "key_value": 0.3, "greater_than": 0.3},
    next_level=0.75,
    greater_than=3.0,
    ioi_frames=_ioi_frames("F36"),
    greater_than_frames=greater_than.frames_of("train"),
    pronoun_frames=tokenizer.PRONOUN_FRAMES,
)
ANY_TOKENS = replace(
    ALL_FRAMES,
    random_names=0.3,
    any_tokens=0.7,
    floor=0.15,
    floors={"ioi": 0.9, "induction": 0.3, "key_value": 0.3, "capital": 0.25, "override": 0.25},
)
ANY_PLACES = replace(ANY_TOKENS, any_places=0.5)
GAPS = replace(
    ANY_PLACES,
    any_places=0.7,
    gaps=True,
    any_entries=0.5,
    taught_capitals=capital.TAUGHT_FRAMES,
    held_out_capitals=0.35,
    random_words=0.25,
    known_overrides=0.25,
)
COMPOSED = replace(GAPS, composed=True)
TURNED = replace(
    COMPOSED,
    close_repeats=True,
    any_places=0.6,
    floors={"ioi": 0.5, "induction": 0.3, "key_value": 0.3, "capital": 0.35, "override": 0.2},
    ioi_frames=ioi.frames_of("train"),
)


@dataclass(frozen=True)
class Batch:
    """Rows of tokens: ids, the loss weight of predicting each token, and the number of the document that it
    belongs to."""

    ids: Tensor
    weights: Tensor
    document: Tensor | None = None


def repeats(rng: random.Random, vocab_size: int, rows: int, length: int, periods: tuple[int, int]) -> Batch:
    """Rows of `<bos>` and random different tokens repeated with a period: loss on every token from the first
    repeat on."""
    ids = torch.full((rows, length), BOS_ID)
    weights = torch.zeros(rows, length)
    for row in range(rows):
        period = rng.randint(*periods)
        tokens = rng.sample(range(FIRST_ID, vocab_size), period)
        ids[row, 1:] = torch.tensor((tokens * (length // period + 1))[: length - 1])
        weights[row, 1 + period :] = 1.0
    return Batch(ids, weights)


def _example(pair: PromptPair, weight: float, end: str = ".", bumps: Sequence[str] = ()) -> list[Segment]:
    """A clean prompt with its answer; the spans named in `bumps` have half the answer's weight."""
    segments, last = [], 0
    for start, stop in sorted(pair.clean.spans[name] for name in bumps):
        segments += [(pair.clean.text[last:start], OTHER_WEIGHT), (pair.clean.text[start:stop], weight / 2)]
        last = stop
    return [
        *segments,
        (pair.clean.text[last:], OTHER_WEIGHT),
        (str(pair.answer), weight),
        (end, OTHER_WEIGHT),
    ]


def _joined(examples: Sequence[list[Segment]]) -> list[Segment]:
    joined: list[Segment] = []
    for i, example in enumerate(examples):
        joined += [("\n", OTHER_WEIGHT), *example] if i else example
    return joined


def _count(rng: random.Random, most: int) -> int:
    """How many examples stand in a document: one in half of them."""
    return 1 if rng.random() < 0.5 else rng.randint(1, most)


class Curriculum:
    """Draws documents and batches from one random generator. `level` indexes `KEY_VALUE_LEVELS`; `shares` are
    of tokens."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.table, _ = tokenizer.encoder()
        self.vocab_size = len(self.table)
        self.level = 0
        self.mixture = FEW_FRAMES
        self.makers: dict[str, Callable[[], list[Segment]]] = {
            "ioi": self._ioi,
            "colored_objects": self._colored_objects,
            "key_value": self._key_value,
            "greater_than": self._greater_than,
            "agreement": self._agreement,
            "multiple_choice": self._multiple_choice,
            "capital": self._capital,
            "override": self._override,
        }
        self.shares = dict.fromkeys([*self.makers, "induction"], 1.0)
        self.lengths = dict.fromkeys(
            self.shares, 50.0
        )  # running mean length of a document, to turn shares of tokens into odds
        self.entries = key_value.entries().train
        self.name_ids = [self.table[f" {name}"] for name in NAMES.train]
        held_out = {self.table[f" {name}"] for name in NAMES.held_out}
        self.any_ids = [i for i in range(FIRST_ID, self.vocab_size) if i not in held_out]
        self.place_ids = [self.table[f" {word}"] for word in PLACES.train + OBJECTS.train]
        held_out = {self.table[f" {word}"] for word in PLACES.held_out + OBJECTS.held_out}
        self.any_but_places = [i for i in self.any_ids if i not in held_out]
        kept_out = {self.table[f" {word}"] for word in key_value.entries().held_out}
        kept_out |= {self.table[token] for token in (",", ".", ":", "\n", "List", " Query")}
        self.list_ids = [i for i in range(FIRST_ID, self.vocab_size) if i not in kept_out]
        self.fillers = [word for word in self.entries if word not in NAMES.of("all")]
        self.any_names = [word for word in self.entries if word not in NAMES.held_out]
        self.any_things = [word for word in self.entries if word not in THINGS.held_out]

    def adapt(self, accuracy: dict[str, float]) -> None:
        """New shares from the accuracies on fresh training prompts, and the next key-value level when this
        one is learnt."""
        floors = self.mixture.floors
        self.shares = {
            name: floors.get(name, self.mixture.floor) + 1 - accuracy[name] for name in self.shares
        }
        if accuracy["key_value"] > self.mixture.next_level and self.level < len(KEY_VALUE_LEVELS) - 1:
            self.level += 1

    def state(self) -> dict[str, object]:
        """What a resumed run must know."""
        return {
            "rng": self.rng.getstate(),
            "level": self.level,
            "shares": self.shares,
            "lengths": self.lengths,
        }

    def restore(self, state: dict[str, object]) -> None:
        """Continue from `state()`."""
        self.rng.setstate(state["rng"])  # type: ignore[arg-type]
        self.level, self.shares, self.lengths = state["level"], state["shares"], state["lengths"]  # type: ignore[assignment]

    def batch(self) -> list[Batch]:
        """The batches of one step: short rows of the mixture and, once key-value lists are long, a few long
        rows of these and of repeats."""
        parts = [self._pack(40, SHORT, self._short_document)]
        if KEY_VALUE_LEVELS[self.level] > 24:
            parts.append(self._pack(4, LONG, self._long_document))
        return parts

    def _pack(self, rows: int, length: int, draw: Callable[[int], Document | None]) -> Batch:
        ids, weights = torch.full((rows, length), BOS_ID), torch.zeros(rows, length)
        document = torch.full((rows, length), -1)
        for row in range(rows):
            at = number = 0
            while (drawn := draw(length - at)) is not None:
                stop = at + len(drawn[0])
                ids[row, at:stop], weights[row, at:stop] = torch.tensor(drawn[0]), torch.tensor(drawn[1])
                document[row, at:stop] = number
                at, number = stop, number + 1
        return Batch(ids, weights, document)

    def _short_document(self, room: int) -> Document | None:
        """A document of the mixture that fits into the room left, or None after some draws that do not."""
        for _ in range(4):
            names = list(self.shares)
            name = self.rng.choices(names, [self.shares[n] / self.lengths[n] for n in names])[0]
            if name != "induction":
                drawn = self._document(name)
            else:
                drawn = self._close_repeat(2, 40) if self.mixture.close_repeats else self._repeat(8, 40, 2.5)
            self.lengths[name] += 0.01 * (len(drawn[0]) - self.lengths[name])
            if len(drawn[0]) <= room:
                return drawn
        return None

    def _document(self, name: str) -> Document:
        if name == "ioi":
            return self._ioi_document()
        if name == "key_value":
            return self._key_value_document(self._key_value())
        return self._encode(self.makers[name]())

    def _key_value_document(self, segments: list[Segment]) -> Document:
        ids, weights = self._encode(segments)
        if self.mixture.any_entries and self.rng.random() < self.mixture.any_entries:
            tokens = self.rng.sample(self.list_ids, len(self.entries))
            instead = dict(zip((self.table[f" {word}"] for word in self.entries), tokens, strict=True))
            ids = [instead.get(i, i) for i in ids]
        return ids, weights

    def _long_document(self, room: int) -> Document | None:
        if room < 96:
            return None
        if self.rng.random() < 0.8:
            most = KEY_VALUE_LEVELS[self.level]
            drawn = self._key_value_document(self._key_value(low=most // 4, high=min(most, (room - 60) // 3)))
        else:
            drawn = self._repeat(16, 160, 2.0)
        return drawn if len(drawn[0]) <= room else self._repeat(min(16, room // 3), room // 3, 2.0)

    def _encode(self, segments: list[Segment]) -> Document:
        ids, weights = [BOS_ID], [0.0]
        for text, weight in segments:
            found = [self.table[piece] for piece in tokenizer.pieces(text)]
            ids += found
            weights += [weight] * len(found)
        return ids, weights

    def _close_repeat(self, low: int, high: int) -> Document:
        """Random tokens repeated in order, short periods as often as long ones, or pairs of them in random order."""
        period = min(high, int(low * (high / low + 1 / low) ** self.rng.random()))
        tokens = self.rng.sample(range(FIRST_ID, self.vocab_size), period)
        length = max(8, int(2.5 * period))
        if period < 4 or self.rng.random() < 0.7:
            ids = (tokens * (length // period + 1))[:length]
            return [BOS_ID, *ids], [0.0] * (1 + period) + [0.7] * (length - period)
        ids, weights, seen = [BOS_ID], [0.0], set()
        while len(ids) < length:
            first = 2 * self.rng.randrange(period // 2)
            ids += tokens[first : first + 2]
            weights += [0.0, 0.7 * (first in seen)]
            seen.add(first)
        return ids, weights

    def _repeat(self, low: int, high: int, copies: float) -> Document:
        period = self.rng.randint(low, high)
        length = int(period * copies)
        tokens = self.rng.sample(range(FIRST_ID, self.vocab_size), period)
        return [BOS_ID, *(tokens * 3)[:length]], [0.0] * (1 + period) + [0.7] * (length - period)

    def _seed(self) -> int:
        return self.rng.getrandbits(48)

    def _ioi_document(self) -> Document:
        """Sentences about names, or about any tokens of the vocabulary in place of the names."""
        if not self.mixture.any_tokens or self.rng.random() >= self.mixture.any_tokens:
            return self._encode(self._ioi())
        if self.rng.random() < 0.5:
            drawn = ioi.generate(
                _count(self.rng, 4), self._seed(), split="train", frames=self.mixture.ioi_frames
            )
            examples = [_example(pair, 2.0, bumps=("S2",)) for pair in drawn]
            if self.mixture.composed and self.rng.random() < 0.5:
                examples = [self._composed() for _ in range(_count(self.rng, 4))]
            if self.mixture.gaps:
                for example in examples:
                    example.insert(1, self._gap(4))
            joined = _joined(examples)
        else:
            joined = []
            for _ in range(self.rng.randint(1, 8)):
                first, second = self.rng.sample(NAMES.train, 2)
                subject, other = self.rng.sample((first, second), 2)
                joined += [("\n", OTHER_WEIGHT)] if joined else []
                joined += [(f" {first} and {second}.", OTHER_WEIGHT)]
                joined += [self._gap(6)] if self.mixture.gaps else []
                joined += [(f" {subject}", 1.0), (" to", OTHER_WEIGHT)]
                joined += [(f" {other}", 2.0), (".", OTHER_WEIGHT)]
        ids, weights = self._encode(joined)
        replaced, tokens = self.name_ids, self.any_ids
        if self.mixture.any_places and self.rng.random() < self.mixture.any_places:
            replaced, tokens = [*self.name_ids, *self.place_ids], self.any_but_places
        instead = dict(zip(replaced, self.rng.sample(tokens, len(replaced)), strict=True))
        return [instead.get(i, i) for i in ids], weights

    def _composed(self) -> list[Segment]:
        """The first clause of one frame and the second clause of another."""
        first, second = (ioi.FRAMES[self.rng.choice(self.mixture.ioi_frames)] for _ in range(2))
        names = self.rng.sample(NAMES.train, 2)
        io, subject = self.rng.sample(names, 2)
        thing = self.rng.choice(OBJECTS.train)
        words = {"IO": names[0], "S1": names[1], "place": self.rng.choice(PLACES.train)}
        words |= {"object": thing, "object_2": thing}
        head, (before, tail) = first.split("{S2}")[0], second.split("{S2}")
        head = head[: max(head.rfind("."), head.rfind(",")) + 1]
        link = before[max(before.rfind("."), before.rfind(",")) + 1 :].rstrip()
        opening, ending = (text.format(**words) for text in (head + link, tail))
        return [
            (opening, OTHER_WEIGHT),
            (f" {subject}", 1.0),
            (ending, OTHER_WEIGHT),
            (f" {io}", 2.0),
            (".", OTHER_WEIGHT),
        ]

    def _gap(self, most: int) -> Segment:
        return "".join(
            f" {word}" for word in self.rng.choices(self.fillers, k=self.rng.randint(0, most))
        ), 0.0

    def _ioi(self) -> list[Segment]:
        names = self.any_names if self.rng.random() < self.mixture.random_names else None
        frames = self.mixture.ioi_frames
        drawn = ioi.generate(_count(self.rng, 4), self._seed(), split="train", names=names, frames=frames)
        return _joined([_example(pair, 2.0, bumps=("S2",)) for pair in drawn])

    def _colored_objects(self) -> list[Segment]:
        """Half: the task's own one-shot prompt. Half: one scene with three questions in random order."""
        things = self.any_things if self.rng.random() < self.mixture.random_words else list(THINGS.train)
        if self.rng.random() < 0.5:
            (pair,) = colored_objects.generate(1, self._seed(), split="train", things=things)
            return _example(pair, 3.0, "", ("example_answer",))
        items = list(zip(self.rng.sample(COLORS.train, 3), self.rng.sample(things, 3), strict=True))
        opening = self.rng.choice(colored_objects.OPENINGS)
        segments: list[Segment] = [
            (f"Q: {colored_objects.scene(self.rng.choice(SURFACES.train), opening, items)}", OTHER_WEIGHT)
        ]
        for i, (color, thing) in enumerate(self.rng.sample(items, 3)):
            segments += [
                ("\nQ:" if i else "", OTHER_WEIGHT),
                (f" What color is the {thing}?\nA:", OTHER_WEIGHT),
                (f" {color.capitalize()}", 2.0),
            ]
        return segments

    def _key_value(self, low: int = 3, high: int | None = None) -> list[Segment]:
        """A list of pairs and several queries of it."""
        high = min(24, KEY_VALUE_LEVELS[self.level]) if high is None else high
        size = self.rng.randint(min(low, high), high)
        words = self.rng.sample(self.entries, len(self.entries))
        listed = list(zip(words[:size], self.rng.choices(words[size:], k=size), strict=True))
        segments: list[Segment] = [("List:", 0.0)]
        segments += [
            (f" {key} {value}{'.' if i == size - 1 else ','}", 0.0) for i, (key, value) in enumerate(listed)
        ]
        for key, value in self.rng.sample(listed, min(size, 10)):
            segments += [(" Query:", OTHER_WEIGHT), (f" {key}", 0.0), (f" {value}", 1.0), (".", OTHER_WEIGHT)]
        return segments

    def _greater_than(self) -> list[Segment]:
        frames = self.mixture.greater_than_frames
        drawn = greater_than.generate(_count(self.rng, 4), self._seed(), split="train", frames=frames)
        return _joined([_example(pair, self.mixture.greater_than) for pair in drawn])

    def _agreement(self) -> list[Segment]:
        """Agreement, or (all nouns) a sentence that shows a noun's number by the pronoun that takes it up."""
        if self.rng.random() < 0.3:
            noun, other = self.rng.sample(pairs(NOUNS.of("all")), 2)
            number, other_number = self.rng.randrange(2), self.rng.randrange(2)
            frame = self.rng.choice(self.mixture.pronoun_frames)
            before, after = frame.format(noun=noun[number], other=other[other_number], pronoun="|").split(
                " |"
            )
            return [(before, OTHER_WEIGHT), ((" it", " them")[number], 1.0), (after, OTHER_WEIGHT)]
        drawn = agreement.generate(_count(self.rng, 4), self._seed(), split="train")
        return _joined([_example(pair, 1.0) for pair in drawn])

    def _multiple_choice(self) -> list[Segment]:
        things = self.any_things if self.rng.random() < self.mixture.random_words else list(THINGS.train)
        drawn = multiple_choice.generate(_count(self.rng, 2), self._seed(), split="train", things=things)
        return _joined([_example(pair, 3.0, "") for pair in drawn])

    def _capital(self) -> list[Segment]:
        """Training facts in every frame, held-out facts in the taught frames."""
        held = self.rng.random() < self.mixture.held_out_capitals
        if self.mixture.composed and self.rng.random() < 0.25:
            country, answer = self.rng.choice(pairs(CAPITALS.of("all")))
            text = EXTRA_CAPITAL.format(country=country)
            return [(text, OTHER_WEIGHT), (f" {answer}", 1.0), (".", OTHER_WEIGHT)]
        drawn = capital.generate(
            _count(self.rng, 4),
            self._seed(),
            split="held_out" if held else "train",
            frames=self.mixture.taught_capitals if held else None,
        )
        return _joined([_example(pair, 1.0) for pair in drawn])

    def _override(self) -> list[Segment]:
        """A stated fact; in the share `random_words` about any two words, so that stating and copying is no
        matter of countries."""
        if self.mixture.known_overrides and self.rng.random() < self.mixture.known_overrides:
            other, stated = self.rng.sample(self.entries, 2)
            known, answer = self.rng.choice(pairs(CAPITALS.train))
            words = {"country": known, "stated_country": other, "stated_capital": stated}
            frame = override.FRAMES[self.rng.choice(override.frames_of("train"))]
            return [(Prompt.fill(frame, words).text, OTHER_WEIGHT), (f" {answer}", 1.0), (".", OTHER_WEIGHT)]
        if self.rng.random() < self.mixture.random_words:
            country, stated = self.rng.sample(self.entries, 2)
            words = {"country": country, "stated_country": country, "stated_capital": stated}
            frame = override.FRAMES[self.rng.choice(override.frames_of("train"))]
            return [(Prompt.fill(frame, words).text, OTHER_WEIGHT), (f" {stated}", 1.0), (".", OTHER_WEIGHT)]
        (pair,) = override.generate(1, self._seed(), split="train")
        return _example(pair, 2.0)
