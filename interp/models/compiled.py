"""``Compiled``: a program compiled to the weights of a transformer, so that what it computes, and by which edges, is known.

    made = COMPILED["compiled-reverse"]()
    model = interp.load("compiled-reverse")

Weights and vocabulary lie in ``data/compiled``, with the programs and the script that compiles them. Source: Lindner et al.
2023 (arXiv 2301.05062). Each model is a plain transformer (no norms, ReLU, attention in both directions): a prompt is the
start token and six words, the answer stands at the last of them; output words have tokens of their own, ``=a`` for ``a``.
A program whose output is a number writes it to the logit of ``value``; the logit of ``zero`` is 0.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from interp.core.errors import InterpError
from interp.core.registry import Registry
from interp.models.handmade.handmade import TokenPair, word_tokenizer
from interp.models.plain import PlainConfig, PlainForCausalLM

MOST_TRIES = 10_000


@dataclass(frozen=True, eq=False)
class Compiled:
    """A compiled program.

    Attributes:
        name, computes: what it is called (``compiled-reverse``), and what it computes at each position.
        vocabulary: the word of each token id; then the words of the output.
        tokens: the words that a prompt is made of. length: how many of them it has. distinct: whether none comes twice.
        numerical: whether the output is a number.
        model: its weights in float32, evaluation mode.
    """

    name: str
    computes: str
    vocabulary: tuple[str, ...]
    tokens: tuple[str, ...]
    length: int
    distinct: bool
    numerical: bool
    model: PlainForCausalLM

    @property
    def tokenizer(self):
        """Words apart by spaces; the start token is put before them."""
        return word_tokenizer(self.vocabulary)

    @torch.no_grad()
    def outputs(self, prompts: torch.Tensor) -> torch.Tensor:
        """The program's output at the last token: the id of its word, or the number, [prompt]."""
        logits = self.model(input_ids=prompts).logits[:, -1]
        return logits[:, self.vocabulary.index("value")] if self.numerical else logits.argmax(dim=-1)

    def pairs(self, n: int, seed: int = 0) -> list[TokenPair]:
        """``n`` pairs of random prompts whose outputs at the last token differ; the same for the same seed.

        Answer and wrong answer are the two outputs; of a number, ``value`` and ``zero``, the larger one first.
        """
        if n < 1:
            raise InterpError(f"make {n} prompts of {self.name}", "there must be at least one", "ask for n >= 1")
        rng = random.Random(seed)
        ids = [self.vocabulary.index(word) for word in self.tokens]
        found: list[TokenPair] = []
        for _ in range(MOST_TRIES):
            drawn = torch.tensor([self._draw(rng, ids) for _ in range(2 * n)])
            written = self.outputs(drawn)
            for clean, corrupt, one, other in zip(drawn[:n].tolist(), drawn[n:].tolist(), written[:n].tolist(),
                                                  written[n:].tolist(), strict=True):
                if abs(one - other) < 1e-3 or (not self.numerical and self._silent(one, other)):
                    continue
                right, wrong = int(one), int(other)
                if self.numerical:
                    value, zero = (self.vocabulary.index(word) for word in ("value", "zero"))
                    right, wrong = (value, zero) if one > other else (zero, value)
                found.append(TokenPair(tuple(clean), tuple(corrupt), right, wrong, {"end": self.length}))
                if len(found) == n:
                    return found
        raise InterpError(f"make {n} pairs of {self.name}", "its output is nearly always the same", "ask for fewer")

    def _draw(self, rng: random.Random, ids: list[int]) -> list[int]:
        start = self.vocabulary.index("<bos>")
        return [start, *(rng.sample(ids, self.length) if self.distinct else rng.choices(ids, k=self.length))]

    def _silent(self, *written: float) -> bool:
        """Whether an output is no word of the output: the program leaves it open there."""
        return any(not self.vocabulary[int(token)].startswith("=") for token in written)


def frozen(folder: str) -> list[Path]:
    """The JSON files of the models frozen in a folder of ``data``, of a checkout or a wheel; the weights lie beside them."""
    package = Path(__file__).resolve().parent.parent
    places = (package.parent / "data" / folder, package / "_data" / folder)
    return next((sorted(place.glob("*.json")) for place in places if place.is_dir()), [])


def fields(file: Path, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of a ``Compiled`` from its JSON file and the weights beside it, and all that the file says."""
    facts = json.loads(file.read_text(encoding="utf-8"))
    with torch.random.fork_rng(devices=[]):
        model = PlainForCausalLM(PlainConfig(**facts["config"], bos_token_id=facts["vocabulary"].index("<bos>"))).eval()
    model.load_state_dict(load_file(file.with_suffix(".safetensors")))
    found = {name: facts[name] for name in ("computes", "length", "distinct", "numerical")}
    found |= {name: tuple(facts[name]) for name in ("vocabulary", "tokens")}
    return found | {"name": f"{kind}-{facts['name']}", "model": model}, facts


def _build(file: Path) -> Compiled:
    return Compiled(**fields(file, "compiled")[0])


COMPILED: Registry[Callable[[], Compiled]] = Registry("compiled model")
for _file in frozen("compiled"):
    COMPILED.add(f"compiled-{_file.stem}", partial(_build, _file))
