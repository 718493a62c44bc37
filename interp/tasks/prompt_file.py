"""One's own prompts from a file: prompt pairs as CSV or JSON lines, used like a task."""

import csv
import io
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.core.errors import InterpError
from interp.core.registry import unknown
from interp.tasks.batch import Batch
from interp.tasks.build import build
from interp.tasks.metrics import Metric
from interp.tasks.options import read
from interp.tasks.prompt import Prompt, PromptPair

REQUIRED = ("clean", "corrupt", "answer", "wrong")
OPTIONAL = ("positions", "corrupt_positions")


@dataclass(frozen=True)
class PromptFile:
    """The prompt pairs of a file, used like a task: ``.batch(model)``.

    Attributes:
        name: the file's name without its ending.
        pairs: the pairs, in the file's order.
        lines: where each stands: ``pairs.csv line 3``.
        metric: name of the metric.
        source: the path of the file.
    """

    name: str
    pairs: tuple[PromptPair, ...]
    lines: tuple[str, ...]
    metric: str = "logit_diff"
    source: str = ""
    description: str = "prompt pairs from a file"

    @property
    def positions(self) -> tuple[str, ...]:
        """The positions that are marked in every pair."""
        return tuple(name for name in self.pairs[0].clean.spans if all(name in pair.clean.spans for pair in self.pairs))

    @property
    def options(self) -> Mapping[str, Any]:
        """The options of ``batch`` with their defaults."""
        return {"first_token": False}

    def read(self, option: str, text: str) -> Any:
        """The value of an option as written in a shell."""
        if option not in self.options:
            raise unknown(f"option of the prompts {self.name}", option, list(self.options))
        return read(option, text, self.options[option])

    def chosen(self, n: int | None = None, seed: int = 0) -> list[int]:
        """Which pairs make a batch of ``n``: all of them (None), or n drawn by ``seed`` in the file's order."""
        n = len(self.pairs) if n is None else n
        if not 1 <= n <= len(self.pairs):
            raise InterpError(f"take {n} prompts of {self.source}", f"it holds {len(self.pairs)}",
                              f"ask for 1 to {len(self.pairs)}")
        return sorted(random.Random(seed).sample(range(len(self.pairs)), n))

    def generate(self, n: int | None = None, seed: int = 0) -> list[PromptPair]:
        """``n`` pairs of the file, see ``chosen``."""
        return [self.pairs[i] for i in self.chosen(n, seed)]

    def batch(self, model: Any, n: int | None = None, seed: int = 0, *, metric: str | Metric | None = None,
              padding_side: str = "right", first_token: bool = False) -> Batch:
        """The pairs as tokens of ``model``, checked; messages name the line of the file.

        ``first_token``: score answers of several tokens by the first token in which they differ, in place of refusing them.
        """
        at = self.chosen(n, seed)
        return build(
            [self.pairs[i] for i in at], model.tokenizer, name=self.name, metric=metric or self.metric,
            positions=self.positions, padding_side=padding_side, context_length=model.context_length,
            vocab_size=model.vocab_size, device=model.device,
            first_token=first_token, places=[self.lines[i] for i in at],
            origin={"version": None, "seed": seed, "options": {"file": Path(self.source).name, "first_token": first_token}},
        )


def from_file(path: str | Path, *, metric: str = "logit_diff") -> PromptFile:
    """Prompt pairs from a CSV file (``.csv``) or JSON lines (``.jsonl``), one pair per record.

    Fields: ``clean``, ``corrupt``: the prompts. ``answer``, ``wrong``: the right and the wrong next token, with their
    leading space; several as a JSON list. ``positions`` (optional): a JSON object, name -> place in the clean prompt, which
    is the text that stands there (it must occur once), ``[text, k]`` for its k-th occurrence (from 1), or ``[start, stop]``
    in characters. ``corrupt_positions``: the same for the corrupted prompt; without it the same tokens are meant. In JSON
    lines a prompt may also be a list of token ids, and an answer a token id.

    Raises ``InterpError`` naming the file and the line.
    """
    path = Path(path)
    readers = {".csv": _csv_records, ".jsonl": _json_records, ".ndjson": _json_records}
    if path.suffix.lower() not in readers:
        raise InterpError(f"read prompts from {path}", f"its ending {path.suffix!r} is none of {', '.join(readers)}",
                          "save it as CSV or JSON lines")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InterpError(f"read prompts from {path}", "it is not UTF-8 text", "save it as UTF-8") from error
    except OSError as error:
        raise InterpError(f"read prompts from {path}", (error.strerror or str(error)).lower(), "check the path") from error
    pairs: dict[PromptPair, str] = {}
    for line, record in readers[path.suffix.lower()](text, path):
        where = f"{path.name} line {line}"
        pair = _pair(record, where)
        if pair in pairs:
            raise InterpError(f"use {where}", f"it repeats {pairs[pair]}", "remove one of the two")
        pairs[pair] = where
    if not pairs:
        raise InterpError(f"read prompts from {path}", "it holds no prompts", "give at least one pair")
    return PromptFile(path.stem, tuple(pairs), tuple(pairs.values()), metric, str(path))


def _csv_records(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(io.StringIO(text), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_fields(header, f"{path.name} line 1")
        line = reader.line_num + 1
        for cells in reader:
            if cells:
                if len(cells) != len(header):
                    raise InterpError(f"use {path.name} line {line}", f"it has {len(cells)} cells for {len(header)} columns",
                                      'put text with commas between quotes (")')
                record: dict[str, Any] = dict(zip(header, cells, strict=True))
                for name in ("answer", "wrong"):
                    if record[name].startswith("["):
                        record[name] = _json(record[name], f"{path.name} line {line}", name)
                for name in OPTIONAL:
                    if record.get(name):
                        record[name] = _json(record[name], f"{path.name} line {line}", name)
                yield line, {name: value for name, value in record.items() if value != ""}
            line = reader.line_num + 1
    except csv.Error as error:
        raise InterpError(f"use {path.name} line {reader.line_num}", f"it is no CSV ({error})",
                          "correct the quotes") from error


def _json_records(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, content in enumerate(text.split("\n"), start=1):
        if content.strip():
            record = _json(content, f"{path.name} line {line}", "the line")
            if not isinstance(record, dict):
                raise InterpError(f"use {path.name} line {line}", "it is no JSON object", 'write {"clean": ..., ...}')
            _check_fields(list(record), f"{path.name} line {line}")
            yield line, record


def _check_fields(fields: list[str], where: str) -> None:
    for name in fields:
        if name not in (*REQUIRED, *OPTIONAL):
            raise unknown(f"field of {where}", name, [*REQUIRED, *OPTIONAL])
    for name in REQUIRED:
        if name not in fields:
            raise InterpError(f"use {where}", f"it has no {name!r}", f"give {', '.join(REQUIRED)}")


def _json(text: str, where: str, what: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        true = f"{what} is not JSON ({error.msg} at column {error.colno})"
        raise InterpError(f"use {where}", true, "correct it") from error


def _pair(record: dict[str, Any], where: str) -> PromptPair:
    for name in REQUIRED:
        if record.get(name) in (None, "", []):
            raise InterpError(f"use {where}", f"its {name!r} is empty", "fill it in")
    right, wrong = (_listed(record[name], where, name) for name in ("answer", "wrong"))
    clean = _prompt(record["clean"], record.get("positions"), where, "clean")
    corrupt = _prompt(record["corrupt"], record.get("corrupt_positions"), where, "corrupt")
    return PromptPair(clean, corrupt, right[0], wrong, answers=right)


def _listed(value: Any, where: str, name: str) -> tuple[str | int, ...]:
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) or (isinstance(item, int) and not isinstance(item, bool)) for item in items):
        raise InterpError(f"use {where}", f"its {name!r} is no text, no token id and no list of these", "correct it")
    return tuple(items)


def _prompt(value: Any, positions: Any, where: str, which: str) -> Prompt:
    if isinstance(value, list) and all(isinstance(token, int) and not isinstance(token, bool) for token in value):
        text, ids = "", tuple(value)
    elif isinstance(value, str):
        text, ids = value, None
    else:
        raise InterpError(f"use {where}", f"its {which!r} is neither text nor a list of token ids", "correct it")
    if positions is not None and not isinstance(positions, dict):
        raise InterpError(f"use {where}", "its positions are no JSON object", 'write {"name": place}')
    spans = {name: _range(place, text, where, name) for name, place in (positions or {}).items()}
    try:
        return Prompt(text, spans, ids)
    except ValueError as error:
        raise InterpError(f"use {where}", str(error), "correct its positions") from error


def _range(place: Any, text: str, where: str, name: str) -> tuple[int, int]:
    """The characters that a place means: its text, [text, k], or [start, stop]."""
    if isinstance(place, list) and len(place) == 2 and all(isinstance(x, int) for x in place):
        return place[0], place[1]
    word, k = place if isinstance(place, list) and len(place) == 2 else (place, None)
    if not isinstance(word, str) or not word or not (k is None or isinstance(k, int)):
        true = f"the position {name!r} is none of text, [text, k] and [start, stop]"
        raise InterpError(f"use {where}", true, "correct it")
    found = [at for at in range(len(text)) if text.startswith(word, at)]
    if not found or (k is None and len(found) > 1) or (k is not None and not 1 <= k <= len(found)):
        raise InterpError(f"use {where}", f"{word!r}, the position {name!r}, occurs {len(found)} times in the prompt",
                          "write [text, k] for its k-th occurrence")
    return found[(k or 1) - 1], found[(k or 1) - 1] + len(word)
