"""Do heads that two circuits share do the same in both tasks? Their outputs are put from one task's run into the other's.

    found = interp.discovery.swap.swap(model, {"induction": one, "key_value": other}, shared, only={"induction": (...)})
    found.verdicts      # of each shared head, and of all together: same, different, undecided or no effect

To be in both circuits says that a head is needed in both, not that it does the same there: it may copy the answer in one and
mark a position in the other. If its output at the last token carries *the answer* (or works against *the wrong one*) in a
form that is the same in both tasks, then the output of a run in which the answer is x, put into a run of the other task,
pushes x there as it does at home. So, with Δ the change of logits when z of the heads there is taken from a donor
prompt, x the donor's role token and y those of other donors (but for the recipient's own)::

    effect = Δ[x] − mean Δ[y]                        0 where the heads' output says nothing of x

1. **Role** and prediction, before any swap between tasks: at home (donor and recipient of one task, with other answers) the
   effect is measured on donors' ``answer`` and ``wrong`` tokens. The larger is the heads' role in that task, its size the
   *ceiling*.
2. **Swap**: donors of the other task. ``of ceiling`` = effect / ceiling, paired by recipient, in both directions. x is the
   token as it stands in the donor prompt, in the recipient task's form where that answers in another (`` red`` -> `` Red``).
3. **Verdict**: ``same``, if both tasks have the same role with the same sign and ``of ceiling`` is at least ``least`` both
   ways, its whole interval; ``different``, if roles or signs differ or one of the intervals lies wholly below; else
   ``undecided``; ``no effect``, where heads carry neither token at that position even at home.
4. **Controls**: as many random heads of the same layers (or the nearest that have others), and heads of one circuit alone.

Intervals are over recipients, for each head by itself. An output that is the same function of x in both tasks but is read by
other heads for another purpose counts as the same; and where the recipient task has no way to answer x (a ring, where it
answers with colours), the verdict is ``different`` though the head may do the same. Interchange as in Geiger et al. 2021;
across tasks: ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.core.errors import InterpError
from interp.core.head import Head
from interp.core.intervals import bootstrap
from interp.core.proportions import wilson
from interp.discovery.candidates import WHICH, candidates, place
from interp.discovery.controls import other_heads
from interp.engine.forward import run
from interp.engine.intervention import Intervention, Replace
from interp.engine.prompts import selected, side, sides
from interp.models.sites import Site
from interp.tasks.batch import Batch

ROLES = ("answer", "wrong")
SILENT = 1e-4
"""Logits; a set of heads that moves a token by less than this on every prompt says nothing of it."""


@dataclass(frozen=True, eq=False)
class Swap:
    """What swaps within and between two tasks did.

    Attributes:
        table: a row per set of heads, donor and recipient task: ``heads``, ``kind`` (shared, all shared, only one task's,
            random), ``donor``, ``recipient``, ``role`` (that of these heads in the recipient's task), ``effect`` in logits
            with its interval, ``of ceiling`` with its interval (of the controls: of all shared heads' ceiling; NaN of one
            that cannot be told from 0), ``agreement`` (share of recipients whose effect has the sign that was predicted)
            with a Wilson interval, ``answered`` (share that answer as the donor would).
        verdicts: a row per shared head, and one for all together.
        positions: of each task, the token at which outputs were taken and put.
    """

    table: pd.DataFrame
    verdicts: pd.DataFrame
    positions: Mapping[str, str | int]

    @property
    def same(self) -> tuple[Head, ...]:
        """The shared heads that do the same in both tasks."""
        chosen = self.verdicts[(self.verdicts["verdict"] == "same") & (self.verdicts["kind"] == "shared")]
        return tuple(Head.parse(name) for name in chosen["heads"])


@dataclass(frozen=True, eq=False)
class _Side:
    """One task's prompts: what its heads write at the position, its logits, what its answers are.

    Attributes:
        read: role -> the token of each prompt as it stands there. form: that token -> how this task answers with it.
    """

    batch: Batch
    position: str | int
    z: Mapping[int, Tensor]
    logits: Tensor
    read: Mapping[str, list[int]]
    form: Mapping[int, int]


def swap(model: Any, batches: Mapping[str, Batch], heads: Sequence[Head], *,
         only: Mapping[str, Sequence[Head]] | None = None, positions: Mapping[str, str | int] | None = None,
         least: float = 0.5, n_random: int = 3, seed: int = 0) -> Swap:
    """The swap test of heads that two tasks share; see the module.

    Args:
        batches: two tasks' prompts; the clean ones are used. only: heads of one circuit alone, as a control.
        positions: of each task, one token in every prompt (a span, or an index from the last) where outputs are taken and
            put; ``end`` where none is named.
        least: share of the ceiling from which on two things count as the same.

    Raises:
        InterpError: not two tasks; no heads; a position that is not one token; fewer than four prompts, or none with another
            answer.
    """
    if len(batches) != 2 or not heads:
        raise InterpError("swap heads between tasks", f"there are {len(batches)} tasks and {len(heads)} shared heads",
                          "give two tasks and the heads that their circuits share")
    sets = [("all shared", tuple(heads)), *(("shared", (head,)) for head in heads)]
    sets += [(f"only {name}", tuple(some)) for name, some in (only or {}).items() if some]
    spared = {head for _, some in sets for head in some}
    random = np.random.default_rng(seed)
    drawn = [tuple(other for _, other in other_heads(model, heads, spared, random)) for _ in range(n_random)]
    sets += [("random", some) for some in drawn if some]
    layers = sorted({head.layer for _, some in sets for head in some})
    n = min(batch.n for batch in batches.values())
    given = {name: _side(model, batch.subset(range(n)), layers, (positions or {}).get(name, "end"))
             for name, batch in batches.items()}
    rows, verdicts, expected, whole = list[dict[str, Any]](), list[dict[str, Any]](), dict[str, str](), {}
    for kind, some in sets:
        found = {(donor, into): _swapped(model, given[donor], given[into], some) for donor in given
                 for into in given}
        roles = {name: _role(found[name, name][0]) for name in given}
        if kind == "all shared":
            expected, whole = {name: role or ROLES[0] for name, role in roles.items()}, found
        told = {name: roles[name] or expected[name] for name in given} if kind == "shared" else expected
        homes = found if kind == "shared" else whole
        of = [_row(kind, some, donor, into, told[into], found[donor, into], homes[into, into][0][told[into]])
              for donor, into in found]
        rows += of
        if kind in ("shared", "all shared"):
            verdicts.append(_verdict(kind, some, of, roles, found, least))
    return Swap(pd.DataFrame(rows), pd.DataFrame(verdicts), {name: one.position for name, one in given.items()})


def _side(model: Any, batch: Batch, layers: Sequence[int], position: str | int) -> _Side:
    chosen = selected(side(sides(model, batch), "clean"), position if isinstance(position, str) else (position,))
    if bool((chosen.sum(1) != 1).any()):
        raise InterpError(f"swap heads at {position} of {batch.task}", "it is not one token in every prompt",
                          "name a position of one token, such as end")
    at, rows = chosen.int().argmax(1).cpu(), torch.arange(batch.n)
    result = run(model, batch, (), {Site("z", layer) for layer in layers})
    answers = {"answer": batch.answers[:, 0].tolist(), "wrong": batch.wrong[:, 0].tolist()}
    try:
        placed = candidates(batch)
    except InterpError:      # the answers stand nowhere in the prompts: they are read as what they are
        read = answers
    else:
        read = {role: batch.clean.ids[rows, placed.batch.spans[place(which, 0)][:, 0]].tolist()
                for role, which in zip(ROLES, WHICH, strict=True)}
        answers = {role: placed.answers[which].tolist() for role, which in zip(ROLES, WHICH, strict=True)}
    form = {token: answer for role in ROLES for token, answer in zip(read[role], answers[role], strict=True)}
    return _Side(batch, position, {layer: result.captured[Site("z", layer)][rows, at] for layer in layers},
                 result.logits.double().cpu(), read, form)


def _donors(donor: _Side, into: _Side) -> list[int]:
    """For each recipient a donor that reads none of what it reads (or at least another answer): the next in a circle."""
    found, n = list[int](), into.batch.n
    for i in range(n):
        order = [(i + step) % n for step in range(1, n + 1)]
        own = {into.read[role][i] for role in ROLES}
        apart = [j for j in order if not own & {donor.read[role][j] for role in ROLES}]
        apart = apart or [j for j in order if into.read["answer"][i] != donor.read["answer"][j]]
        if n < 4 or not apart:
            raise InterpError(f"swap heads into {into.batch.task}", f"prompt {i} of {n} has no donor with another answer",
                              "give more prompts, or prompts with more different answers")
        found.append(apart[0])
    return found


def _swapped(model: Any, donor: _Side, into: _Side, heads: Sequence[Head]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The effect on each role's tokens [n], and whether each recipient answers as its donor would [n]."""
    at = _donors(donor, into)
    changes = []
    for layer in sorted({head.layer for head in heads}):
        mine = tuple(head.head for head in heads if head.layer == layer)
        z = donor.z[layer][at][:, list(mine)]
        whole = z[:, None].expand(-1, into.batch.clean.ids.shape[1], -1, -1)
        changes.append(Intervention("z", layer, mine, into.position, Replace(whole)))
    logits = run(model, into.batch, changes, may_be_identity=True).logits.double().cpu()
    moved, effects = (logits - into.logits).numpy(), {}
    own = [{into.form[into.read[role][i]] for role in ROLES} for i in range(len(at))]      # theirs fall, whatever comes
    for role in ROLES:
        tokens = [into.form.get(token, token) for token in donor.read[role]]
        others = [sorted({*tokens} - {tokens[j]} - own[i]) for i, j in enumerate(at)]
        effects[role] = np.array([moved[i, tokens[j]] - moved[i, others[i]].mean() if others[i] else 0.0
                                  for i, j in enumerate(at)])
    said = logits.argmax(1).tolist()
    return effects, np.array([token == into.form.get(donor.read["answer"][j], donor.read["answer"][j])
                              for token, j in zip(said, at, strict=True)])


def _role(effects: Mapping[str, np.ndarray]) -> str | None:
    """Which token the heads' output is about at home: that with the larger effect, if its interval excludes 0."""
    role = max(ROLES, key=lambda name: abs(effects[name].mean()))
    low, high = bootstrap(effects[role][:, None])
    return None if np.abs(effects[role]).max() < SILENT or low[0] <= 0 <= high[0] else role


def _row(kind: str, heads: Sequence[Head], donor: str, into: str, role: str, found: tuple[Mapping, np.ndarray],
         ceiling: np.ndarray) -> dict[str, Any]:
    effect, answered = found[0][role], found[1]
    low, high = bootstrap(effect[:, None])
    least, most = bootstrap(ceiling[:, None])
    silent = np.abs(ceiling).max() < SILENT or least[0] <= 0 <= most[0]
    share = float("nan") if silent else float(effect.mean() / ceiling.mean())
    below, above = (np.full(1, np.nan),) * 2 if silent else bootstrap(effect[:, None], ceiling[:, None])
    agreement = float((effect * np.sign(ceiling.mean()) > 0).mean())
    least, most = map(float, wilson(agreement, len(effect)))
    return {"heads": ", ".join(map(str, heads)), "kind": kind, "donor": donor, "recipient": into, "role": role,
            "effect": float(effect.mean()), "low": float(low[0]), "high": float(high[0]), "of ceiling": share,
            "of ceiling low": float(below[0]), "of ceiling high": float(above[0]), "agreement": agreement,
            "agreement low": least, "agreement high": most, "answered": float(answered.mean())}


def _verdict(kind: str, heads: Sequence[Head], rows: Sequence[Mapping], roles: Mapping[str, str | None], found: Mapping,
             least: float) -> dict[str, Any]:
    crossed = [row for row in rows if row["donor"] != row["recipient"]]
    homes = {name: role and float(found[name, name][0][role].mean()) for name, role in roles.items()}
    (one, first), (other, second) = roles.items()
    if first is None or second is None:
        verdict = "no effect"
    elif first != second or homes[one] * homes[other] < 0 or any(row["of ceiling high"] < least for row in crossed):
        verdict = "different"
    else:
        verdict = "same" if all(row["of ceiling low"] >= least for row in crossed) else "undecided"
    told = {f"role in {name}": role and f"{'for' if homes[name] > 0 else 'against'} the {role}"
            for name, role in roles.items()}
    return {"heads": ", ".join(map(str, heads)), "kind": kind} | told | {
        f"{row['donor']} into {row['recipient']}": row["of ceiling"] for row in crossed} | {"verdict": verdict}
