"""Pronoun agreement: "A little girl named Kim was walking in the park when" -> " she", not " he".

* clean: a boy or a girl with a name that suits both; then a sentence that goes on with the pronoun.
* corrupted, by `corruption`:
  - `"gender"`: only the boy is exchanged for a girl, or the girl for a boy; the name stays, so that the noun alone decides;
  - `"person"`: the name is exchanged as well.
* positions: `noun` ("little girl"), `name`, `end`.
* answer: the pronoun of the noun's gender. wrong: the other one.
* scored by the first token in which the pronouns differ (a space that they share goes to the prompt).
* source: our own, after the gender agreement of Vig et al. 2020 (arXiv 2004.12265) and Mathwin et al. 2023 ("Identifying a
  preliminary circuit for predicting gendered pronouns in GPT-2 small"). Words of TinyStories (Eldan and Li 2023, arXiv
  2305.07759).

The nouns come in pairs, so that every tokenizer finds one with equally many tokens ("little boy" and "small girl" have
equally many letters).
"""

import random
from collections.abc import Mapping

from interp.tasks.prompt import Keep, Prompt, PromptPair, Split, choice_of, usable
from interp.tasks.task import Task

CORRUPTIONS = ("gender", "person")
FRAMES: Mapping[str, str] = {
    "playing": "A {noun} named {name} was playing in the {place} when",
    "walking": "A {noun} named {name} was walking in the {place} when",
    "thing": "One day, a {noun} named {name} was playing with a {thing} when",
    "sad": "A {noun} named {name} was sad because",
    "happy": "A {noun} named {name} was very happy because",
    "cried": "One day, a {noun} named {name} cried because",
    "tired": "A {noun} named {name} was tired, so",
    "wanted": "One day, a {noun} named {name} wanted to play, so",
    "hungry": "A {noun} named {name} was very hungry, so",
    "went": "One day, a {noun} named {name} went to the {place}.",
    "had": "There was a {noun} named {name} who had a big {thing}.",
}
NEW_SENTENCE = ("went", "had")
NOUNS = (("little boy", "little girl"), ("boy", "girl"), ("little boy", "small girl"), ("young boy", "tiny girl"),
         ("small boy", "tiny girl"), ("happy boy", "kind girl"), ("little boy", "funny girl"))
NAMES = ("Kim", "Alex", "Jo", "Pip", "Robin", "Ray", "Leo", "Charlie", "Andy", "Lou", "Dan")
PLACES = ("park", "garden", "house", "forest", "yard")
THINGS = ("ball", "car", "toy", "box", "doll", "boat")


def generate(n: int, seed: int, *, keep: Keep | None = None, split: Split = "all", corruption: str = "gender",
             frames: tuple[str, ...] | None = None) -> list[PromptPair]:
    """`n` pairs of prompts; equal arguments give equal pairs. `frames` restricts them to some keys of `FRAMES`.

    There is nothing to hold out: all splits are the same.
    """
    choice_of(corruption, CORRUPTIONS, "the corruption")
    choice_of(split, ("all", "train", "held_out"), "the split")
    names = usable(NAMES, keep, 2, "names")
    chosen = tuple(FRAMES) if frames is None else tuple(choice_of(frame, tuple(FRAMES), "the frame") for frame in frames)
    rng = random.Random(seed)
    return [_pair(rng, rng.choice(chosen), names, corruption) for _ in range(n)]


def _pair(rng: random.Random, frame: str, names: list[str], corruption: str) -> PromptPair:
    nouns, gender = rng.choice(NOUNS), rng.randrange(2)
    name, other = rng.sample(names, 2)
    words = {"noun": nouns[gender], "name": name, "place": rng.choice(PLACES), "thing": rng.choice(THINGS)}
    changed = {"noun": nouns[1 - gender]} | ({"name": other} if corruption == "person" else {})
    pronouns = (" He", " She") if frame in NEW_SENTENCE else (" he", " she")
    return PromptPair(
        clean=Prompt.fill(FRAMES[frame], words),
        corrupt=Prompt.fill(FRAMES[frame], words | changed),
        answer=pronouns[gender],
        wrong=(pronouns[1 - gender],),
        corrupt_answer=pronouns[1 - gender],
        frame=frame,
    )


TASK = Task(
    name="pronoun",
    make=generate,
    metric="logit_diff",
    positions=("noun", "name", "end"),
    source="our own, after Vig et al. 2020, arXiv 2004.12265, in the words of TinyStories (arXiv 2305.07759)",
    description="go on with the pronoun of a boy or girl named before",
    corruptions=CORRUPTIONS,
    fits=("stories260K", "babyllama361", "gpt2"),
    first_token=True,
)
batch = TASK.batch
