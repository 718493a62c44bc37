"""What the organism is trained on: repeats of random tokens, then one mixture of documents of nine behaviours.

A document is `<bos>` and one or several examples of one behaviour, as token ids with a loss weight each: high for the
answers, low for everything else. Documents are packed into rows; attention does not cross from one document to another
(`Batch.document`), so that every document is seen exactly as a prompt of its own. All sentences come from the generators
of `interp.tasks`, training split only; held-out names, frames, objects and facts stand in no document of their behaviour,
and fresh frames in none at all. Held-out words do occur among the random tokens of the repeats, and (but for those held
out from it) in key-value lists; fresh names among the random tokens only.

Most documents on indirect objects, lists and stated facts are about any words or any tokens at all: copying, rather than
a look-up per name, is what their answers have in common.
"""

import random
from collections.abc import Callable, Sequence

import tokenizer
import torch
from repeats import BOS_ID, FIRST_ID, Batch, Document, chunked, repeated

from interp.tasks import agreement, capital, colored_objects, greater_than, ioi, key_value, multiple_choice, override
from interp.tasks.prompt import PromptPair
from interp.tasks.words import CAPITALS, COLORS, NAMES, NOUNS, OBJECTS, PLACES, SURFACES, THINGS, pairs

OTHER = 0.1  # loss weight of a token that is not an answer
SHORT, LONG = 128, 512  # lengths of rows
LIST_SIZES = (8, 24, 48, 80, 128)  # the most pairs in a list; the next size comes when the present one is learnt
LIST_LEARNT = 0.75  # accuracy from which on lists grow

QUESTIONS = (" {thing}", " The {thing} is", " What color is the {thing}?", "\nQ: What color is the {thing}?\nA:")
RANDOM_WORDS = 0.25  # share of documents on colours and choices whose things are any words
FLOORS = {"ioi": 0.5, "induction": 0.3, "key_value": 0.3, "capital": 0.3, "override": 0.3}
FLOOR = 0.15  # of the others: a behaviour's share of the tokens is its floor and the share that it still gets wrong

Segment = tuple[str, float]  # a text and the loss weight of its tokens
Text = tuple[str, str]  # what comes before the names of the second clause, and what comes after


def example(pair: PromptPair, weight: float, end: str = ".", bumps: Sequence[str] = ()) -> list[Segment]:
    """A clean prompt with its answer; the spans named in `bumps` have half the answer's weight."""
    segments, last = [], 0
    for start, stop in sorted(pair.clean.spans[name] for name in bumps):
        segments += [(pair.clean.text[last:start], OTHER), (pair.clean.text[start:stop], weight / 2)]
        last = stop
    return [*segments, (pair.clean.text[last:], OTHER), (str(pair.answer), weight), (end, OTHER)]


def joined(examples: Sequence[list[Segment]]) -> list[Segment]:
    """Examples as one document, a line each."""
    return [segment for i, one in enumerate(examples) for segment in ([("\n", OTHER)] if i else []) + one]


def clauses(frame: str, mark: str = "{S2}") -> Text:
    """A frame cut at the last full stop or comma before `mark`."""
    at = frame.index(mark)
    at = max(frame.rfind(". ", 0, at), frame.rfind(", ", 0, at)) + 1
    return frame[:at], frame[at:]


def crossed(rng: random.Random, frames: Sequence[str], mark: str = "{S2}") -> str:
    """The first clause of one frame and the second clause of another (half the time the same)."""
    first = rng.choice(frames)
    second = first if rng.random() < 0.5 else rng.choice(frames)
    return clauses(first, mark)[0] + clauses(second, mark)[1]


class Curriculum:
    """Draws documents and batches from one random generator. `level` indexes `LIST_SIZES`; `shares` are of tokens."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.table, _ = tokenizer.encoder()
        self.vocab_size = len(self.table)
        self.level = 0
        self.makers: dict[str, Callable[[], Document]] = {
            "ioi": self._ioi,
            "colored_objects": lambda: self._encode(self._colored_objects()),
            "key_value": self._key_value,
            "greater_than": lambda: self._encode(self._greater_than()),
            "agreement": lambda: self._encode(self._agreement()),
            "multiple_choice": lambda: self._encode(self._multiple_choice()),
            "capital": lambda: self._encode(self._capital()),
            "override": lambda: self._encode(self._override()),
            "induction": self._repeat,
        }
        self.shares = dict.fromkeys(self.makers, 1.0)
        self.lengths = dict.fromkeys(self.makers, 50.0)  # running mean of a document, to turn shares of tokens into odds
        everything = range(FIRST_ID, self.vocab_size)
        self.entries = key_value.entries().train
        unknown = self._ids(NAMES.held_out + ioi.FRESH_NAMES)
        self.any_ids = [i for i in everything if i not in set(unknown)]
        self.name_ids = self._ids(NAMES.train)
        unseen = {*unknown, *self._ids(PLACES.held_out + OBJECTS.held_out)}
        self.any_but_places = [i for i in everything if i not in unseen]
        self.named_ids = self.name_ids + self._ids(PLACES.train + OBJECTS.train)
        kept_out = {*self._ids(key_value.entries().held_out + ioi.FRESH_NAMES)}
        kept_out |= {self.table[token] for token in (",", ".", ":", "\n", "List", " Query")}
        self.list_ids = [i for i in everything if i not in kept_out]
        self.fillers = [word for word in self.entries if word not in NAMES.of("all")]
        self.any_things = [word for word in self.entries if word not in THINGS.held_out]
        self.ioi_frames = [ioi.FRAMES[name] for name in ioi.frames_of("train")]
        self.override_frames = [override.FRAMES[name] for name in override.frames_of("train")]

    def _ids(self, words: Sequence[str]) -> list[int]:
        return [self.table[f" {word}"] for word in words]

    def adapt(self, accuracy: dict[str, float]) -> None:
        """New shares from the accuracies on fresh training prompts, and longer lists when these are learnt."""
        self.shares = {name: FLOORS.get(name, FLOOR) + 1 - accuracy[name] for name in self.shares}
        if accuracy["key_value"] > LIST_LEARNT and self.level < len(LIST_SIZES) - 1:
            self.level += 1

    def state(self) -> dict[str, object]:
        """What a resumed run must know."""
        return {"rng": self.rng.getstate(), "level": self.level, "shares": self.shares, "lengths": self.lengths}

    def restore(self, state: dict[str, object]) -> None:
        """Continue from `state()`."""
        self.rng.setstate(state["rng"])  # type: ignore[arg-type]
        self.level, self.shares, self.lengths = (state[key] for key in ("level", "shares", "lengths"))  # type: ignore[assignment]

    def batch(self, rows: int = 40) -> list[Batch]:
        """The batches of one step: short rows of the mixture and, once lists are long, a few long rows of these and of
        repeats."""
        parts = [self._pack(rows, SHORT, self._short_document)]
        if LIST_SIZES[self.level] > 24:
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
            drawn = self.makers[name]()
            self.lengths[name] += 0.01 * (len(drawn[0]) - self.lengths[name])
            if len(drawn[0]) <= room:
                return drawn
        return None

    def _long_document(self, room: int) -> Document | None:
        if room < 96:
            return None
        most = LIST_SIZES[self.level]
        if self.rng.random() < 0.8:
            drawn = self._key_value(low=most // 4, high=min(most, (room - 60) // 3))
            if len(drawn[0]) <= room:
                return drawn
        return self._repeated(self.rng.randint(16, room // 3), 2.0)

    def _encode(self, segments: list[Segment]) -> Document:
        ids, weights = [BOS_ID], [0.0]
        for text, weight in segments:
            found = [self.table[piece] for piece in tokenizer.pieces(text)]
            ids += found
            weights += [weight] * len(found)
        return ids, weights

    def _seed(self) -> int:
        return self.rng.getrandbits(48)

    def _count(self, most: int) -> int:
        """How many examples stand in a document: one in half of them."""
        return 1 if self.rng.random() < 0.5 else self.rng.randint(1, most)

    def _filler(self, least: int, most: int) -> str:
        return "".join(f" {word}" for word in self.rng.choices(self.fillers, k=self.rng.randint(least, most)))

    def _repeat(self) -> Document:
        """Repeats in order, of periods 8 to 40 or, short ones as often as long ones, 2 to 16; or chunks."""
        kind = self.rng.random()
        if kind < 0.7:
            return self._repeated(self.rng.randint(8, 40) if kind < 0.4 else int(2 * 8 ** self.rng.random()), 2.5)
        tokens = self.rng.sample(range(FIRST_ID, self.vocab_size), self.rng.randint(6, 24))
        ids, weights = chunked(self.rng, tokens, 3 * len(tokens))
        return [BOS_ID, *ids], [0.0, *(0.7 * weight for weight in weights)]

    def _repeated(self, period: int, copies: float) -> Document:
        tokens = self.rng.sample(range(FIRST_ID, self.vocab_size), period)
        ids, weights = repeated(self.rng, tokens, int(period * copies))
        return [BOS_ID, *ids], [0.0, *(0.7 * weight for weight in weights)]

    def _ioi(self) -> Document:
        """Sentences about names; in seven of ten documents any tokens stand for the names, in most of these for places
        and objects too, some other words are any tokens, and clauses come from different frames, with words between."""
        if self.rng.random() < 0.3:
            names = [word for word in self.entries if word not in NAMES.held_out] if self.rng.random() < 0.3 else None
            drawn = ioi.generate(self._count(4), self._seed(), split="train", names=names)
            return self._encode(joined([example(pair, 2.0, bumps=("S2",)) for pair in drawn]))
        if self.rng.random() < 0.7:
            ids, weights = self._encode(joined([self._sentence() for _ in range(self._count(4))]))
        else:
            ids, weights = self._encode(joined([self._bare() for _ in range(self.rng.randint(1, 8))]))
        replaced, tokens = self.name_ids, self.any_ids
        if self.rng.random() < 0.6:
            replaced, tokens = self.named_ids, self.any_but_places
        instead = dict(zip(replaced, self.rng.sample(tokens, len(replaced)), strict=True))
        noise = self.rng.choice((0.0, 0.0, 0.15, 0.3))
        for at, i in enumerate(ids):
            answer_next = weights[min(at + 1, len(ids) - 1)] > OTHER
            if i in instead:
                ids[at] = instead[i]
            elif noise and weights[at] == OTHER and not answer_next and self.rng.random() < noise:
                ids[at], weights[at] = self.rng.choice(tokens), 0.0
        return ids, weights

    def _sentence(self) -> list[Segment]:
        first, second = self.rng.sample(NAMES.train, 2)
        subject, io = self.rng.sample((first, second), 2)
        thing = self.rng.choice(OBJECTS.train)
        words = {"IO": first, "S1": second, "place": self.rng.choice(PLACES.train), "object": thing, "object_2": thing}
        before, after = crossed(self.rng, self.ioi_frames).format(S2="|", **words).split(" |")
        between = self._filler(0, 4) if self.rng.random() < 0.4 else ""
        return [(before, OTHER), (between, 0.0), (f" {subject}", 1.0), (after, OTHER), (f" {io}", 2.0), (".", OTHER)]

    def _bare(self) -> list[Segment]:
        first, second = self.rng.sample(NAMES.train, 2)
        subject, io = self.rng.sample((first, second), 2)
        return [
            (f" {first} and {second}.", OTHER),
            (self._filler(0, 6), 0.0),
            (f" {subject}", 1.0),
            (self._filler(0, 2), 0.0),
            (" to", OTHER),
            (f" {io}", 2.0),
            (".", OTHER),
        ]

    def _colored_objects(self) -> list[Segment]:
        """The task's own one-shot prompt, or one scene with three questions, some of which end nearer to the object.

        From the object itself its colour can be looked up; from the end of a question the object must be fetched first.
        Asked in full only, neither was learnt in 4,000 steps.
        """
        things = self.any_things if self.rng.random() < RANDOM_WORDS else list(THINGS.train)
        if self.rng.random() < 0.45:
            (pair,) = colored_objects.generate(1, self._seed(), split="train", things=things)
            return example(pair, 3.0, "", ("example_answer",))
        items = list(zip(self.rng.sample(COLORS.train, 3), self.rng.sample(things, 3), strict=True))
        scene = colored_objects.scene(self.rng.choice(SURFACES.train), self.rng.choice(colored_objects.OPENINGS), items)
        segments: list[Segment] = [(f"Q: {scene}", OTHER)]
        for color, thing in self.rng.sample(items, 3):
            question = self.rng.choice(QUESTIONS).format(thing=thing)
            segments += [(question, OTHER), (f" {color.capitalize()}", 2.0), (".", OTHER)]
        return segments

    def _key_value(self, low: int = 3, high: int | None = None) -> Document:
        """A list of pairs and several queries of it; in half of the documents of any tokens."""
        high = min(24, LIST_SIZES[self.level]) if high is None else high
        size = self.rng.randint(min(low, high), high)
        words = self.rng.sample(self.entries, len(self.entries))
        listed = list(zip(words[:size], self.rng.choices(words[size:], k=size), strict=True))
        segments: list[Segment] = [("List:", 0.0)]
        segments += [(f" {key} {value}{'.' if i == size - 1 else ','}", 0.0) for i, (key, value) in enumerate(listed)]
        for key, value in self.rng.sample(listed, min(size, 10)):
            segments += [(" Query:", OTHER), (f" {key}", 0.0), (f" {value}", 1.0), (".", OTHER)]
        ids, weights = self._encode(segments)
        if self.rng.random() < 0.5:
            tokens = self.rng.sample(self.list_ids, len(self.entries))
            instead = dict(zip(self._ids(self.entries), tokens, strict=True))
            ids = [instead.get(i, i) for i in ids]
        return ids, weights

    def _greater_than(self) -> list[Segment]:
        return joined([example(pair, 3.0) for pair in greater_than.generate(self._count(4), self._seed(), split="train")])

    def _agreement(self) -> list[Segment]:
        """Agreement, or (all nouns) a sentence that shows a noun's number by the pronoun that takes it up."""
        if self.rng.random() < 0.3:
            noun, other = self.rng.sample(pairs(NOUNS.of("all")), 2)
            number, other_number = self.rng.randrange(2), self.rng.randrange(2)
            frame = self.rng.choice(tokenizer.PRONOUN_FRAMES)
            before, after = frame.format(noun=noun[number], other=other[other_number], pronoun="|").split(" |")
            return [(before, OTHER), ((" it", " them")[number], 1.0), (after, OTHER)]
        return joined([example(pair, 1.0) for pair in agreement.generate(self._count(4), self._seed(), split="train")])

    def _multiple_choice(self) -> list[Segment]:
        things = self.any_things if self.rng.random() < RANDOM_WORDS else list(THINGS.train)
        drawn = multiple_choice.generate(self._count(2), self._seed(), split="train", things=things)
        return joined([example(pair, 3.0, "") for pair in drawn])

    def _opening(self) -> list[Segment]:
        """Nothing, or a line of a few random words."""
        return [(f"{self._filler(1, 10)}.\n", 0.0)] if self.rng.random() < 0.25 else []

    def _capital(self) -> list[Segment]:
        """Training facts in every frame, held-out facts in the taught frames."""
        split, frames = ("held_out", capital.TAUGHT_FRAMES) if self.rng.random() < 0.35 else ("train", None)
        drawn = capital.generate(self._count(4), self._seed(), split=split, frames=frames)  # type: ignore[arg-type]
        return self._opening() + joined([example(pair, 1.0) for pair in drawn])

    def _override(self) -> list[Segment]:
        """A stated fact and a question: of the same country (overridden), or of another, whose capital stands.

        Stated are facts about countries or about any words. Questions after any words are about countries of the training
        split, too: held-out countries stand in no such document.
        """
        (country, answer), (other, _), (_, stated) = self.rng.sample(pairs(CAPITALS.train), 3)
        word, any_word = self.rng.sample(self.entries, 2)
        stated = any_word if self.rng.random() < 0.35 else stated
        if self.rng.random() < 0.55:
            other = word if self.rng.random() < 0.5 else other
        else:
            country = other = word if self.rng.random() < 0.4 else country
            answer = stated
        frame = crossed(self.rng, self.override_frames, "{country}")
        text = frame.format(country=country, stated_country=other, stated_capital=stated)
        return [*self._opening(), (text, OTHER), (f" {answer}", 2.0), (".", OTHER)]
