"""``HeadState``: what every view of one workbench shares: the data, and what is looked at."""

import uuid
from collections.abc import Callable, Sequence
from typing import Any

import anywidget
import numpy as np
import traitlets

from interp import __version__
from interp.core.errors import InterpError
from interp.core.head import Head
from interp.views import colours, labels
from interp.views.widgets.head_metric import SINK, HeadMetric
from interp.views.widgets.packing import full, overview
from interp.views.widgets.pattern_set import PatternSet, TokenRow

ATTENTION = {"light": ("#FFFFFF", "#DEEBF7", "#9ECAE1", "#4292C6", "#08519C", "#08306B"),
             "dark": ("#18181B", "#14304F", "#1F5A94", "#4292C6", "#9ECAE1", "#DEEBF7")}
QUERY = {"light": ("#FFFFFF", "#FDD9B5", "#F4A259", "#E66101"), "dark": ("#18181B", "#5A2C05", "#B5530A", "#FDB863")}
GREY = {"light": ("#FFFFFF", "#595C63"), "dark": ("#18181B", "#A5A8B0")}
UNDEFINED = {"light": "#CC79A7", "dark": "#CC79A7"}
SINKS = ("show", "hide", "renormalise")
GRIDS = ("both", "pattern", "metric")
SCALES = ("shared", "head")
THEMES = ("auto", "light", "dark")


class HeadState(anywidget.AnyWidget):
    """The state that views share: ``selected``, ``query``, ``key``, ``metric`` and how they are drawn.

    A change here shows in every view at once, and a click in any view shows here. ``observe`` one of the traits ``sel``,
    ``query``, ``key``, ``metric``, ``prompt`` to act on it.

    Attributes:
        sel: selected heads as [layer, head] lists, the last one is looked at. Read and write ``selected`` instead.
        query, key: token that is looked from (rows) and at (columns); -1 for none.
        metric: name of the metric that colours the head grid. grid: ``both``, ``pattern`` or ``metric``.
        sink: what happens to the first key: ``show`` apart, ``hide``, or ``renormalise`` the rest to one.
        scale: ``shared`` colours for all heads, or each ``head`` its own.
        theme: ``auto`` (the host's), ``light`` or ``dark``. prompt: which prompt.
        edge: selected edge, as in ``L0H5->L2H1<k>``; empty for none. task: selected task.
        step: training step of the checkpoint that is looked at; -1 for the last.
        threshold: edges of a circuit whose score is smaller are not drawn.
        payloads: what each further view draws, by its kind (``show``); plain JSON.
        ask, reply: a view's question to Python and the answer (``answer``).
    """

    _esm = "export default {};"

    header = traitlets.Dict().tag(sync=True)
    thumbnails = traitlets.Bytes().tag(sync=True)
    sinks = traitlets.Bytes().tag(sync=True)
    table = traitlets.Bytes().tag(sync=True)
    full = traitlets.Bytes().tag(sync=True)
    full_key = traitlets.Dict().tag(sync=True)
    request: traitlets.List[Any] = traitlets.List().tag(sync=True)
    sel: traitlets.List[Any] = traitlets.List().tag(sync=True)
    hover: traitlets.List[Any] = traitlets.List().tag(sync=True)
    query = traitlets.Int(-1).tag(sync=True)
    key = traitlets.Int(-1).tag(sync=True)
    metric = traitlets.Unicode().tag(sync=True)
    grid = traitlets.Enum(GRIDS, "both").tag(sync=True)
    sink = traitlets.Enum(SINKS, "show").tag(sync=True)
    scale = traitlets.Enum(SCALES, "shared").tag(sync=True)
    theme = traitlets.Enum(THEMES, "auto").tag(sync=True)
    prompt = traitlets.Int(0).tag(sync=True)
    edge = traitlets.Unicode().tag(sync=True)
    task = traitlets.Unicode().tag(sync=True)
    step = traitlets.Int(-1).tag(sync=True)
    threshold = traitlets.Float(0.0).tag(sync=True)
    payloads = traitlets.Dict().tag(sync=True)
    ask = traitlets.Dict().tag(sync=True)
    reply = traitlets.Dict().tag(sync=True)

    def __init__(self, patterns: PatternSet | None = None, metrics: Sequence[HeadMetric] = (), *,
                 heads: Sequence[int] | None = None, **traits: Any) -> None:
        heads = _heads(patterns, metrics, heads)
        super().__init__(**traits)
        self._answers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {}
        self.patterns = patterns
        self.metrics = tuple(metrics)
        self.heads = heads
        self._show()
        if not self.sel:
            self.sel = self._strongest()
        self._answer()
        self.observe(lambda change: self._show(), "prompt")
        self.observe(lambda change: self._answer(), "request")
        self.observe(lambda change: self._reply(), "ask")

    def show(self, kind: str, payload: dict[str, Any]) -> None:
        """Give a further view (``patching``, ``circuit``, ...) its data; shows at once where it is drawn."""
        self.payloads = {**self.payloads, kind: payload}

    def answer(self, kind: str, to: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Have ``to`` answer a kind of view's questions: a dictionary in, one out; an ``InterpError`` is shown as it is."""
        self._answers[kind] = to
        self.header = {**self.header, "answers": sorted(self._answers)}

    def look(self, patterns: PatternSet, prompt: int) -> None:
        """Look at a prompt of other patterns of the same heads: prompts were added to them, or changed."""
        if patterns.heads != self.heads:
            raise InterpError("look at other patterns", "they are of other heads", "give patterns of the same model")
        with self.hold_sync():
            self.patterns = patterns
            if self.key >= len(patterns.keys[prompt].texts):
                self.key = -1
            if prompt == self.prompt:
                self._show()
            else:
                self.prompt = prompt

    def _reply(self) -> None:
        kind, question = self.ask.get("kind"), self.ask.get("question")
        to = self._answers.get(str(kind))
        if to is None:
            return
        try:
            found = to(dict(question or {}))
        except InterpError as refused:
            found = {"error": str(refused)}
        self.reply = {"kind": kind, "n": self.ask.get("n"), "answer": found}

    @property
    def selected(self) -> tuple[Head, ...]:
        """The selected heads, in order of selection."""
        return tuple(Head(int(layer), int(head), self._attention) for layer, head in self.sel)

    @selected.setter
    def selected(self, heads: Sequence[Head | str] | Head | str) -> None:
        chosen = [Head.parse(head) for head in ([heads] if isinstance(heads, Head | str) else heads)]
        for head in chosen:
            if head.layer >= len(self.heads) or head.head >= self.heads[head.layer] or head.attention != self._attention:
                true = f"there are {len(self.heads)} layers of {max(self.heads)} heads"
                raise InterpError(f"select the head {head}", true, "name a head that is shown")
        self.sel = [[head.layer, head.head] for head in chosen]

    @property
    def _attention(self) -> str:
        return self.patterns.attention if self.patterns else "self"

    def _strongest(self) -> list[list[int]]:
        """The head with the largest magnitude of the first metric, so that there is something to see."""
        mean = np.abs(self.metrics[0].mean) if self.metrics else np.zeros((len(self.heads), max(self.heads)))
        there = np.array([[head < count for head in range(mean.shape[1])] for count in self.heads])
        at = np.argmax(np.where(there & np.isfinite(mean), mean, -1))
        return [[int(at // mean.shape[1]), int(at % mean.shape[1])]]

    def _show(self) -> None:
        """Send the overview of the chosen prompt and the metrics."""
        patterns, number = self.patterns, self.prompt
        if patterns is not None and not 0 <= number < patterns.n_prompts:
            raise InterpError(f"show prompt {number}", f"there are {labels.plural(patterns.n_prompts, 'prompt')}",
                              "choose one of them, counted from 0")
        metrics = list(self.metrics)
        seen = overview(patterns, number) if patterns else None
        if seen is not None:
            nothing = np.full(seen.sinks.shape, np.nan)
            note = f"mean over the queries of prompt {number}"
            metrics.append(HeadMetric(SINK, seen.sinks.astype(float), nothing, nothing, "of the attention", note, False))
        across = max(self.heads)
        header: dict[str, Any] = {
            "id": uuid.uuid4().hex, "heads": list(self.heads), "across": across, "layers": list(range(len(self.heads))),
            "group": patterns.group if patterns else 1, "attention": self._attention, "palette": palette(),
            "metrics": [{"name": m.name, "unit": m.unit, "note": m.note, "signed": m.signed, "sink": m.name == SINK}
                        for m in metrics],
            "answers": sorted(self._answers), "made": f"interp {__version__}",
        }
        if patterns is not None and seen is not None:
            rows, columns = seen.thumbnails.shape[2:]
            queries = patterns.queries[number]
            spans = patterns.spans[number] if patterns.spans else {}
            marks = patterns.marks or ("",) * patterns.n_prompts
            source = " · ".join(part for part in (patterns.source, marks[number] and f"{marks[number]} prompt") if part)
            header |= {
                "thumb": {"rows": rows, "columns": columns, "block": seen.block},
                "limit": seen.limit, "clipped": seen.clipped,
                "rest": patterns.learned_sink, "source": source,
                "prompt": {"queries": token_row(queries), "keys": token_row(patterns.keys[number]),
                           "spans": {name: list(span) for name, span in spans.items()}},
                "prompts": [f"{mark}: {_preview(row)}" if mark else _preview(row)
                            for mark, row in zip(marks, patterns.queries, strict=True)] if patterns.n_prompts > 1 else [],
            }
            if not 0 <= self.query < len(queries.texts):
                self.query = len(queries.texts) - 1
        table = np.zeros((len(metrics), 3, len(self.heads), across), np.float32)
        for i, one in enumerate(metrics):
            table[i] = one.mean, one.low, one.high
        with self.hold_sync():
            self.thumbnails = seen.thumbnails.tobytes() if seen else b""
            self.sinks = seen.sinks.astype("<f4").tobytes() if seen else b""
            self.table = table.astype("<f4").tobytes()
            names = [m.name for m in metrics] + [one["name"] for one in self.payloads.get("training", {}).get("metrics", ())]
            self.metric = self.metric if self.metric in names else names[0] if names else ""
            self.header = header

    def _answer(self) -> None:
        """Send the head that a view asked for, or the selected one."""
        if self.patterns is None:
            return
        asked = self.request[:3] if len(self.request) >= 3 else [self.prompt, *self.sel[-1]]
        prompt, layer, head = (int(part) for part in asked)
        if prompt != self.prompt:
            return
        found = full(self.patterns, prompt, layer, head)
        with self.hold_sync():
            self.full = found.data
            self.full_key = found.key | {"id": self.header["id"], "n": self.request[3] if len(self.request) > 3 else 0}


def _heads(patterns: PatternSet | None, metrics: Sequence[HeadMetric], given: Sequence[int] | None) -> tuple[int, ...]:
    """Heads of each layer, which patterns and metrics must agree on."""
    if patterns is None and not metrics and given is None:
        raise InterpError("show heads", "there are neither patterns nor scores", "give one of them")
    shapes = {metric.name: metric.mean.shape for metric in metrics}
    if patterns is not None:
        heads = patterns.heads
    else:
        heads = (metrics[0].mean.shape[1],) * metrics[0].mean.shape[0] if metrics else tuple(given or ())
    if not heads or not max(heads):
        raise InterpError("show heads", "no layer has any", "give a model with attention")
    for name, shape in shapes.items():
        if shape != (len(heads), max(heads)):
            true = f"it has {shape[0]} layers of {shape[1]} heads, the others {len(heads)} of {max(heads)}"
            raise InterpError(f"show {name}", true, "give scores of the same model")
    return tuple(heads)


def token_row(row: TokenRow) -> dict[str, Any]:
    """Tokens as they are drawn: visible labels, which are special, after which a line breaks, and what each is exactly."""
    shown = [labels.token(text, 300) for text in row.texts]
    titles = [ascii(text) if len(text) < 300 else ascii(text[:300]) + "…" for text in row.texts]
    if row.ids:
        titles = [f"{title}, id {number}" for title, number in zip(titles, row.ids, strict=True)]
    return {"labels": shown, "special": list(row.special), "titles": titles,
            "breaks": [i for i, text in enumerate(row.texts) if "\n" in text]}


def _preview(row: TokenRow, longest: int = 48) -> str:
    text = "".join(labels.token(text).replace("·", " ") for i, text in enumerate(row.texts) if i not in row.special)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def palette() -> dict[str, dict[str, Any]]:
    """Colours of both themes, by what they are for."""
    return {
        theme: {
            "attention": list(ATTENTION[theme]), "sink": list(GREY[theme]), "fromQuery": list(QUERY[theme]),
            "fromKey": list(ATTENTION[theme]), "missing": UNDEFINED[theme], "ring": "#D55E00",
            "query": "#E66101", "key": "#0072B2" if theme == "light" else "#56B4E9",
            "positive": list(colours.POSITIVE_DARK if theme == "dark" else colours.POSITIVE),
            "negative": list(colours.NEGATIVE_DARK if theme == "dark" else colours.NEGATIVE),
        }
        for theme in ("light", "dark")
    }
