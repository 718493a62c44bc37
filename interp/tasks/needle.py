"""Needle in a haystack: "... The captain named her third boat Quiet Lantern. ... Question: What ... Answer:"
-> " Quiet Lantern", over a grid of context lengths and needle depths.

* clean: a text of at most `length` tokens with one sentence (the needle) put in at `depth` percent, behind a
  whole sentence, and a question about it. `haystack` is the text: `text` (our own), the path of a file, or
  `list` for a list of keys and values in place of sentences, for models that know no language.
* corrupted: the needle has another answer (`"answer"`), of as many tokens where there is one.
* positions: `needle` (the whole sentence, or the queried pair), `answer` (within it), `question`, `end`.
* answer: what the needle says, several tokens; scored by the first token in which the answers differ, or by
  what the model generates (`retrieval_score`, `masking_curve`). wrong: the answer of the corrupted prompt.
* source: the needle-in-a-haystack test as in Wu et al. 2024 (arXiv 2404.15574), who use 20 lengths from 1,000
  to 50,000 tokens, 10 depths and 3 needles; needles, questions and text are our own.

Lengths are in tokens of the model (in words where `generate` is called without one). `depths` are percent of
the haystack. A cell of the grid is a prompt's `frame` ("length 1000, depth 50, captain, placed 47.3"): a needle
stands between whole sentences, so that it comes to stand a little less deep than asked. Fewer prompts than cells are
spread evenly over lengths and depths.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, wraps
from typing import TYPE_CHECKING, Any

from interp.core.errors import InterpError
from interp.tasks.haystack import Size, grid_pairs, list_maker, own_needles, sentences, text_maker
from interp.tasks.prompt import Keep, PromptPair, choice_of
from interp.tasks.task import Task
from interp.tasks.tokenise import begin

if TYPE_CHECKING:
    from interp.tasks.batch import Batch

CORRUPTIONS = ("answer",)
LONGEST, NEW_TOKENS, CELLS = 4096, 64, 5
"""Where no lengths are given: five, up to the model's context less 64 tokens for the answer, 4,096 at most."""
PART = 1000
"""Texts of fewer characters are sentences, whose sizes are remembered."""
WORDS = (150, 300, 600)
"""Lengths where there is no model, in words."""


def generate(
    n: int,
    seed: int,
    *,
    keep: Keep | None = None,
    corruption: str = "answer",
    lengths: int | tuple[int, ...] = (),
    depths: int | tuple[int, ...] = (0, 25, 50, 75, 100),
    needles: int = 3,
    haystack: str = "text",
) -> list[PromptPair]:
    """`n` pairs of prompts; equal arguments give equal pairs. Lengths count words; `lengths=()` stands for
    150, 300 and 600. `needles` (per cell) says how large a whole grid is."""

    def words(text: str) -> int:
        return len(text.split())

    return _pairs(n, seed, words, 0, corruption, _tuple(lengths) or WORDS, depths, needles, haystack)


def _pairs(n: int, seed: int, size: Size, reserved: int, corruption: str, lengths: int | tuple[int, ...],
           depths: int | tuple[int, ...], needles: int, haystack: str) -> list[PromptPair]:
    choice_of(corruption, CORRUPTIONS, "the corruption")
    if needles < 1:
        raise ValueError(f"a cell of the grid has at least one needle; there are {needles}")
    make = list_maker if haystack == "list" else text_maker(haystack, own_needles(), size)
    return grid_pairs(n, seed, _tuple(lengths), _tuple(depths), make, size, reserved)


@dataclass(frozen=True)
class NeedleTask(Task):
    """A task whose prompts are cut to lengths in tokens of the model at hand."""

    def batch(self, model: Any, n: int | None = None, seed: int = 0, **options: Any) -> "Batch":
        """``n`` pairs (None: the whole grid) as tokens of ``model``; options as for every task and those of ``generate``.

        Without ``lengths``, five of them up to the model's context (4,096 tokens at most).
        """
        asked = {**self.options, **options}
        if (haystack := asked["haystack"]) not in ("text", "list"):
            try:
                sentences(haystack)
            except ValueError as error:
                raise InterpError(f"use the haystack {haystack}", str(error),
                                  "give a text file, 'text' or 'list'") from error
        lengths = _tuple(asked["lengths"]) or _fitting(model)
        n = len(lengths) * len(_tuple(asked["depths"])) * asked["needles"] if n is None else n
        made = replace(self, make=_by_tokens(self.make, model.tokenizer))
        return Task.batch(made, model, n, seed, **{**options, "lengths": lengths})


def _by_tokens(make: Callable[..., list[PromptPair]], tokenizer: Any) -> Callable[..., list[PromptPair]]:
    """``generate`` with lengths in tokens."""

    @cache
    def of_part(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    def size(text: str) -> int:
        return of_part(text) if len(text) < PART else of_part.__wrapped__(text)

    @wraps(make)
    def cut(n: int, seed: int, *, keep: Keep | None = None, **options: Any) -> list[PromptPair]:
        return _pairs(n, seed, size, len(begin(tokenizer)), **{**TASK._made_by, **options})

    return cut


def _fitting(model: Any) -> tuple[int, ...]:
    most = min(LONGEST, (model.context_length or LONGEST + NEW_TOKENS) - NEW_TOKENS)
    return tuple(dict.fromkeys(max(min(128, most), round(most * (i + 1) / CELLS)) for i in range(CELLS)))


def _tuple(numbers: int | tuple[int, ...]) -> tuple[int, ...]:
    return (numbers,) if isinstance(numbers, int) else tuple(numbers)


TASK = NeedleTask(
    name="needle",
    make=generate,
    metric="logit_diff",
    positions=("needle", "answer", "question", "end"),
    source="Wu et al. 2024, arXiv 2404.15574 (the test); needles and text are our own",
    description="answer a question from one sentence in a long text",
    corruptions=CORRUPTIONS,
    fits=("gpt2",),
    first_token=True,
    version=2,
)
batch = TASK.batch
