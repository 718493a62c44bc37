"""The retrieval view: where in a long context a head looks while the model answers, and what it copies from the needle."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interp.core.errors import InterpError
from interp.core.grid import grid
from interp.core.head import Head
from interp.core.scores import HeadScores
from interp.views.labels import plural, token
from interp.views.widgets import packing, sources
from interp.views.widgets.state import HeadState
from interp.views.widgets.view import View, attached

ASKED = "show retrieval"
BINS = 240
"""Columns of the map of a whole context; each is the largest weight of its tokens."""
AROUND = 6
"""Tokens on either side of the needle whose weights are kept one by one."""
LISTED = 24
"""Heads in the list, by their score."""
LARGEST = 1_000_000
"""Characters of the packed rows of all contexts together."""


@dataclass(frozen=True, eq=False)
class NeedleRun:
    """One context, what the model answered, and where some heads looked while it did.

    Attributes:
        tokens: texts of the context's tokens. needle: the range of the needle in them (start, stop).
        said: texts of the answer's tokens, one per step.
        rows: head -> weights [step, key]: the row that each token of the answer was predicted from, over the context and
            whatever was said before (missing or zero beyond).
        copied: head -> whether the head copied that step's token [step]; None: where its largest weight stands in the needle
            on that very text.
        answered: whether the answer counts as right (1, 0, or the share that was said); NaN where nobody knows.
        cell: label of the prompt (``length 1000, depth 50, harbour``).
        prompt: which prompt of the scores (and of the batch) this is, -1 for none of them.
        special: which tokens are special.
    """

    tokens: Sequence[str]
    needle: tuple[int, int]
    said: Sequence[str]
    rows: Mapping[Head, np.ndarray]
    copied: Mapping[Head, np.ndarray] | None = None
    answered: float = float("nan")
    cell: str = ""
    prompt: int = -1
    special: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Retrieval:
    """Retrieval scores and some contexts in full.

    Attributes:
        scores: ``HeadScores`` (of ``retrieval_score``, say), or an array [layer, head] or [layer, head, prompt].
        runs: contexts to look into.
        source: one line that says what was run.
    """

    scores: Any
    runs: tuple[NeedleRun, ...] = ()
    source: str = ""


class RetrievalView(View):
    """A needle in a long context: attention of the answer's queries over it, what was copied, heads by their score."""

    kind = "retrieval"
    _esm = sources.script("retrieval")


def retrieval_view(data: Any, state: HeadState | None = None, **traits: Any) -> RetrievalView:
    """The retrieval view of scores and contexts.

    Args:
        data: a ``Retrieval`` (``interp.views.retrieval_data(model, batch)`` reads one from a model), or ``HeadScores`` of a
            retrieval measure: then the list of heads and the grid of lengths and depths alone.
        state: of another view, to be linked with. A context that is prompt i of that view's batch goes with it: choosing a
            token of the answer chooses its query and the key that the head looks at there.
        traits: how the view begins: ``sel``, ``theme``.
    """
    content = payload(data)
    if state is None and content["top"]:
        looked = content["contexts"][0]["heads"] if content["contexts"] else {}
        best = next((one for one in content["top"] if f"{one[0]}.{one[1]}" in looked), content["top"][0])
        traits = {"sel": [best[:2]], **traits}
    return RetrievalView(attached("retrieval", content, state, **traits))


def payload(data: Any) -> dict[str, Any]:
    """What the view draws; see the module for what is pooled.

    Raises:
        InterpError: neither scores nor contexts; a row that is no [step, key]; a needle outside of its context.
    """
    if isinstance(data, HeadScores):
        data = Retrieval(data)
    if not isinstance(data, Retrieval):
        raise InterpError(ASKED, f"a {type(data).__name__} holds no retrieval scores",
                          "give a Retrieval, or the HeadScores of retrieval_score")
    scores = data.scores
    mean, low, high, cells, answered = _scores(scores)
    layers, across = mean.shape
    ranked = np.argsort(-np.nan_to_num(mean.ravel(), nan=-np.inf), kind="stable")
    order = [int(at) for at in ranked if np.isfinite(mean.ravel()[at])]
    looked = sorted({(head.layer, head.head) for run in data.runs for head in run.rows})
    _check(data.runs, layers, across)
    top = [divmod(at, across) for at in order[:LISTED]]
    top += [one for one in looked if one not in top]
    flat = [layer * across + head for layer, head in top]
    found: dict[str, Any] = {
        "heads": [across] * layers, "n": _prompts(scores), "name": _name(scores), "source": data.source or _source(scores),
        "answered": None if answered is None else _short([np.nansum(answered)])[0], "total": len(order),
        "top": [[layer, head, *_short((mean.ravel()[at], low.ravel()[at], high.ravel()[at]))]
                for (layer, head), at in zip(top, flat, strict=True)],
        "grid": None, "contexts": _contexts(data.runs),
    }
    if cells:
        found["grid"] = _grids(cells, answered, scores, top)
    return found


def _scores(scores: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[str, ...], np.ndarray | None]:
    """Mean and interval [layer, head], the prompts' cells, and whether each was answered."""
    if isinstance(scores, HeadScores):
        if scores.values.ndim > 3:
            raise InterpError(ASKED, f"the scores have the further axes {', '.join(scores.dims[3:])}",
                              "choose one of each: scores.at(...)")
        mean, (low, high) = scores.mean(), scores.interval()
        if scores.unit == "kv_head":
            mean, low, high = (np.repeat(part, scores.group, axis=1) for part in (mean, low, high))
        labels = tuple(map(str, scores.coords.get("prompt", ())))
        cells = labels if labels and all(label.startswith("length ") for label in labels) else ()
        return mean, low, high, cells, scores.baselines.get("answered")
    plain = np.asarray(scores, dtype=float)
    if plain.ndim not in (2, 3):
        raise InterpError(ASKED, f"the scores have the shape {plain.shape}", "give HeadScores, or [layer, head]")
    mean = plain if plain.ndim == 2 else plain.mean(-1)
    nothing = np.full(mean.shape, np.nan)
    return mean, nothing, nothing, (), None


def _grids(cells: Sequence[str], answered: np.ndarray | None, scores: HeadScores, top: Sequence[tuple[int, int]]
           ) -> dict[str, Any]:
    """How often the needle was found by length and depth, and each listed head's mean score there."""
    group = scores.group if scores.unit == "kv_head" else 1
    per_head = {f"{layer}.{head}": grid(cells, scores.values[layer, head // group]) for layer, head in top}
    found = None if answered is None else grid(cells, answered.tolist())
    frame = found or next(iter(per_head.values()))
    parts = () if found is None else ("share", "low", "high")
    return {
        "lengths": list(frame.lengths), "depths": list(frame.depths), "n": frame.n.astype(int).tolist(),
        "found": {part: [_short(row) for row in getattr(found, part)] for part in parts} or None,
        "scores": {name: [_short(row, 3) for row in one.share] for name, one in per_head.items()},
    }


def _contexts(runs: Sequence[NeedleRun]) -> list[dict[str, Any]]:
    found = [_context(run) for run in runs]
    size = sum(len(head[part]) for context in found for head in context["heads"].values() for part in ("row", "near"))
    if size > LARGEST:
        raise InterpError(ASKED, f"the rows of {plural(len(runs), 'context')} take {size:,} characters of {LARGEST:,}",
                          "give fewer contexts, heads or steps")
    return found


def _context(run: NeedleRun) -> dict[str, Any]:
    length, (start, stop) = len(run.tokens), run.needle
    first, last = max(0, start - AROUND), min(length, stop + AROUND)
    heads = {}
    for head, given in run.rows.items():
        rows = np.asarray(given, dtype=float)
        looked = np.where(np.isfinite(rows).any(1), np.nanargmax(np.where(np.isfinite(rows), rows, -1), 1), -1)
        copied = run.copied[head] if run.copied is not None else [
            start <= at < stop and run.tokens[at] == said for at, said in zip(looked, run.said, strict=True)]
        weight = [float(row[at]) if at >= 0 else np.nan for row, at in zip(rows, looked, strict=True)]
        context = np.full((len(rows), length), 0.0)
        context[:, : min(length, rows.shape[1])] = rows[:, :length]
        heads[f"{head.layer}.{head.head}"] = {
            "row": _coded(_pooled(context)), "near": _coded(context[:, first:last]), "at": [int(at) for at in looked],
            "weight": _short(weight), "copied": [bool(one) for one in copied],
            "needle": _short(context[:, start:stop].sum(1)), "first": _short(context[:, 0]),
        }
    return {
        "cell": run.cell or plural(length, "token"), "length": length, "needle": [start, stop], "prompt": run.prompt,
        "near": [first, last], "columns": min(BINS, max(0, length - 1)), "special": list(run.special),
        "answered": float(run.answered) if np.isfinite(run.answered) else None,
        "tokens": "\n".join(token(text, 60) for text in run.tokens), "said": [token(text, 60) for text in run.said],
        "heads": heads,
    }


def _pooled(rows: np.ndarray) -> np.ndarray:
    """[step, column]: the first key apart, then the largest weight of each column's tokens (as many in each as can be)."""
    rest = rows[:, 1:]
    count = min(BINS, rest.shape[1])
    if not count:
        return rows[:, :1]
    edges = (np.arange(count) * rest.shape[1]) // count
    return np.concatenate([rows[:, :1], np.fmax.reduceat(rest, edges, axis=1)], axis=1)


def _coded(rows: np.ndarray) -> str:
    """Weights as the one-byte codes of ``interp.views.widgets.packing``, base64."""
    return base64.b64encode(packing.codes(rows, np.ones(rows.shape, dtype=bool)).tobytes()).decode()


def _check(runs: Sequence[NeedleRun], layers: int, across: int) -> None:
    for i, run in enumerate(runs):
        start, stop = run.needle
        if not 0 <= start < stop <= len(run.tokens):
            raise InterpError(ASKED, f"the needle of context {i} is {start} to {stop} of {plural(len(run.tokens), 'token')}",
                              "give its first token and the one after its last")
        for head, given in run.rows.items():
            shape = np.shape(given)
            if len(shape) != 2 or shape[0] != len(run.said) or not shape[1]:
                raise InterpError(ASKED, f"the rows of {head} in context {i} have the shape {shape} for "
                                  f"{plural(len(run.said), 'token')} of the answer", "give [step, key]")
            if head.layer >= layers or head.head >= across:
                raise InterpError(ASKED, f"{head} has rows and there are {layers} layers of {across} heads",
                                  "give scores and rows of one model")


def _prompts(scores: Any) -> int | None:
    if isinstance(scores, HeadScores):
        return scores.n_prompts
    return int(np.shape(scores)[2]) if np.ndim(scores) == 3 else None


def _name(scores: Any) -> str:
    return scores.provenance.measure.replace("_", " ") if isinstance(scores, HeadScores) else "retrieval score"


def _source(scores: Any) -> str:
    if not isinstance(scores, HeadScores):
        return ""
    whole = scores.provenance
    parts = (str(whole.model.get("name", "")), str(whole.task.get("name", "")), plural(scores.n_prompts, "prompt"))
    return " · ".join(part for part in parts if part)


def _short(values: Any, digits: int = 4) -> list[float | None]:
    return [float(f"{value:.{digits}g}") if np.isfinite(value) else None for value in values]
