'''Docstring completion: name the next argument of a function that its docstring has not described yet.

    def gather(self, depth, color, limit, shape):
        """fast paper river

        :param depth: green window
        :param color: old market
        :param                               -> " limit"

* clean: a function with four arguments whose docstring describes the first two.
* corrupted, by `corruption`:
  - `"definition"`: the arguments in the definition are other words, so that none of them continues the docstring;
  - `"answer"`: only the answer's word in the definition is another one, which becomes the answer;
  - `"docstring"`: the arguments described in the docstring are other words, so that it does not say how far it has come.
* positions: `A_def`, `B_def`, `C_def`, `D_def` (arguments in the definition; `C` is the answer), `A_doc`, `B_doc`, `end`.
* answer: the third argument. wrong: the other arguments, and the word that the corrupted definition has in its place.
* source: Heimersheim and Janiak 2023, "A circuit for Python docstrings in a 4-layer attention-only
  transformer"; our own words.
'''

import random

from interp.tasks.prompt import Keep, Prompt, PromptPair, Split, choice_of, usable
from interp.tasks.task import Task

CORRUPTIONS = ("definition", "answer", "docstring")
FUNCTIONS = ("gather", "split", "check", "update", "open", "copy", "build", "load", "send", "find", "move", "sort")
ARGUMENTS = (
    "depth", "color", "limit", "shape", "size", "name", "file", "path", "date", "user", "host", "port", "index",
    "value", "key", "mode", "level", "type", "count", "image", "label", "text", "page", "line", "list", "order",
    "state", "time", "test", "data", "code", "model", "event", "group", "target", "source", "result", "error", "input",
    "output",
)
DESCRIPTIONS = (
    "fast", "paper", "river", "green", "window", "old", "market", "table", "music", "cold", "garden", "silver", "road",
    "light", "stone", "animal", "winter", "glass", "city", "bread", "summer", "ocean", "bridge", "yellow", "forest",
    "metal", "bird", "sweet", "horse", "island",
)


def generate(n: int, seed: int, *, keep: Keep | None = None, split: Split = "all",
             corruption: str = "definition") -> list[PromptPair]:
    """`n` pairs of prompts; equal arguments give equal pairs. There is nothing to hold out: all splits are the same."""
    choice_of(corruption, CORRUPTIONS, "the corruption")
    choice_of(split, ("all", "train", "held_out"), "the split")
    functions = usable(FUNCTIONS, keep, 1, "function names")
    arguments = usable(ARGUMENTS, keep, 10, "argument names")
    descriptions = usable(DESCRIPTIONS, keep, 8, "words of the description")
    rng = random.Random(seed)
    return [_pair(rng, rng.choice(functions), arguments, descriptions, corruption) for _ in range(n)]


def _pair(rng: random.Random, function: str, arguments: list[str], descriptions: list[str], corruption: str) -> PromptPair:
    drawn = rng.sample(arguments, 8)
    words, others = drawn[:4], drawn[4:]
    said = rng.sample(descriptions, 7)

    def prompt(defined: list[str], described: list[str]) -> Prompt:
        segments: list[str | tuple[str, str]] = [f"def {function}(self"]
        for letter, word in zip("ABCD", defined, strict=True):
            segments += [",", (f"{letter}_def", f" {word}")]
        segments.append(f'):\n    """{said[0]} {said[1]} {said[2]}\n')
        for i, (letter, word) in enumerate(zip("AB", described, strict=True)):
            segments += ["\n    :param", (f"{letter}_doc", f" {word}"), f": {said[3 + 2 * i]} {said[4 + 2 * i]}"]
        return Prompt.of(*segments, "\n    :param")

    corrupt = {
        "definition": (others, words[:2]),
        "answer": ([*words[:2], others[2], words[3]], words[:2]),
        "docstring": (words, others[:2]),
    }[corruption]
    wrong = [word for word in words if word != words[2]] + ([] if corruption == "docstring" else [others[2]])
    return PromptPair(
        clean=prompt(words, words[:2]),
        corrupt=prompt(*corrupt),
        answer=f" {words[2]}",
        wrong=tuple(f" {word}" for word in wrong),
        corrupt_answer=f" {others[2]}" if corruption == "answer" else None,
        frame="docstring",
    )


TASK = Task(
    name="docstring",
    make=generate,
    metric="logit_diff",
    positions=("A_def", "B_def", "C_def", "D_def", "A_doc", "B_doc", "end"),
    source="Heimersheim and Janiak 2023, A circuit for Python docstrings in a 4-layer attention-only transformer",
    description="name the next argument of a function in its docstring",
    corruptions=CORRUPTIONS,
    fits=("gpt2",),
)
batch = TASK.batch
