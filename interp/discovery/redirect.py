"""A circuit's attention directed at one answer or another: *an oracle edit*, beside what the circuit predicts of it.

    found = interp.discovery.redirect.redirect(model, batch, circuit.heads(), test=unseen)
    found.readers      # heads that read the answers from the last token; whether they copy or suppress what they read
    found.edits        # answers before and after, beside what was predicted, and beside random heads of the same layers

1. **Readers**, on ``batch``: heads that look from the last token at a candidate (any mention of it, or one or two tokens
   behind, where heads that look back so far have put it) with ``LOOKS`` of their attention. Where a later head of the
   circuit has most of its attention on a token at a fixed distance from the last, a *relay*, heads may look from there too.
   Such a row is put wholly on the right answer's place, then on the other's: ``gain`` = metric(right) − metric(other), the
   metric being logit(right) − logit(other). A head with a gain above 0 *copies* what it reads, one below 0 *suppresses* it,
   as the negative mover of Merullo et al. 2024 does. The ``n_heads`` with the largest gains in size are edited.
2. **Prediction**, before anything is edited together: for every prompt of ``batch`` the changes that the heads make one by
   one are added up; the answer is predicted to be the candidate that then leads.
3. **Edit**, on ``test``: all of them at once, those that copy to one candidate, those that suppress to the other. In clean
   prompts ``to the other``: the answer should become the other one; in corrupted prompts, whose answer is another,
   ``to the right``: it should become the right one again (the repair).
4. **Controls**: as many other heads of the same layers, directed in the same way; of the nearest layer where the circuits
   have all heads of a layer.

It is an oracle edit: it is told where the answers stand. It shows what heads can do, and is no way to repair a model.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from interp.core.errors import InterpError
from interp.core.head import Head
from interp.core.intervals import bootstrap
from interp.core.proportions import wilson
from interp.discovery.candidates import OFFSETS, WHICH, Candidates, candidates, place
from interp.discovery.controls import other_heads
from interp.engine.forward import metric_values, run
from interp.engine.intervention import Intervention, RowEdit
from interp.engine.sweep import sweep
from interp.models.sites import Site
from interp.tasks.batch import Batch
from interp.tasks.metrics import Metric, metric_of

LOOKS = 0.1
"""Share of a row of attention, mean over prompts."""
OTHER = Metric("other", "the other candidate is answered", "fraction",
               lambda logits, batch: (logits.argmax(1, keepdim=True) == batch.wrong.to(logits.device)).any(1).to(logits),
               differentiable=False)
EDITS = (("clean", "other"), ("clean", "right"), ("corrupt", "right"))
"""Which prompts are run, and to which answer the heads are directed."""


@dataclass(frozen=True)
class Reader:
    """A head that reads the answers.

    Attributes:
        query: from where: ``end``, or a relay as a token index from the last. offset: how many tokens behind a candidate it
            reads it.
        gain: what directing it to the right answer and not to the other one does to the logit difference; low, high: its
            interval over prompts.
    """

    head: Head
    query: str | int
    offset: int
    gain: float
    low: float
    high: float

    @property
    def copies(self) -> bool:
        return self.gain > 0

    def aimed(self, to: str) -> Intervention:
        """Its row put where it should be for the answer to become ``to`` (right or other)."""
        return _pointed(self.head, to if self.copies else WHICH[1 - WHICH.index(to)], self.offset, self.query)


@dataclass(frozen=True, eq=False)
class Redirect:
    """What directing attention did.

    Attributes:
        readers: the heads that were edited, largest gain first. scanned: a row per head that was asked, with its gains.
        edits: a row per edit: ``prompts`` that were run, ``heads`` (none, circuit, random), ``edit``; the share answered
            right (``accuracy``, whole vocabulary) with a Wilson interval, the share answered as the other candidate;
            ``predicted``: the share in which right was predicted to lead; ``metric``, its ``change`` and interval.
        downstream: of the later heads that were watched: attention from the last token to both places, and what they write
            directly to logit(right) − logit(other), per edit.
    """

    readers: tuple[Reader, ...]
    scanned: pd.DataFrame
    edits: pd.DataFrame
    downstream: pd.DataFrame


def redirect(model: Any, batch: Batch, heads: Sequence[Head], *, test: Batch | None = None, n_heads: int = 8,
             smallest: float = 0.01, n_random: int = 5, watched: Sequence[Head] = (), spared: Collection[Head] = (),
             seed: int = 0) -> Redirect:
    """Find the readers among ``heads``, predict, and direct them; see the module.

    Args:
        heads: of the circuit. test: prompts for the edits; None: ``batch``.
        n_heads, smallest: how many are edited, none whose gain is a smaller part of the metric of the clean prompts.
        watched: heads behind them, to be looked at; spared: heads that are no controls.

    Raises:
        InterpError: no heads; prompts whose answers do not stand in them.
    """
    given = candidates(batch if test is None else test)
    readers, scanned = readers_of(model, batch, heads, n_heads=n_heads, smallest=smallest)
    if not readers:
        return Redirect((), scanned, pd.DataFrame(), pd.DataFrame())
    predicted = predict(model, candidates(batch), readers)
    edits = edit_table(model, given, readers, predicted, n_random=n_random, spared=spared, seed=seed)
    return Redirect(readers, scanned, edits, downstream(model, given, readers, watched))


def readers_of(model: Any, batch: Batch, heads: Sequence[Head], *, n_heads: int = 8, smallest: float = 0.01
               ) -> tuple[tuple[Reader, ...], pd.DataFrame]:
    """The heads whose attention at the last token decides between the candidates most, and the gains of all."""
    if not heads:
        raise InterpError("direct the attention of a circuit", "it has no heads", "give a circuit with heads")
    given = candidates(batch)
    whole = float(np.abs(metric_values(model, given.batch)).mean())
    looks = _looks(model, given, heads)
    lists = [(_pointed(head, which, offset, query),) for head, query, offset in looks for which in WHICH]
    values = sweep(model, given.batch, lists, progress=False, may_be_identity=True).reshape(-1, 2, batch.n) if lists else (
        np.zeros((0, 2, batch.n)))
    gains = values[:, 0] - values[:, 1]
    low, high = bootstrap(gains.T)
    rows, best = [], dict[Head, Reader]()
    for ((head, query, offset), share), gain, below, above in zip(looks.items(), gains.mean(1), low, high, strict=True):
        one = Reader(head, query, offset, float(gain), float(below), float(above))
        rows.append({"head": str(head), "from": str(query), "offset": offset, "looks": share, "gain": one.gain,
                     "low": one.low, "high": one.high, "of the metric": one.gain / whole,
                     "does": "copies" if one.copies else "suppresses"})
        if head not in best or abs(one.gain) > abs(best[head].gain):
            best[head] = one
    kept = [one for one in best.values() if abs(one.gain) >= smallest * whole and not one.low <= 0 <= one.high]
    return tuple(sorted(kept, key=lambda one: -abs(one.gain))[:n_heads]), pd.DataFrame(rows)


def _looks(model: Any, given: Candidates, heads: Sequence[Head]) -> dict[tuple[Head, str | int, int], float]:
    """(head, query, offset) -> its attention from there to mentions of the candidates, so many tokens behind them."""
    batch, at, ids = given.batch, torch.arange(given.batch.n), given.batch.clean.ids
    rows = run(model, batch, (), {Site("pattern", head.layer) for head in heads}).captured
    patterns = {head: rows[Site("pattern", head.layer)][:, head.head].cpu() for head in heads}
    ends = batch.clean.last
    farthest = int((ends - torch.stack([batch.spans[place(which, OFFSETS[-1])][:, 1] for which in WHICH]).amax(0)).min())
    queries = dict[int, int]({0: model.n_layers})      # distance from the last token -> below which layer
    for head, pattern in patterns.items():
        for distance in range(1, farthest + 1) if head.layer else ():
            if float(pattern[at, ends, ends - distance].mean()) > 0.5:
                queries[distance] = max(head.layer, queries.get(distance, 0))
    tokens = torch.stack([ids[at, batch.spans[place(which, 0)][:, 0]] for which in WHICH], dim=1)
    mentions = (ids[:, :, None] == tokens[:, None]).any(2) & batch.clean.mask.bool()
    found = {}
    for distance, below in queries.items():
        for head in (head for head in heads if head.layer < below):
            row = patterns[head][at, ends - distance]
            for offset in OFFSETS:
                share = float((row[:, offset:] * mentions[:, : ids.shape[1] - offset]).sum(1).mean())
                if share >= LOOKS:
                    found[head, -1 - distance if distance else "end", offset] = share
    return found


def predict(model: Any, given: Candidates, readers: Sequence[Reader]) -> dict[tuple[str, str], float]:
    """(prompts, to) -> the share of prompts in which the right answer leads, if the heads' single changes add up."""
    found = {}
    for on, to in EDITS:
        if on == "clean" or given.on_both:
            base = metric_values(model, given.batch, on=on)
            single = sweep(model, given.batch, [(one.aimed(to),) for one in readers], on, progress=False,
                           may_be_identity=True)
            found[on, to] = float((base + (single - base).sum(0) > 0).mean())
    return found


def edit_table(model: Any, given: Candidates, readers: Sequence[Reader], predicted: dict[tuple[str, str], float], *,
               n_random: int = 5, spared: Collection[Head] = (), seed: int = 0) -> pd.DataFrame:
    """Answers and metric without an edit, with the readers directed, and with random heads directed."""
    random, rows = np.random.default_rng(seed), list[dict[str, Any]]()
    of, sets = {one.head: one for one in readers}, [("circuit", tuple(readers))]
    for _ in range(n_random):
        drawn = other_heads(model, list(of), spared, random)
        sets += [("random", tuple(replace(of[head], head=other) for head, other in drawn))] if drawn else []
    metrics = [given.batch.metric, metric_of("accuracy"), OTHER]
    for on in ("clean", "corrupt") if given.on_both else ("clean",):
        base = np.stack([metric_values(model, given.batch, on=on, metric=metric) for metric in metrics])
        rows.append(_row(on, "none", "none", base, base, ()))
        asked = [(to, kind, chosen) for side, to in EDITS if side == on for kind, chosen in sets]
        found = sweep(model, given.batch, [[one.aimed(to) for one in chosen] for to, _, chosen in asked], on, metric=metrics,
                      progress=False, may_be_identity=True)
        for i, (to, kind, chosen) in enumerate(asked):
            row = _row(on, kind, f"to the {to}", base, found[:, i], chosen)
            rows.append(row | ({"predicted": predicted.get((on, to), np.nan)} if kind == "circuit" else {}))
    return pd.DataFrame(rows)


def downstream(model: Any, given: Candidates, readers: Sequence[Reader], watched: Sequence[Head]) -> pd.DataFrame:
    """What later heads attend to and write directly, without an edit and with each: a row per head and edit."""
    first = min(one.head.layer for one in readers)
    later = [head for head in watched if head.layer > first and head not in {one.head for one in readers}]
    batch, at = given.batch, torch.arange(given.batch.n)
    columns = torch.stack([given.answers[which] for which in WHICH], dim=1)
    layers, last = {head.layer for head in later}, Site("resid_post", model.n_layers - 1)
    capture = {last, *(Site(what, layer) for layer in layers for what in ("pattern", "z"))}
    capture |= {Site("attn_out", layer) for layer in layers if Site("attn_out", layer) in model.sites()}
    rows = []
    for on, to in (("clean", None), ("corrupt", None), *EDITS) if later else ():
        if on == "corrupt" and not given.on_both:
            continue
        end = batch.tokens(on).last
        changes = [] if to is None else [one.aimed(to) for one in readers]
        found = run(model, batch, changes, capture, on=on, may_be_identity=True).captured
        for head in later:
            row = found[Site("pattern", head.layer)][at, head.head, end]
            part = found[Site("z", head.layer)][at, end, head.head] @ model.W_O(head.layer)[head.head]
            total = found.get(Site("attn_out", head.layer))
            if total is not None:
                part = model.backend.write_parts("attn_out", head.layer, part[None, :, None], total[at, end][:, None])
                part = part[0, :, 0]
            logits = model.backend.logit_parts(part[None], found[last][at, end], columns.to(part.device))[0]
            read = {f"on {which}": float(row[at, batch.span(place(which, 0))[:, 0]].mean()) for which in WHICH}
            rows.append({"head": str(head), "prompts": on, "edit": "none" if to is None else f"to the {to}"} | read
                        | {"writes": float((logits[:, 0] - logits[:, 1]).mean())})
    return pd.DataFrame(rows)


def _pointed(head: Head, which: str, offset: int, query: str | int) -> Intervention:
    return Intervention.at(head, "pattern", RowEdit({place(which, offset): 1.0}), positions=query)


def _row(on: str, heads: str, edit: str, base: np.ndarray, new: np.ndarray, who: Sequence[Reader]) -> dict[str, Any]:
    """A row of the table from metric, right answers and other answers before and after, [3, prompt]."""
    metric, right, other = new.mean(1).tolist()
    low, high = wilson(right, new.shape[1])
    change = new[0] - base[0]
    below, above = bootstrap(change[:, None]) if who else (np.zeros(1), np.zeros(1))
    return {"prompts": on, "heads": heads, "edit": edit, "accuracy": right, "accuracy low": float(low),
            "accuracy high": float(high), "other": other, "metric": metric, "change": float(change.mean()),
            "low": float(below[0]), "high": float(above[0]), "who": ", ".join(str(one.head) for one in who)}
