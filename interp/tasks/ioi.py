"""Indirect object identification: "When Mary and John went to the store, John gave a drink to" -> " Mary".

* clean: a first clause names two people, the second repeats one of them (the subject, `S`); the answer is the
  other one (`IO`).
* corrupted, by `corruption`:
  - `"abc"`: a third name stands in place of the repeated subject, so that neither name is the answer (Wang et
    al. 2022);
  - `"s2_io"`: the repeated subject is exchanged for the indirect object, so that the answer becomes `S`
    (Merullo et al. 2024);
  - `"names"`: all three mentions are other, mutually different names.
* positions: `IO`, `S1`, `S2` (and `place`, `object` where the frame has them), `end`.
* answer: the indirect object. wrong: the subject.
* source: Wang et al. 2022 (arXiv 2211.00593), whose fifteen sentence frames `F01`-`F15` say in our words, and
  others of our own.

`order` is the order of the names in the first clause: "ABBA" has the indirect object first, "BABA" the
subject first, "both" draws one.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from interp.tasks.prompt import Keep, Prompt, PromptPair, Split, choice_of, usable
from interp.tasks.task import Task
from interp.tasks.words import NAMES, OBJECTS, PLACES

CORRUPTIONS = ("abc", "s2_io", "names")
ORDERS = ("both", "ABBA", "BABA")

# {IO} and {S1} are written in ABBA order; the other order exchanges the two slots.
FRAMES: Mapping[str, str] = {
    "F01": "Then, {IO} and {S1} went to the {place}. {S2} gave a {object} to",
    "F02": "Then, {IO} and {S1} had a lot of fun at the {place}. {S2} gave a {object} to",
    "F03": "Then, {IO} and {S1} were working at the {place}. {S2} decided to give a {object} to",
    "F04": "Then, {IO} and {S1} were thinking about going to the {place}. {S2} wanted to give a {object} to",
    "F05": "Then, {IO} and {S1} had a long argument, and afterwards {S2} said to",
    "F06": "After {IO} and {S1} went to the {place}, {S2} gave a {object} to",
    "F07": "When {IO} and {S1} got a {object} at the {place}, {S2} decided to give it to",
    "F08": "When {IO} and {S1} got a {object} at the {place}, {S2} decided to give the {object_2} to",
    "F09": "While {IO} and {S1} were working at the {place}, {S2} gave a {object} to",
    "F10": "While {IO} and {S1} were on their way to the {place}, {S2} gave a {object} to",
    "F11": "After the lunch, {IO} and {S1} went to the {place}. {S2} gave a {object} to",
    "F12": "Afterwards, {IO} and {S1} went to the {place}. {S2} gave a {object} to",
    "F13": "Then, {IO} and {S1} had a long argument. Afterwards {S2} said to",
    "F14": "The {place} {IO} and {S1} went to had a {object}. {S2} gave it to",
    "F15": "Friends {IO} and {S1} found a {object} at the {place}. {S2} gave it to",
    "F16": "When {IO} and {S1} went to the {place}, {S2} gave a {object} to",
    "F17": "Yesterday {IO} and {S1} met at the {place}, and {S2} showed a {object} to",
    "F18": "Before {IO} and {S1} left the {place}, {S2} handed a {object} to",
    "F19": "Because {IO} and {S1} had a {object} with them at the {place}, {S2} offered it to",
    "F20": "One day {IO} and {S1} were playing at the {place}. Then {S2} sent a {object} to",
    "F21": "At the {place}, {IO} and {S1} were very happy. {S2} brought a {object} to",
    "F22": "In the morning {IO} and {S1} walked to the {place}. There {S2} passed a {object} to",
    "F23": "It was late when {IO} and {S1} came to the {place}, so {S2} gave the {object} to",
    "F24": "Once {IO} and {S1} were alone in the {place}, {S2} told a story to",
    "F25": "After {IO} and {S1} were thinking about a {object}, {S2} handed the {object_2} to",
    "F26": "Then, {IO} and {S1} wanted a {object}. {S2} got the {object_2} and gave it to",
    "F27": "One day {IO} and {S1} were going to the {place}, and {S2} sent a {object} to",
    "F28": "Friends {IO} and {S1} were at the {place}. There {S2} passed the {object} to",
    "F29": "When {IO} and {S1} walked to the {place}, {S2} told a story to",
    "F30": "Afterwards, {IO} and {S1} found a {object}. {S2} gave it to",
    "F31": "Then, {IO} and {S1} were alone at the {place} in the morning. {S2} wanted to give a {object} to",
    "F32": "After {IO} and {S1} decided to visit the {place} near the river, {S2} told a story to",
    "F33": "Yesterday {IO} and {S1} saw a {object} next to the {place}. {S2} wanted to give it to",
    "F34": "Because {IO} and {S1} were very happy about going to the {place}, {S2} gave a {object} to",
    "F35": (
        "One day {IO} and {S1} decided to live in a house near the {place}. There {S2} passed a {object} to"
    ),
    "F36": (
        "Friends {IO} and {S1} were thinking about a long visit at the {place}. Then {S2} sent a {object} to"
    ),
    "F37": "In the morning {IO} and {S1} were working at the {place}, and {S2} gave a {object} to",
    "F38": "In a house near the river {IO} and {S1} had a {object}. Then {S2} told a story to",
    "F39": "Yesterday {IO} and {S1} walked to the {place}. Afterwards {S2} wanted to give a {object} to",
    "F40": "There {IO} and {S1} were thinking about a {object}, and {S2} passed it to",
    "F41": "Because {IO} and {S1} were late, {S2} told a story to",
    "F42": "Then, {IO} and {S1} left the {place}, and afterwards {S2} gave a {object} to",
    "F43": "Once {IO} and {S1} were happy at the {place}, {S2} handed a {object} to",
    "F44": "Friends {IO} and {S1} had a long argument at the {place}. Afterwards {S2} sent a {object} to",
    "F45": "One day {IO} and {S1} came to the {place} with a {object}. {S2} decided to give it to",
    "F46": "When {IO} and {S1} were alone, {S2} told a long story to",
    "F47": "After the dinner {IO} and {S1} were very tired. {S2} sang a song to",
    "F48": "The old friends {IO} and {S1} were far from home. Every day {S2} wrote a letter to",
    "F49": "Today {IO} met {S1} at the {place}, and {S2} showed the {object} to",
    "F50": "While {IO} and {S1} were talking, {S2} smiled at",
    "F51": "Since {IO} and {S1} had no {object}, {S2} bought a new {object_2} for",
    "F52": "Last night {IO} and {S1} came home late, and {S2} cooked a meal for",
    "F53": "Now {IO} and {S1} are sitting in the {place}. After some time {S2} waves to",
    "F54": "As soon as {IO} and {S1} saw the {place}, {S2} threw the {object} to",
    "F55": "It was raining, so {IO} and {S1} stayed at the {place}. {S2} read a {object} to",
    "F56": "Although {IO} and {S1} were angry, {S2} said hello to",
    "F57": "There was a {object} in the {place}. Soon {IO} and {S1} saw it, and {S2} handed it to",
    "F58": "Two people, {IO} and {S1}, lived near the {place}. {S2} often talked to",
    "F59": "The teacher saw {IO} and {S1} at the {place}. Later {S2} sold a {object} to",
    "F60": "Today {IO} was at the {place} when {S1} came in. {S2} gave a {object} to",
    "F61": "First {IO} looked for a {object}, and {S1} looked for it too. Then {S2} lent it to",
    "F62": "If {IO} and {S1} go to the {place}, {S2} will give a {object} to",
    "F63": "Every morning {IO} and {S1} go to the {place}, where {S2} brings a {object} to",
    "F64": "Both {IO} and {S1} liked the {object}, but {S2} left it to",
    "F65": "Tired and hungry, {IO} and {S1} sat down. {S2} passed the bread to",
    "F66": "On the way home, {IO} and {S1} had an argument. In the end {S2} said sorry to",
    "F67": "Now {IO} and {S1} work together. Today {S2} explained everything to",
    "F68": "Not long ago {IO} and {S1} were very poor. Now {S2} sends money to",
    "F69": "With {IO} and {S1} at the {place}, {S2} could give the {object} to",
    "F70": "As {IO} and {S1} had won the game, {S2} made a dinner for",
    "F71": "Two friends met. They were called {IO} and {S1}, and {S2} spoke first to",
    "F72": "I saw {IO} and {S1} yesterday. {S2} was talking to",
    "F73": "We know that {IO} and {S1} were happy, because {S2} sang to",
    "F74": "She told us about {IO} and {S1}. It seems that {S2} paid a visit to",
    "F75": "Near the river {IO} and {S1} found a house, and {S2} opened the door for",
    "F76": "Until {IO} and {S1} got to the {place}, {S2} did not speak to",
    "F77": "Then {IO} lost the {object} that {S1} liked. So {S2} bought another one for",
    "F78": "Everyone at the {place} knew {IO} and {S1}. At night {S2} told the news to",
    "F79": "Whenever {IO} and {S1} play, {S2} throws the ball to",
    "F80": "In the evening {IO} and {S1} cleaned the {place}. Without a word {S2} returned the {object} to",
    "F81": "Once upon a time {IO} and {S1} were king and queen, and {S2} gave a {object} to",
    "F82": "When the train stopped, {IO} and {S1} got out, and {S2} carried the {object} for",
    "F83": "At the {place} {IO} and {S1} sat next to each other. Soon {S2} was whispering to",
    "F84": "Yesterday a letter came for {IO} and {S1}. {S2} read it to",
    "F85": "Here come {IO} and {S1}. Perhaps {S2} has a {object} for",
    "F86": "After {IO} and {S1} found the {object}, {S2} sold it to",
    "F87": "One day {IO} and {S1} walked to the {place} near the river. Soon {S2} handed the {object} to",
    "F88": "Once {IO} and {S1} were hungry, {S2} made a meal for",
    "F89": "Since {IO} and {S1} liked the {place}, {S2} bought a {object} for",
    "F90": "Yesterday {IO} and {S1} were at home. Then {S2} sang a song to",
    "F91": "It was at the {place} that I saw {IO} with {S1}. Later {S2} waves to",
    "F92": "If the {object} is not for {IO}, it is for {S1}. In the end {S2} left it to",
    "F93": "We told {S1} about the {place}, and {IO} was there too. Now {S2} is talking to",
    "F94": "The teacher, the doctor, and two friends, {IO} and {S1}, came to the dinner. {S2} did not speak to",
    "F95": (
        "Once {IO} and {S1} had a house. It was old, and it was far from the river. It seems that the queen liked it. "
        "Today {S2} opened the door for"
    ),
}
HELD_OUT_FRAMES = ("F04", "F09", "F12", "F15", "F22")
FRESH_FRAMES = tuple(f"F{i}" for i in range(86, 96))  # in no split: written when the organism was in training
FRESH_NAMES = (  # in no list: the organism meets them among random tokens only
    "Hannah", "Olivia", "Sophia", "Ethan", "Nathan", "Samuel", "Benjamin", "Martha", "Judith", "Teresa", "Dorothy",
    "Howard", "Gordon", "Warren",
)


def frames_of(split: Split) -> tuple[str, ...]:
    """The names of the frames that a split may use."""
    if split == "held_out":
        return HELD_OUT_FRAMES
    return tuple(name for name in FRAMES if split == "all" or name not in HELD_OUT_FRAMES + FRESH_FRAMES)


def generate(
    n: int,
    seed: int,
    *,
    keep: Keep | None = None,
    split: Split = "all",
    corruption: str = "abc",
    order: str = "both",
    frames: tuple[str, ...] | None = None,
    names: Sequence[str] | None = None,
) -> list[PromptPair]:
    """`n` pairs of prompts; equal arguments give equal pairs.

    `frames` restricts them to some keys of `FRAMES`; `names` are words to use in place of our names.
    """
    choice_of(corruption, CORRUPTIONS, "the corruption")
    choice_of(order, ORDERS, "the order of the names")
    people = usable(NAMES.of(split) if names is None else names, keep, 6, "names for indirect objects")
    places = usable(PLACES.of(split), keep, 1, "places for indirect objects")
    objects = usable(OBJECTS.of(split), keep, 1, "objects for indirect objects")
    chosen = (
        frames_of(split)
        if frames is None
        else tuple(choice_of(frame, tuple(FRAMES), "the frame") for frame in frames)
    )
    rng = random.Random(seed)
    return [_pair(rng, rng.choice(chosen), people, places, objects, corruption, order) for _ in range(n)]


def _pair(
    rng: random.Random,
    frame: str,
    names: list[str],
    places: list[str],
    objects: list[str],
    corruption: str,
    order: str,
) -> PromptPair:
    io, subject, third, *others = rng.sample(names, 6)
    thing = rng.choice(objects)
    words = {
        "IO": io,
        "S1": subject,
        "S2": subject,
        "place": rng.choice(places),
        "object": thing,
        "object_2": thing,
    }
    template = FRAMES[frame]
    if order == "BABA" or (order == "both" and rng.random() < 0.5):
        template = template.replace("{IO}", "{S1_}").replace("{S1}", "{IO}").replace("{S1_}", "{S1}")
    changed = {
        "abc": {"S2": third},
        "s2_io": {"S2": io},
        "names": {"IO": others[0], "S1": others[1], "S2": others[2]},
    }[corruption]
    return PromptPair(
        clean=Prompt.fill(template, words),
        corrupt=Prompt.fill(template, words | changed),
        answer=f" {io}",
        wrong=(f" {subject}",),
        corrupt_answer=f" {subject}" if corruption == "s2_io" else None,
        frame=frame,
    )


TASK = Task(
    name="ioi",
    make=generate,
    metric="logit_diff",
    positions=("IO", "S1", "S1+1", "S2", "end"),
    source="Wang et al. 2022, arXiv 2211.00593",
    description="say who receives: of two people the one who is not named again",
    corruptions=CORRUPTIONS,
    fits=("organism", "gpt2"),
)
batch = TASK.batch
