"""The workbench inside a page: documents of their own, packed, that a script unpacks into frames which can reach nothing."""

import base64
import gzip
from collections.abc import Sequence

import numpy as np

from interp.report.panels import Panel
from interp.report.ranking import alike
from interp.report.results import EveryHead
from interp.views.labels import plural
from interp.views.widgets.head_metric import HeadMetric
from interp.views.widgets.page import page
from interp.views.widgets.pattern_set import PatternSet, TokenRow
from interp.views.widgets.state import HeadState

TELL = (
    "<script>new ResizeObserver(() => parent.postMessage({interpHeight: document.documentElement.offsetHeight}, '*'))"
    ".observe(document.documentElement);</script></body>"
)
"""The frame tells the page how high it is; it knows nothing else of it."""
HERE = "\0"
"""Where, in what the documents have in common, each one's own part belongs."""


def workbench(every: EveryHead, panels: tuple[Panel, ...], task: str, largest: int) -> str:
    """The workbench of one prompt as an HTML document.

    ``largest``: bytes of patterns in full that it may hold before compression; the strongest heads come first.
    """
    layers, heads = every.pattern.shape[:2]
    row = TokenRow(every.tokens, (), every.special)
    seen = np.broadcast_to(every.visible, every.pattern.shape)
    source = f"{task} · prompt {every.prompt + 1}, clean"
    patterns = PatternSet((heads,) * layers, (row,), (row,), lambda prompt, layer: (every.pattern[layer], seen[layer]),
                          every.group, panels[0].scores.attention, (every.spans,), source, every.learned_sink)
    state = HeadState(patterns, tuple(map(_metric, alike(panels))) if panels[0].mean.shape == (layers, heads) else ())
    state.header = state.header | {"id": f"{task}-{every.prompt}"}    # the same page from the same results
    return page(state, "workbench", title="Workbench", largest=largest).replace("</body>", TELL)


def packed(documents: Sequence[str]) -> tuple[str, list[str]]:
    """What all documents have in common (their scripts, mostly), with ``HERE`` in place of what is each one's own; and that.

    Both compressed, base64.
    """
    head = _common(documents)
    tail = _common([document[len(head):][::-1] for document in documents])[::-1]
    own = [document[len(head): len(document) - len(tail)] for document in documents]
    return _pack(head + HERE + tail), [_pack(text) for text in own]


def _common(texts: Sequence[str]) -> str:
    """The longest beginning that all have; of one text nothing, it is all its own."""
    first, last = min(texts), max(texts)
    if len(texts) < 2:
        return ""
    return first[: next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]


def _pack(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def _metric(panel: Panel) -> HeadMetric:
    note = f"mean of {plural(panel.scores.n_prompts, 'prompt')}"
    return HeadMetric(panel.label, panel.mean, panel.low, panel.high, panel.unit, note, panel.signed)
