"""Find the organism's circuits, one for each of its tasks: ``python circuits/organism/find.py [TASK ...]``.

Three sets of prompts, none in common: edges are scored by ``mask_ig`` on the first; the smallest circuit whose faithfulness
under resample ablation reaches 0.95 is chosen on the second; what stands in the file under
``judged`` is measured on the third, beside random circuits of as many edges of each kind between the same layers.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

import interp
from interp import tasks
from interp.core.circuit import Circuit
from interp.discovery import discover, edges_of, judge_all, mask_of, random_like, select
from interp.discovery.shape import scores_of, shape_of

HERE = Path(__file__).resolve().parent
TASKS = ("agreement", "capital", "colored_objects", "greater_than", "induction", "ioi", "key_value", "multiple_choice",
         "override")
SHARES = (0.01, 0.02, 0.03, 0.05, 0.1, 0.15)
"""Sizes that are tried, as shares of all edges."""
N, CONTROLS, ENOUGH = 16, 3, 0.95
FOUND, CHOSEN, JUDGED = 0, 1000, 2000
"""Seeds of the prompts on which edges are scored, the size is chosen, and the circuit is judged."""


def fresh(model: Any, task: str, seed: int, n: int = N, seen: tuple[Any, ...] = ()) -> Any:
    """A batch of ``n`` prompts of a task, none of them in a batch of ``seen``."""
    known = {tuple(row) for batch in seen for row in batch.clean.rows()}
    batch = tasks.get(task).batch(model, n + len(known), seed)
    return batch.subset([i for i, row in enumerate(batch.clean.rows()) if tuple(row) not in known][:n])


def find(model: Any, task: str) -> Circuit:
    """The circuit of one task, with what it does on prompts that took no part in its making."""
    scored = fresh(model, task, FOUND)
    chosen_on = fresh(model, task, CHOSEN, seen=(scored,))
    unseen = fresh(model, task, JUDGED, seen=(scored, chosen_on))
    scores = discover(model, scored, method="mask_ig", budget=32)
    edges = edges_of(model)
    circuits = [select(scores, round(share * len(edges)), name=f"{task} in the organism",
                       citation="found by circuits/organism/find.py") for share in SHARES]
    tried = judge_all(model, chosen_on, circuits)
    at = next((i for i, one in enumerate(tried) if one.faithfulness >= ENOUGH), len(SHARES) - 1)
    mask = mask_of(edges, circuits[at])
    found, *random = judge_all(model, unseen, [circuits[at], *random_like(edges, mask, CONTROLS)])
    made = circuits[at]
    told = {"share": SHARES[at], "judged": rounded(found.summary()), "judged_on": unseen.provenance_dict(),
            "random": [round(one.faithfulness, 4) for one in random], "chosen_on": {"seed": CHOSEN, "n": N},
            "complete": float(np.mean(scores.notes["complete"])), "shape": shape_of(edges).record(),
            "scores": scores_of(made, scores)}
    return Circuit(edges=made.edges, name=made.name, model=made.model, task=made.task, citation=made.citation,
                   provenance=dict(made.provenance) | told)


def rounded(summary: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a judgement with four decimals."""
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in summary.items()}


def main(names: list[str]) -> None:
    """Find and write the circuits of these tasks, or of all."""
    model = interp.load("organism", verify=False)
    for task in names or TASKS:
        circuit = find(model, task)
        circuit.save(HERE / f"{task}.json")
        judged = circuit.provenance["judged"]
        sys.stdout.write(f"{task}: {judged['edges']} edges ({judged['share']:.1%}), faithfulness "
                         f"{judged['faithfulness']:.3f} [{judged['low']:.3f}, {judged['high']:.3f}], completeness "
                         f"{judged['completeness']:.3f}, random {max(circuit.provenance['random']):.3f} at most, "
                         f"{len(circuit.heads())} heads\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
