"""What the live view asks of a model: interventions on the selected heads, run on a prompt and on the batch's.

The view sends what it is about (which prompt, its text if it was edited, which heads, which intervention), and is answered
with the next token before and after, and with the batch's metric before and after with its interval.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.core.head import Head
from interp.core.intervals import bootstrap
from interp.core.registry import unknown
from interp.engine.forward import measured, run
from interp.engine.intervention import AttendToFirst, Intervention, Mean, RowEdit, Scale, Uniform, Value, Zero
from interp.tasks.batch import Tokens
from interp.tasks.tokenise import begin, token_text, token_texts
from interp.tasks.typed import answer_ids, prompt_ids, prompt_text
from interp.views import labels
from interp.views.widgets.live import INTERVENTIONS, payload
from interp.views.widgets.pattern_set import Layer, TokenRow
from interp.views.widgets.state import HeadState
from interp.views.widgets.view import attached

PROMPTS = 32
"""Prompts of the batch that the metric is measured on."""
TOP = 8
"""Tokens of the largest logits that are listed, before and after each."""
ANSWERS = 4
"""Right answers, and wrong ones, that are listed besides."""
LONGEST = 4096
"""Tokens of an edited prompt, where the model's context is no bound."""
NAMES = {name: label.lower() for name, label, _, _ in INTERVENTIONS}
MARKS = {name: marks for name, _, _, marks in INTERVENTIONS}
Reader = Callable[[int, int], Layer]


def possible(model: Any, batch: Any, attention: str) -> str:
    """Why nothing can be shown live of this model and batch; empty where it can."""
    if not model.vocab_size:
        return f"{model.name} has no output over a vocabulary"
    if attention != "self":
        return f"{attention} attention has other prompts than those that are continued"
    if not isinstance(getattr(batch, "clean", None), Tokens):
        return "the prompts are no tokens"
    try:
        begin(model.tokenizer)
    except InterpError as refused:
        return str(refused)
    return ""


def attach(state: HeadState, model: Any, batch: Any, reader: Callable[[Sequence[Tokens]], Reader]) -> None:
    """Have a state's live view ask this model.

    Args:
        state: whose patterns are those of the batch's first prompts.
        reader: tokens of prompts -> what reads their patterns, by the number of the prompt and the layer.

    Raises:
        InterpError: nothing can be shown live of them (``possible``).
    """
    why = possible(model, batch, state.header["attention"])
    if why or state.patterns is None:
        raise InterpError("show live effects", why or "the state shows no prompts", "leave the live view out")
    tokenizer, original = model.tokenizer, state.patterns
    count = original.n_prompts
    rows = batch.clean.rows()[:count]
    first = begin(tokenizer)
    texts = [prompt_text(tokenizer, first, batch, i, rows[i]) for i in range(count)]
    edits: list[dict[str, Any]] = []
    scored = getattr(batch, "paired", True)
    part = batch.subset(range(min(batch.n, PROMPTS)))
    untouched: dict[tuple[int, ...] | str, Any] = {}

    def answers_of(base: int) -> tuple[list[int], list[int]]:
        if not scored:
            return [], []
        sides = ((batch.answers, batch.answer_mask), (batch.wrong, batch.wrong_mask))
        right, wrong = (ids[base][mask[base]].tolist() for ids, mask in sides)
        return right, wrong

    def shown_answers(base: int) -> list[str]:
        return [", ".join(labels.token(token_text(tokenizer, one)) for one in ids[:ANSWERS]) + ", …" * (len(ids) > ANSWERS)
                for ids in answers_of(base)]

    def drawn() -> dict[str, Any]:
        return payload({"heads": list(original.heads), "texts": texts, "unit": "text" if tokenizer else "token ids",
                        "edits": [{"base": one["base"], "text": one["text"]} for one in edits],
                        "answers": [shown_answers(base) for base in range(count)], "longest": longest(model)})

    def edited(base: int, text: str) -> int:
        """The number of the further prompt that this text is; it takes the place of an earlier edit of the same prompt."""
        found = next((i for i, one in enumerate(edits) if one["base"] == base), None)
        if found is not None and edits[found]["text"] == text:
            return count + found
        ids = prompt_ids(tokenizer, first, text, longest=longest(model), vocab_size=model.vocab_size)
        entry = {"base": base, "text": text, "ids": ids}
        if found is None:
            edits.append(entry)
        else:
            edits[found] = entry
        further = tuple(_row(tokenizer, one["ids"]) for one in edits)
        own = reader([Tokens.pad([one["ids"]]) for one in edits])

        def read(prompt: int, layer: int) -> Layer:
            return own(prompt - count, layer) if prompt >= count else original.read(prompt, layer)

        spans = [*(original.spans or ({},) * count), *({"end": (len(one["ids"]) - 1, len(one["ids"]))} for one in edits)]
        number = count + edits.index(entry)
        state.show("live", drawn())
        marks = ("",) * count + ("edited",) * len(edits)
        state.look(replace(original, queries=original.queries + further, keys=original.keys + further, spans=tuple(spans),
                           marks=marks, read=read), number)
        return number

    def before(ids: Sequence[int]) -> Tensor:
        if tuple(ids) not in untouched:
            if len(untouched) > 2 * PROMPTS:
                untouched.clear()
            untouched[tuple(ids)] = run(model, Tokens.pad([ids])).logits[0].double().cpu()
        return untouched[tuple(ids)]

    def on_batch(items: Sequence[Intervention]) -> dict[str, Any]:
        if "batch" not in untouched:
            untouched["batch"] = measured(run(model, part).logits, part)
        before_, after = untouched["batch"], measured(run(model, part, items, may_be_identity=True).logits, part)
        metric = part.metric
        return {"name": metric.name.replace("_", " "), "unit": metric.unit, "sense": metric.sense, "n": part.n,
                "of": batch.n, "task": batch.task, "before": _interval(before_), "after": _interval(after),
                "change": _interval(after - before_)}

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        start = time.perf_counter()
        base = int(question.get("base", 0))
        if not 0 <= base < count:
            raise InterpError(f"change prompt {base}", f"there are {count}", "choose one of them")
        text = question.get("text")
        number = base if text is None or text == texts[base] else edited(base, str(text))
        ids, own = (rows[base] if number < count else edits[number - count]["ids"]), number >= count
        kind = str(question.get("do", "none"))
        right, wrong = (answer_ids(tokenizer, str(question.get(side, "")), own_ids, model.vocab_size)
                        for side, own_ids in zip(("answer", "wrong"), answers_of(base), strict=True))
        heads = [Head(int(layer), int(head), original.attention) for layer, head in question.get("heads", state.sel)]
        places = int(question.get("query", -1)), int(question.get("key", -1))
        items = interventions(kind, heads, factor=float(question.get("factor", 0)), row=places, reference=part)
        _within(kind, places, len(ids))
        found: dict[str, Any] = {"prompt": number, "marks": list(MARKS[kind]) if items else [], "batch": None, "why": "",
                                 "said": "; ".join(map(str, items)), "acted": True,
                                 "columns": ["now"], "last": labels.token(token_text(tokenizer, ids[-1]))}
        now = before(ids)
        compared = [now]
        if items:
            result = run(model, Tokens.pad([ids]), items, may_be_identity=True)
            compared = [now, result.logits[0].double().cpu()]
            found["acted"] = bool(result.acted is not None and result.acted.any())
            found["columns"] = ["edited" if own else "untouched", f"with {NAMES[kind]}"]
        elif own:
            compared = [before(rows[base]), now]
            found["columns"] = ["original", "edited"]
        found["tokens"] = _tokens(tokenizer, compared, right, wrong)
        found["difference"] = _difference(compared, right, wrong)
        if items and scored:
            try:
                everywhere = _by_name(items, places, original.spans, number) if kind == "row" else items
                found["batch"] = on_batch(everywhere) | {"columns": ["untouched", found["columns"][1]],
                                                         "said": _named(everywhere[0])}
            except InterpError as refused:
                found["why"] = str(refused)
        found["seconds"] = round(time.perf_counter() - start, 3)
        return found

    attached("live", drawn(), state)
    state.answer("live", answer)


def interventions(kind: str, heads: Sequence[Head], *, factor: float = 0.0, row: tuple[int, int] = (-1, -1),
                  reference: Any = "clean") -> tuple[Intervention, ...]:
    """What the view's button means: one intervention for each layer that has some of the heads.

    Args:
        kind: ``none``, ``zero``, ``mean``, ``uniform``, ``first``, ``scale`` or ``row``.
        factor: of ``scale``. row: query and key of ``row``. reference: of ``mean``, as in ``Mean``.

    Raises:
        InterpError: another kind; no head; a row edit without a query or a key.
    """
    if kind not in MARKS:
        raise unknown("intervention", kind, list(MARKS))
    if kind == "none":
        return ()
    if not heads:
        raise InterpError("intervene", "no head is selected", "click a head in the grid")
    query, key = row
    if kind == "row" and min(row) < 0:
        missing = "query" if query < 0 else "key"
        raise InterpError("edit a row of attention", f"no {missing} is chosen",
                          "click the query in the token strip and a cell of its row in the attention map")
    plain: dict[str, Value] = {"zero": Zero(), "mean": Mean(reference, "token"), "uniform": Uniform(),
                               "first": AttendToFirst(), "scale": Scale(factor)}
    value = RowEdit({key: 1.0}) if kind == "row" else plain[kind]
    what = "pattern" if kind in ("uniform", "first", "row") else "z"
    positions = (query,) if kind == "row" else None
    grouped = groupby(sorted(set(heads)), lambda head: (head.layer, head.attention))
    return tuple(Intervention(what, layer, tuple(one.head for one in some), positions, value, attention)
                 for (layer, attention), some in grouped)


def longest(model: Any) -> int:
    """Most tokens of an edited prompt."""
    return min(model.context_length or LONGEST, LONGEST)


def _row(tokenizer: Any, ids: Sequence[int]) -> TokenRow:
    special = set(getattr(tokenizer, "all_special_ids", ()))
    return TokenRow(token_texts(tokenizer, ids), tuple(ids), tuple(i for i, one in enumerate(ids) if one in special))


def _within(kind: str, places: tuple[int, int], length: int) -> None:
    if kind == "row" and max(places) >= length:
        raise InterpError("edit a row of attention", f"token {max(places)} is chosen of {length}",
                          "choose a token of this prompt")


def _by_name(items: Sequence[Intervention], places: tuple[int, int], spans: Sequence[Mapping[str, tuple[int, int]]],
             number: int) -> list[Intervention]:
    """A row edit of one prompt as one of every prompt: query and key by the names that the batch has for them."""
    names = []
    for at in places:
        here = spans[number] if number < len(spans) else {}
        found = sorted((name == "end", name) for name, (start, stop) in here.items() if (start, stop) == (at, at + 1))
        if not found:
            raise InterpError("repeat the row edit in the batch's prompts", f"token {at} has no name that they share",
                              "its effect is that on this prompt alone")
        names.append(found[0][1])
    return [replace(one, positions=names[0], value=RowEdit({names[1]: 1.0})) for one in items]


def _named(item: Intervention) -> str:
    """What a row edit is in every prompt, by the names of query and key; empty for what is no row edit."""
    return f"{item.positions} attends to {next(iter(item.value.weights))}" if isinstance(item.value, RowEdit) else ""


def _tokens(tokenizer: Any, compared: Sequence[Tensor], right: Sequence[int], wrong: Sequence[int]) -> list[dict[str, Any]]:
    """The likeliest tokens before and after, and the answers: logit, probability and rank, by the last of these."""
    listed = dict.fromkeys([*right[:ANSWERS], *wrong[:ANSWERS]])
    for logits in compared:
        finite = torch.where(torch.isnan(logits), torch.full_like(logits, -torch.inf), logits)
        listed |= dict.fromkeys(finite.topk(min(TOP, len(finite))).indices.tolist())
    shares = [logits.softmax(0) for logits in compared]
    role = dict.fromkeys(wrong, "wrong") | dict.fromkeys(right, "answer")
    found = []
    for one in sorted(listed, key=lambda one: -float(torch.nan_to_num(compared[-1][one], -torch.inf))):
        text = token_text(tokenizer, one)
        values = [[_number(logits[one]), _number(share[one]), int((logits > logits[one]).sum()) + 1]
                  for logits, share in zip(compared, shares, strict=True)]
        found.append({"label": labels.token(text, 60), "title": f"{text!a}, id {one}", "role": role.get(one, ""),
                      "values": values})
    return found


def _difference(compared: Sequence[Tensor], right: Sequence[int], wrong: Sequence[int]) -> list[float | None] | None:
    """Mean logit of the answers minus that of the wrong ones, before and after; None where one side is missing."""
    if not right or not wrong:
        return None
    return [_number(logits[list(right)].mean() - logits[list(wrong)].mean()) for logits in compared]


def _interval(values: np.ndarray) -> list[float | None]:
    """Mean with the ends of its interval."""
    low, high = bootstrap(values[:, None])
    return [_number(end) for end in (values.mean(), low[0], high[0])]


def _number(value: Any) -> float | None:
    number = float(value)
    return float(f"{number:.6g}") if np.isfinite(number) else None
