"""The live view: a prompt to edit and heads to intervene on, with the effect on the next token and on the metric.

What it draws after a change a model has to be run for: ``interp.live`` answers its questions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from interp.core.errors import InterpError
from interp.views.widgets import sources
from interp.views.widgets.view import View

INTERVENTIONS = (
    ("none", "None", "the model as it is", ()),
    ("zero", "Zero", "the heads' output z becomes 0", ("off-distribution",)),
    ("mean", "Mean", "z becomes its mean over the tokens of the batch's clean prompts", ("off-distribution",)),
    ("uniform", "Uniform", "every query attends equally to the keys that it sees", ("off-distribution",)),
    ("first", "First key", "every query attends to the first key that it sees", ("off-distribution",)),
    ("scale", "Scale", "z is multiplied by a factor", ("off-distribution",)),
    ("row", "Row edit", "the chosen query attends to the chosen key alone", ("oracle", "off-distribution")),
)
"""Name, label, what it does, and what is said of its results."""
TEXTS = 200_000
"""Characters of prompts that the view holds; longer ones cannot be edited in it."""


class Live(View):
    """Effects of interventions on the selected heads, on a prompt that can be edited; needs a model behind it."""

    kind = "live"
    _esm = sources.script("live")


def payload(data: Mapping[str, Any]) -> dict[str, Any]:
    """What the view draws without asking.

    Args:
        data: ``heads`` of each layer; ``texts`` of the prompts and ``edits`` of them (``base``, ``text``); ``answers`` of
            each prompt, right and wrong as they are shown; ``unit`` of the texts, ``text`` or ``token ids``; ``longest``
            prompt in tokens.

    Raises:
        InterpError: something else, as this view draws no results that were computed before.
    """
    wanted = {"heads", "texts", "edits", "answers", "unit", "longest"}
    if not isinstance(data, Mapping) or set(data) != wanted:
        raise InterpError("show live effects", "they are computed while one looks, from a model and a batch",
                          "call interp.views.workbench(model, batch) or interp.views.live_view(model, batch)")
    does = [{"name": name, "label": label, "what": what, "marks": list(marks)} for name, label, what, marks in INTERVENTIONS]
    return {**data, "texts": short(data["texts"]), "interventions": does}


def short(texts: Sequence[str]) -> list[str | None]:
    """Texts as far as they may be held together; None for those that are too long to be edited in the view."""
    kept: list[str | None] = []
    room = TEXTS
    for text in texts:
        kept.append(text if len(text) <= room else None)
        room -= len(text) if len(text) <= room else 0
    return kept
