"""Are the heads of one task's circuit those of another's? The study of Merullo, Eickhoff and Pavlick 2024, and what follows.

    found = interp.discovery.reuse.reuse(model, ("ioi", "colored_objects"))
    found.overlap                       # heads of both circuits that are the same, beside chance
    found.swap.verdicts                 # which of these do the same thing in both tasks
    found.directed["ioi", "ioi"].edits  # the circuit's own heads directed at one answer or the other: accuracy after that
    found.edits                         # the published edit: inhibition heads of the first task in the second

1. **Stages** (path patching): heads that write to the logits; heads that write to the *queries* of these; heads that write
   to keys and values of those. Of each stage the ``share`` of all heads with the largest effects, at least ``at_least``;
   none with less than ``smallest`` of the whole difference, which may leave a stage empty.
2. **Roles**, from the stages and the signs alone, no head is named in advance: ``mover`` (to the logits, for the answer),
   ``negative mover`` (against it), ``inhibition`` (to the movers' queries, for the answer), ``earlier``.
3. **Overlap** of the two circuits, with the chance of these sizes, also matched by layer; **swap** of the shared heads'
   outputs between the tasks (``interp.discovery.swap``): which of them do the same.
4. **Published edit** (``interp.discovery.inhibition_edit``): in the second task the last row of attention of the first
   task's inhibition heads and negative movers is set to the wrong answers' places. If they keep movers away from what they
   attend to, it raises the metric, and the right one's place lowers it; random heads of the same layers do neither.
5. **Edit derived from the circuit** (``interp.discovery.redirect``): the heads of each circuit that read the answers,
   directed at one answer or the other, in their own task; and the same heads in the other one.

4 and 5 are *oracle edits*: they are told the answer, so they show what heads can do, not how to repair a model.

Where paper and this differ: heads are counted over all senders below a receiver, not below the lowest alone; receivers of
later stages are read at all tokens; the paper's own stages came from files that were not published.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from interp import tasks
from interp.core.circuit import Circuit
from interp.core.errors import InterpError
from interp.core.files import write_text
from interp.core.head import Head
from interp.core.overlap import SetOverlap, overlap
from interp.core.provenance import collect_code, collect_versions, now, plain
from interp.core.universe import universe
from interp.discovery.graph import edges_of
from interp.discovery.inhibition_edit import edit_table, movers_table, placed
from interp.discovery.redirect import Redirect, redirect
from interp.discovery.shape import shape_of
from interp.discovery.stages import stages_of
from interp.discovery.swap import Swap, swap
from interp.discovery.unseen_prompts import unseen
from interp.tasks.batch import Batch

CORRUPTIONS = {"ioi": "s2_io", "key_value": "key"}
"""Of the study, where it is not the task's default: the other prompt asks for another answer of the same context."""


@dataclass(frozen=True, eq=False)
class Reuse:
    """What the study found.

    Attributes:
        circuits: task -> its heads: those of the stages, with roles, or the circuits that were given.
        stages: a row per task, stage and head with its effect (share of the whole difference between the runs, mean over
            prompts).
        overlap: of the two circuits' heads.
        swap: what the shared heads do in either task; None where none is shared.
        edited: the heads of the published edit. edits: a row per edit (none, to the wrong places, to the right one; of these
            heads and of random ones) with accuracy over the whole vocabulary, the metric, and its mean change with an
            interval. movers: attention of the second task's movers from the last token to right and wrong places.
        directed: (task of the circuit, task of the prompts) -> the edit derived from the circuit.
        notes: what could not be done, and why.
        provenance: model, prompts, options, versions.
    """

    circuits: Mapping[str, Circuit]
    stages: pd.DataFrame
    overlap: SetOverlap
    swap: Swap | None
    edited: tuple[Head, ...]
    edits: pd.DataFrame
    movers: pd.DataFrame
    directed: Mapping[tuple[str, str], Redirect]
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table by name; of the edits derived from circuits all in one, told apart by ``circuit`` and ``task``."""
        found = {"stages": self.stages, "edits": self.edits, "movers": self.movers}
        if self.swap is not None:
            found |= {"swap": self.swap.table, "verdicts": self.swap.verdicts}
        for name in ("scanned", "edits", "downstream"):
            parts = [getattr(one, name).assign(circuit=circuit, task=task) for (circuit, task), one in self.directed.items()
                     if len(getattr(one, name))]
            found[{"scanned": "readers", "edits": "directed"}.get(name, name)] = (
                pd.concat(parts, ignore_index=True) if parts else pd.DataFrame())
        return found

    def record(self) -> dict[str, Any]:
        """All of it as plain JSON data."""
        sets = {"sizes": self.overlap.sizes, "n": self.overlap.n, "jaccard": self.overlap.jaccard,
                "shared": list(map(str, self.overlap.shared)), "chance": vars(self.overlap.chance),
                "matched": vars(self.overlap.matched), "only": [list(map(str, some)) for some in self.overlap.only]}
        told = {"oracle": "edits are told the answers", "overlap": sets, "edited": self.edited, "notes": self.notes,
                "swapped at": dict(self.swap.positions) if self.swap else {}, "provenance": self.provenance}
        found: dict[str, Any] = plain(told | {name: table.to_dict("records") for name, table in self.tables().items()},
                                      "reuse")
        return found

    def save(self, folder: str | Path) -> Path:
        """Circuits and ``reuse.json`` with every table into a folder; its path."""
        for name, circuit in self.circuits.items():
            circuit.save(Path(folder) / f"{name}.json")
        write_text(Path(folder) / "reuse.json", json.dumps(self.record(), indent=1, ensure_ascii=False) + "\n")
        return Path(folder)


def reuse(model: Any, given: Mapping[str, Batch] | Sequence[str], *, n: int = 16, seed: int = 0, share: float = 0.02,
          at_least: int = 8, smallest: float = 0.01, n_edited: int = 8, n_random: int = 5,
          circuits: Mapping[str, Circuit] | None = None, test: Mapping[str, Batch] | None = None,
          progress: bool | None = None) -> Reuse:
    """The whole study on two tasks: circuits by stages, overlap, swap, and both edits.

    Args:
        given: names of two tasks, of which ``n`` prompts are drawn, and twice as many others for swaps and edits; or two
            tasks' prompts, aligned. Of the first task are the heads of the published edit.
        share, at_least, smallest: how many heads each stage keeps, and from which effect on (share of the difference
            between the runs).
        circuits: of both tasks, whose heads are compared, swapped and directed; None: those of the stages.
        n_edited: how many heads of a circuit are directed. n_random: draws of as many random heads of the same layers.
        test: prompts of both tasks for swaps and edits; None: those that circuits were found on, where prompts were given.

    Raises:
        InterpError: not two tasks.
    """
    if len(given) != 2 or isinstance(given, str):
        raise InterpError(f"study the reuse of heads in {len(given)} tasks", "it is about one circuit in another task",
                          "give two tasks, the one whose heads are edited first")
    batches, others = (dict(given), dict(test or given)) if isinstance(given, Mapping) else prompts_of(model, given, n, seed)
    if len(batches) != 2 or set(others) != set(batches) or set(circuits or batches) != set(batches):
        raise InterpError("study the reuse of heads", f"of {' and '.join(batches)} not all is given, or one twice",
                          "give circuits and test prompts of the same two tasks")
    first, second = batches
    staged = {name: stages_of(model, batch, name, share=share, at_least=at_least, smallest=smallest, progress=progress)
              for name, batch in batches.items()}
    found = {name: circuit for name, (circuit, _) in staged.items()} if circuits is None else dict(circuits)
    among = universe(shape_of(edges_of(model)), "heads")
    common = overlap(found[first], found[second], among)
    spared = {head for circuit in (*found.values(), *(one for one, _ in staged.values())) for head in circuit.heads()}
    notes: list[str] = []
    roles = staged[first][0]
    edited = (*roles.heads("inhibition"), *roles.heads("negative mover"))
    edits = movers = pd.DataFrame()
    if edited:
        try:
            edited_in, spans = placed(others[second])
            edits = edit_table(model, edited_in, spans, edited, n_random=n_random, seed=seed, spared=spared)
            movers = movers_table(model, edited_in, spans, edited, staged[second][0].heads("mover"))
        except InterpError as error:
            notes.append(f"the published edit was not made in {second}: {error.true}")
    else:
        notes.append(f"no head of {first} works against the answer or through the movers' queries: the published edit has "
                     "nothing to edit")
    directed = _directed(model, batches, others, found, n_edited, smallest, n_random, spared, seed, notes)
    swapped = None
    if common.shared:
        shared = [node.as_head() for node in common.shared]
        only = {name: [node.as_head() for node in some] for name, some in zip(batches, common.only, strict=True)}
        swapped = swap(model, others, shared, only=only, positions=_places(directed, shared), seed=seed)
    else:
        notes.append("the circuits share no head: there is nothing to swap")
    told = {"study": "reuse", "options": {"share": share, "at_least": at_least, "smallest": smallest, "n_edited": n_edited,
                                          "n_random": n_random, "seed": seed},
            "model": model.provenance_dict(), "prompts": {name: batch.provenance_dict() for name, batch in batches.items()},
            "test": {name: batch.provenance_dict() for name, batch in others.items()},
            "circuits": "of the stages" if circuits is None else "given", "versions": collect_versions(),
            "code": collect_code(), "date": now()}
    stages = pd.concat([table for _, table in staged.values()], ignore_index=True)
    return Reuse(found, stages, common, swapped, edited, edits, movers, directed, tuple(notes), plain(told, "provenance"))


def prompts_of(model: Any, names: Sequence[str], n: int, seed: int) -> tuple[dict[str, Batch], dict[str, Batch]]:
    """Prompts of tasks to find circuits on, and twice as many others to test them on."""
    batches, others = dict[str, Batch](), dict[str, Batch]()
    for name in names:
        task = tasks.get(name)
        options = {"corruption": CORRUPTIONS[task.name]} if task.name in CORRUPTIONS else {}
        batches[task.name] = task.batch(model, n, seed, **options)
        others[task.name] = unseen(model, task, 2 * n, seed + 1, seen=(batches[task.name],), options=options)
    return batches, others


def _directed(model: Any, batches: Mapping[str, Batch], others: Mapping[str, Batch], circuits: Mapping[str, Circuit],
              n_edited: int, smallest: float, n_random: int, spared: set[Head], seed: int, notes: list[str]
              ) -> dict[tuple[str, str], Redirect]:
    """The edit derived from each circuit, in its own task, and of the same heads in the other one."""
    found = dict[tuple[str, str], Redirect]()
    for name, circuit in circuits.items():
        heads: Sequence[Head] = circuit.heads()
        for task in (name, *(other for other in batches if other != name)):
            try:
                one = redirect(model, batches[task], heads, test=others[task], n_heads=n_edited, smallest=smallest,
                               n_random=n_random, watched=circuits[task].heads(), spared=spared, seed=seed)
            except InterpError as error:
                notes.append(f"heads of {name} were not directed in {task}: {error.true}")
                break
            if not one.readers:
                notes.append(f"no head of {name}'s circuit{'' if task == name else ' that was directed there'} reads the "
                             f"answers of {task}: none was directed")
                break
            found[name, task] = one
            heads = [reader.head for reader in one.readers]
    return found


def _places(directed: Mapping[tuple[str, str], Redirect], shared: Sequence[Head]) -> dict[str, str | int]:
    """Of each task, from where most of the shared heads read the answers."""
    found = {}
    for (circuit, task), one in directed.items():
        queries = [reader.query for reader in one.readers if reader.head in shared]
        if circuit == task and queries:
            found[task] = max(queries, key=queries.count)
    return found
