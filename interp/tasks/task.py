"""``Task``: a behaviour with its prompts, positions, corruptions and metric. Holds no model; making a batch loads torch."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from interp.core.errors import InterpError
from interp.core.registry import unknown
from interp.tasks.options import read
from interp.tasks.prompt import PromptPair
from interp.tasks.tokenise import SingleTokens, begin, corresponds

if TYPE_CHECKING:
    from interp.tasks.batch import Batch
    from interp.tasks.metrics import Metric

Generator = Callable[..., list[PromptPair]]


@dataclass(frozen=True)
class Task:
    """One behaviour.

    Attributes:
        name: e.g. ``ioi``.
        make: the generator: ``(n, seed, *, keep, corruption, ...) -> list[PromptPair]``; its keywords are the options.
        metric: name of its default metric.
        positions: names of positions that every prompt has; ``S1+1`` is the token after ``S1``; ``end`` always exists.
        source: where the task was published.
        description: one sentence: what the model must do.
        corruptions: the ways to corrupt a prompt, the default first.
        moving: positions that stand elsewhere in the corrupted prompt by design, e.g. "the right colour".
        fits: names of models whose words suit it, for listings and tests.
        first_token: whether answers of several tokens are scored by the first token in which they differ.
        default_n: how many prompts make a batch if the caller does not say.
        version: raised whenever the same seed gives other prompts.
    """

    name: str
    make: Generator
    metric: str
    positions: tuple[str, ...]
    source: str
    description: str
    corruptions: tuple[str, ...]
    moving: tuple[str, ...] = ()
    fits: tuple[str, ...] = ("organism",)
    first_token: bool = False
    default_n: int = 64
    version: int = 1

    @property
    def default_corruption(self) -> str:
        """The corruption that is used if the caller does not say."""
        return self.corruptions[0]

    @property
    def options(self) -> Mapping[str, Any]:
        """Every option of ``batch`` that is the task's own, with its default."""
        return self._made_by | {"first_token": self.first_token}

    @property
    def _made_by(self) -> dict[str, Any]:
        """The options of the generator with their defaults."""
        found = inspect.signature(self.make).parameters.values()
        return {p.name: p.default for p in found if p.kind is p.KEYWORD_ONLY and p.name != "keep"}

    def read(self, option: str, text: str) -> Any:
        """The value of an option as written in a shell: ``16-32``, ``F01,F02``, ``true``."""
        if option not in self.options:
            raise unknown(f"option of the task {self.name}", option, list(self.options))
        return read(option, text, self.options[option])

    def generate(self, n: int | None = None, seed: int = 0, *, keep: Callable[[str], bool] | None = None,
                 accept: Callable[[PromptPair], bool] | None = None, **options: Any) -> list[PromptPair]:
        """``n`` pairs with different clean prompts; equal arguments give equal pairs, a larger n continues a smaller one.

        ``keep`` says which words may be used, ``accept`` which pairs.

        Raises ``InterpError`` for an unknown option or corruption, n < 1, or more pairs than the options allow.
        """
        n = self.default_n if n is None else n
        asked = f"make {n} prompts of the task {self.name}"
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise InterpError(asked, "a batch has at least one prompt", "give n of 1 or more")
        for option in options:
            if option not in self._made_by:
                raise unknown(f"option of the task {self.name}", option, list(self.options))
        if options.get("corruption", self.default_corruption) not in self.corruptions:
            raise unknown(f"corruption of the task {self.name}", str(options["corruption"]), list(self.corruptions))
        drawn = n
        while True:
            try:
                pairs = self.make(drawn, seed, keep=keep, **options)
            except ValueError as error:
                raise InterpError(asked, str(error), "change the options, or use another model") from error
            found: dict[object, PromptPair] = {}
            for pair in pairs:
                key = pair.clean.text if pair.clean.ids is None else pair.clean.ids
                if key not in found and (accept is None or accept(pair)):
                    found[key] = pair
            if len(found) >= n:
                return list(found.values())[:n]
            if drawn > 16 * n + 512:
                true = f"these options give only {len(found)} different prompts"
                raise InterpError(asked, true, f"ask for at most {len(found)}, or change the options")
            drawn *= 2

    def batch(self, model: Any, n: int | None = None, seed: int = 0, *, metric: "str | Metric | None" = None,
              padding_side: str = "right", first_token: bool | None = None, **options: Any) -> "Batch":
        """``n`` pairs as tokens of ``model``, checked: words are single tokens, spans are found, answers fit.

        ``first_token`` (None: as the task says): words may be several tokens, and answers are scored by the first token in
        which they differ. Otherwise words that are no single token are left out and reported in ``batch.dropped``. Pairs
        that the tokenizer cuts differently when clean and when corrupted, or across a named position, are replaced and
        counted in ``batch.misaligned``. A task on random tokens takes ``tokens="vocabulary"`` (all but the special ones), or
        token ids; for a model without a tokenizer it takes the vocabulary by itself. ``model`` needs ``tokenizer``,
        ``context_length``, ``vocab_size``, ``device`` and ``name``.
        """
        from interp.tasks.build import build  # loads torch

        tokenizer = model.tokenizer
        on_ids = "tokens" in self._made_by
        asked = dict(options)
        if tokenizer is None:
            if not on_ids:
                true = "its prompts are text and the model has no tokenizer"
                raise InterpError(f"use the task {self.name} on {model.name}", true,
                                  "load the model with tokenizer=, or give prompts with interp.tasks.from_tokens")
            asked.setdefault("tokens", "vocabulary")
        if asked.get("tokens") == "vocabulary":
            special = set() if tokenizer is None else set(tokenizer.all_special_ids)
            size = model.vocab_size if tokenizer is None else min(model.vocab_size, len(tokenizer))
            options["tokens"] = [token for token in range(size) if token not in special]
        first_token = self.first_token if first_token is None else first_token
        keep = None if tokenizer is None or first_token else SingleTokens(tokenizer)
        verdicts: dict[PromptPair, bool] = {}
        first = begin(tokenizer)

        def accept(pair: PromptPair) -> bool:
            if pair not in verdicts:
                verdicts[pair] = corresponds(tokenizer, pair, self.moving, first)
            return verdicts[pair]

        pairs = self.generate(n, seed, keep=keep, accept=accept, **options)
        settled = {"corruption": self.default_corruption, **self.options, **asked, "first_token": first_token}
        return build(
            pairs, tokenizer, name=self.name, metric=metric or self.metric, positions=self.positions, moving=self.moving,
            padding_side=padding_side, context_length=model.context_length, vocab_size=model.vocab_size, device=model.device,
            first_token=first_token, dropped=() if keep is None else keep.dropped,
            misaligned=list(verdicts.values()).count(False),
            origin={"version": self.version, "seed": seed, "options": settled},
        )
