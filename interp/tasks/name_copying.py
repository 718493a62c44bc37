"""Name copying: "Once upon a time, there was a happy bunny named Max. One day, M" -> "ax", not "ia".

* clean: a story's first sentence names somebody, the second is about to name them again.
* corrupted, by `corruption`:
  - `"name"`: the name is another one with the same first letter, whose rest becomes the answer;
  - `"absent"`: the name is an unrelated one, so that nothing in the prompt says how to go on.
* positions: `name` (the whole name where it is introduced), `end`.
* answer: the name. wrong: the other name with the same first letter.
* scored by the first token in which the two names differ: what they share before it (for a tokenizer of letters the space
  and the first letter; for one with whole names nothing) is appended to the prompt. The story models solve it in this form:
  given "M" they know which name was meant, while they might begin the sentence with "he" or "she".
* source: our own; copying of this kind is what induction heads do (Olsson et al. 2022, arXiv 2209.11895). Words of
  TinyStories (Eldan and Li 2023, arXiv 2305.07759).
"""

import random
from collections.abc import Mapping

from interp.tasks.prompt import Keep, Prompt, PromptPair, Split, choice_of, usable
from interp.tasks.task import Task

CORRUPTIONS = ("name", "absent")
FRAMES: Mapping[str, str] = {
    "day": "Once upon a time, there was a {adjective} {animal} named {name}. One day,",
    "thing": "There was a {animal} named {name}. It had a {adjective} {thing}. One day,",
    "friend": "One day, a {adjective} {animal} met a new friend named {name}.",
    "hello": "{name} was a {adjective} {animal}. It liked to play with a {thing}. One day,",
    "lived": "In a {adjective} house there lived a {animal} named {name}.",
    "loved": "Once upon a time, there was a {animal} named {name} that loved a {adjective} {thing}. One day,",
}
NAMES = (
    "Max", "Mia", "Mary", "Molly", "Sam", "Sue", "Sara", "Spot", "Ben", "Bob", "Bella", "Billy", "Jack", "John", "Joe",
    "Lily", "Lucy",
)
ANIMALS = ("dog", "cat", "bunny", "bear", "bird", "fish", "frog", "mouse")
ADJECTIVES = ("happy", "little", "big", "small", "red", "blue", "nice", "funny")
THINGS = ("ball", "car", "toy", "box", "doll", "boat", "hat", "book")


def generate(n: int, seed: int, *, keep: Keep | None = None, split: Split = "all", corruption: str = "name",
             frames: tuple[str, ...] | None = None) -> list[PromptPair]:
    """`n` pairs of prompts; equal arguments give equal pairs. `frames` restricts them to some keys of `FRAMES`.

    There is nothing to hold out: all splits are the same.
    """
    choice_of(corruption, CORRUPTIONS, "the corruption")
    choice_of(split, ("all", "train", "held_out"), "the split")
    names = usable(NAMES, keep, 4, "names")
    chosen = tuple(FRAMES) if frames is None else tuple(choice_of(frame, tuple(FRAMES), "the frame") for frame in frames)
    rivals = [(one, other) for one in names for other in names if one != other and one[0] == other[0]]
    if not rivals:
        raise ValueError("no two of the names that are left begin with the same letter")
    rng = random.Random(seed)
    return [_pair(rng, rng.choice(chosen), *rng.choice(rivals), names, corruption) for _ in range(n)]


def _pair(rng: random.Random, frame: str, name: str, other: str, names: list[str], corruption: str) -> PromptPair:
    words = {"animal": rng.choice(ANIMALS), "adjective": rng.choice(ADJECTIVES), "thing": rng.choice(THINGS), "name": name}
    unrelated = rng.choice([word for word in names if word[0] != name[0]])
    instead = other if corruption == "name" else unrelated
    return PromptPair(
        clean=Prompt.fill(FRAMES[frame], words),
        corrupt=Prompt.fill(FRAMES[frame], words | {"name": instead}),
        answer=f" {name}",
        wrong=(f" {other}",),
        corrupt_answer=f" {other}" if corruption == "name" else None,
        frame=frame,
    )


TASK = Task(
    name="name_copying",
    make=generate,
    metric="logit_diff",
    positions=("name", "end"),
    source="our own, after Olsson et al. 2022, arXiv 2209.11895, in the words of TinyStories (arXiv 2305.07759)",
    description="name somebody again who was named before",
    corruptions=CORRUPTIONS,
    fits=("stories260K", "babyllama361", "gpt2"),
    first_token=True,
)
batch = TASK.batch
