"""Coloured objects: which of three objects has which colour, after one solved example.

    Q: On the table, there is a red pencil, a blue mug, and a green bowl. What color is the mug?
    A: Blue
    Q: On the desk, I see a black ring, a pink cup, and an orange hat. What color is the cup?
    A:                                                                                           -> " Pink"

* clean: a solved example and a question about another scene with other colours.
* corrupted: the same, but another object of the second scene is asked for, and so the answer is that object's
  colour. By `corruption`: `"query"` any other object; `"neighbour"` the object that stands next to it in the
  list.
* positions: `object_1..3` and `color_1..3` (the second scene, in order), `query` (the object asked for),
  `color` and `object` (the right colour and its object in the scene), `example_answer`, `end`.
* answer: the colour as a capitalised word (the copy changes the case). wrong: the two other colours of the
  scene.
* source: Merullo, Eickhoff and Pavlick 2024 (arXiv 2310.08744), after the task of BIG-bench; our own words
  and sentences.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from interp.tasks.prompt import Keep, Prompt, PromptPair, Split, choice_of, usable
from interp.tasks.task import Task
from interp.tasks.words import COLORS, SURFACES, THINGS

CORRUPTIONS = ("query", "neighbour")
OPENINGS = ("there is", "you see", "I see")


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def scene(surface: str, opening: str, items: list[tuple[str, str]]) -> str:
    """The sentence that lists (colour, object) items: "On the desk, I see a red pen, a blue mug, and a green
    bowl."."""
    listed = [f"{_article(color)} {color} {thing}" for color, thing in items]
    return f"On the {surface}, {opening} {', '.join(listed[:-1])}, and {listed[-1]}."


def _colors(keep: Keep | None) -> list[str]:
    """Colours that are one token both as they stand in the scene and as an answer."""
    return usable(
        COLORS.train,
        None if keep is None else lambda w: keep(w) and keep(f" {w[1:].capitalize()}"),
        6,
        "colours",
    )


def generate(
    n: int,
    seed: int,
    *,
    keep: Keep | None = None,
    split: Split = "all",
    corruption: str = "query",
    things: Sequence[str] | None = None,
) -> list[PromptPair]:
    """`n` pairs of prompts; equal arguments give equal pairs. `things` are words to use in place of our
    objects."""
    choice_of(corruption, CORRUPTIONS, "the corruption")
    colors = _colors(keep)
    objects = usable(THINGS.of(split) if things is None else things, keep, 6, "objects that have a colour")
    surfaces = usable(SURFACES.of(split), keep, 1, "surfaces")
    rng = random.Random(seed)
    return [_pair(rng, colors, objects, surfaces, corruption) for _ in range(n)]


def _pair(
    rng: random.Random, colors: list[str], things: list[str], surfaces: list[str], corruption: str
) -> PromptPair:
    drawn_colors, drawn_things = rng.sample(colors, 6), rng.sample(things, 6)
    example, items = [
        list(zip(drawn_colors[i : i + 3], drawn_things[i : i + 3], strict=True)) for i in (0, 3)
    ]
    shown, asked = rng.randrange(3), rng.randrange(3)
    others = [i for i in range(3) if i != asked and (corruption == "query" or abs(i - asked) == 1)]
    instead = rng.choice(others)
    example_scene = scene(rng.choice(surfaces), rng.choice(OPENINGS), example)
    head = f"Q: {example_scene} What color is the {example[shown][1]}?\nA:"
    surface, opening = rng.choice(surfaces), rng.choice(OPENINGS)

    def prompt(query: int) -> Prompt:
        segments: list[str | tuple[str, str]] = [
            head,
            ("example_answer", f" {example[shown][0].capitalize()}"),
        ]
        segments.append(f"\nQ: On the {surface}, {opening}")
        for i, (color, thing) in enumerate(items):
            article = ", and " + _article(color) if i == 2 else (", " if i else " ") + _article(color)
            segments += [article, (f"color_{i + 1}", f" {color}"), (f"object_{i + 1}", f" {thing}")]
        built = Prompt.of(*segments, ". What color is the", ("query", f" {items[query][1]}"), "?\nA:")
        spans = dict(built.spans)
        spans |= {"color": spans[f"color_{query + 1}"], "object": spans[f"object_{query + 1}"]}
        return Prompt(built.text, spans)

    answers = [f" {color.capitalize()}" for color, _ in items]
    return PromptPair(
        clean=prompt(asked),
        corrupt=prompt(instead),
        answer=answers[asked],
        wrong=tuple(answer for i, answer in enumerate(answers) if i != asked),
        corrupt_answer=answers[instead],
        frame=f"position {asked + 1}",
    )


TASK = Task(
    name="colored_objects",
    make=generate,
    metric="logit_diff",
    positions=(
        "object_1",
        "color_1",
        "object_2",
        "color_2",
        "object_3",
        "color_3",
        "query",
        "color",
        "object",
        "example_answer",
        "end",
    ),
    moving=("color", "object"),
    source="Merullo, Eickhoff and Pavlick 2024, arXiv 2310.08744",
    description="say the colour of one of three objects, after a solved example",
    corruptions=CORRUPTIONS,
    fits=("organism", "gpt2"),
)
batch = TASK.batch
