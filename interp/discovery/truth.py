"""Models whose circuits are known, and how well each method finds them.

``python -m interp.discovery.truth`` writes the tables of all methods, good and bad, to ``docs/ground-truth.md``.

* Compiled programs: the edges that are needed under an ablation, found by trying every edge (``data/compiled/truth.py``).
* Circuits planted by training in dense weights (``data/planted``), tried in the same way: little is needed besides.
* The hand-made induction circuit over the gain of its softmax: three edges, whatever the gain.
* Gates: the edges whose exact patch changes anything in one direction or the other; what counts is that none is missed.

A method's score of an edge is the size of its mean over prompts; what is below a millionth of the largest is rounding, and
counts as nothing.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interp.core import detection
from interp.core.circuit import Circuit, Edge
from interp.core.errors import InterpError
from interp.core.registry import unknown
from interp.discovery.graph import edges_of, mask_of
from interp.discovery.method import discover
from interp.discovery.node_scores import NodeScores
from interp.discovery.truth_page import page
from interp.models.compiled import COMPILED
from interp.models.handmade import HANDMADE, TokenPair, induction
from interp.models.handmade.gates import GATE_MODELS
from interp.models.load import load
from interp.models.planted import PLANTED
from interp.tasks.batch import Batch
from interp.tasks.own import from_tokens

Asked = Mapping[str, tuple[str, Mapping[str, Any]]]
TABLE: Asked = {
    "EAP, noising": ("eap", {}),
    "EAP, denoising": ("eap", {"direction": "denoising"}),
    "EAP-IG inputs, 5 steps": ("eap_ig_inputs", {}),
    "EAP-IG inputs, 30 steps": ("eap_ig_inputs", {"steps": 30}),
    "EAP-IG activations": ("eap_ig_activations", {}),
    "mask-path IG, 5 steps": ("mask_ig", {"steps": 5, "tolerance": None}),
    "mask-path IG, adaptive": ("mask_ig", {}),
    "information-flow routes (nodes)": ("information_flow", {}),
    "node patching (nodes)": ("node_patching", {"progress": False}),
    "edge pruning, 100 steps": ("edge_pruning", {"steps": 100, "progress": False}),
    "Matryoshka, 100 steps": ("matryoshka", {"steps": 100, "progress": False}),
    "Matryoshka, 100 steps, distance": ("matryoshka", {"steps": 100, "loss": "distance", "progress": False}),
    "verified": ("verified", {"progress": False}),
    "exact, noising": ("edge_patching", {"direction": "noising", "progress": False}),
    "exact, denoising": ("edge_patching", {"direction": "denoising", "progress": False}),
    "exact, both": ("edge_patching", {"progress": False}),
}
"""Row of the table -> method and options."""
IN_LOGITS: Asked = {title: asked for title, asked in TABLE.items()
                    if asked[0] in ("eap", "eap_ig_inputs", "eap_ig_activations", "mask_ig", "verified", "edge_patching")}
"""Those whose scores are in units of the metric."""
GAINS = (1, 2, 5, 10, 20, 50, 100)
"""Softmax gains of the induction head: from nearly linear to saturated."""
INDUCTION = ("embed->L0H2.v", "L0H2->L1H1.k", "L1H1->logits.out")
"""What tells the two prompts apart when the keys exchange places: which token stands before, what is matched, what is said.
The rest of the circuit (positions, the query, the values) carries the same in both."""
INCOMPLETE = "the scores of integrated gradients"
"""How the warning begins that scores do not add up."""
RESOLUTION = 1e-6
"""Part of the largest score below which a score is rounding: a few steps of the numbers that the runs are made of."""
COMPLETE = 0.01
"""Part of the difference that scores may leave unexplained."""
SEEN, NEEDED = 1e-3, 1e-4
"""Smallest score and smallest exact effect (logits) that count, on gates: their values are whole numbers."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A model with its prompt pairs and its true edges [edge]."""

    name: str
    model: Any
    pairs: Callable[[int, int], list[TokenPair]]
    true: np.ndarray

    def batch(self, n: int = 64, seed: int = 0) -> Batch:
        """``n`` prompt pairs, the same for the same seed."""
        drawn = self.pairs(n, seed)
        return from_tokens([p.clean for p in drawn], [p.corrupt for p in drawn], [p.answer for p in drawn],
                           [p.wrong for p in drawn], name=self.name)


def programs() -> list[str]:
    """The compiled programs."""
    return list(COMPILED)


def planted() -> list[str]:
    """The models with a planted circuit."""
    return list(PLANTED)


def gains() -> list[str]:
    """The induction circuit at every gain."""
    return [f"gain {gain}" for gain in GAINS]


def subject(name: str, ablation: str = "resample") -> Subject:
    """The model of that name: a compiled program, one with a planted circuit, or ``gain 20`` for the induction circuit."""
    known = [*programs(), *planted(), *gains()]
    if name not in known:
        raise unknown("model with a known circuit", name, known)
    if name in gains():
        made = induction(beta=float(name.removeprefix("gain ")))
        model = load(made.model, verify=False)
        return Subject(name, model, made.pairs, mask_of(edges_of(model), Circuit(edges=tuple(map(Edge.parse, INDUCTION)))))
    model = load(name, verify=False)
    return Subject(name, model, (COMPILED if name in COMPILED else PLANTED)[name]().pairs, truth_of(model, ablation))


def batch_of(name: str, n: int = 64, seed: int = 0) -> Batch:
    """Prompt pairs of a model with a known circuit."""
    return subject(name).batch(n, seed)


def place() -> Path:
    """Where the circuits lie: in a checkout, or in a wheel."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package.parent / "circuits", package / "_data" / "circuits"):
        if folder.is_dir():
            return folder
    raise InterpError("find the circuits that ship", "the folder is not there", "install interp from a wheel or a checkout")


def truth_of(model: Any, ablation: str = "resample") -> np.ndarray:
    """The edges of a compiled or a planted model that an ablation needs, as a mask [edge]: found by trying every edge; under
    resampling, of a planted model, those that were planted (``planted_figures`` tells what is needed besides)."""
    kind, _, name = model.name.partition("-")
    ending = "" if (kind, ablation) == ("planted", "resample") else f".{ablation}"
    return mask_of(edges_of(model), Circuit.load(place() / kind / f"{name}{ending}.json"))


def planted_figures(name: str) -> dict[str, float]:
    """How well a circuit is planted: the figures of the model, and how many edges besides the planted ones are needed to
    keep the logit difference of every prompt within a part of the gap (``beyond 5%`` and the like)."""
    circuit = Circuit.load(place() / "planted" / f"{name.removeprefix('planted-')}.json")
    tried = {"10%": circuit.provenance["trying every edge"]["resample"]["needed besides"]}
    tried |= circuit.provenance["resample at a finer tolerance, besides"]
    return dict(PLANTED[name]().figures) | {f"beyond {part}": len(edges)
                                            for part, edges in sorted(tried.items(), key=lambda item: -int(item[0][:-1]))}


def detection_table(names: Sequence[str] | None = None, methods: Asked = TABLE, *, n: int = 64,
                    seeds: Sequence[int] = (1, 2, 3), say: Callable[[str], None] | None = None) -> pd.DataFrame:
    """How well methods find the true edges: one row per model, method and seed of the prompts.

    Columns: program, edges, true, method, seed, auroc, auprc, precision (among as many as are true), exact (share of edges
    that were patched exactly), complete (share of prompts whose residual is at most 1 % of the difference, where a method
    has one), warned (whether the method said that they are not), seconds.
    """
    rows = []
    for name in programs() if names is None else names:
        of = subject(name)
        for seed in seeds:
            batch = of.batch(n, seed)
            for title, (method, options) in methods.items():
                started = time.perf_counter()
                with warnings.catch_warnings(record=True) as said:
                    warnings.filterwarnings("always", INCOMPLETE)
                    found = discover(of.model, batch, method=method, **options)
                seconds = time.perf_counter() - started
                for other in (one for one in said if not str(one.message).startswith(INCOMPLETE)):
                    warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
                found = found.to_edges() if isinstance(found, NodeScores) else found
                size = np.abs(found.mean())
                size = np.where(size > RESOLUTION * size.max(), size, 0)
                exact = 1.0 if method == "edge_patching" else len(found.notes.get("exact", ())) / len(size)
                rows.append({"program": name, "edges": len(size), "true": int(of.true.sum()), "method": title, "seed": seed,
                             "auroc": detection.auroc(size, of.true), "auprc": detection.average_precision(size, of.true),
                             "precision": detection.precision_at(size, of.true), "exact": exact,
                             "complete": _complete(found.notes),
                             "warned": any(str(one.message).startswith(INCOMPLETE) for one in said), "seconds": seconds})
            if say is not None:
                say(f"{name}, seed {seed}")
    return pd.DataFrame(rows)


def _complete(notes: Mapping[str, Any]) -> float:
    if "residual" not in notes:
        return np.nan
    return float(np.mean(np.abs(notes["residual"]) <= COMPLETE * np.abs(notes["difference"])))


def gate_table(methods: Asked = IN_LOGITS, *, n: int = 8) -> pd.DataFrame:
    """Which edges of the gates methods do not see: one row per gate and method.

    Columns: gate, method, needed (edges whose exact patch moves the metric, in one direction or the other), missed (those of
    them that the method scores as nothing).
    """
    rows = []
    for name in GATE_MODELS:
        made = HANDMADE[name]()
        model = load(made.model, verify=False)
        batch = Subject(name, model, made.pairs, np.empty(0)).batch(n)
        both = discover(model, batch, method="edge_patching", progress=False).mean()
        needed = np.abs(both) > NEEDED
        for title, (method, options) in methods.items():
            found = np.abs(discover(model, batch, method=method, **options).mean())
            rows.append({"gate": name, "method": title, "needed": int(needed.sum()),
                         "missed": int((found[needed] <= SEEN).sum())})
    return pd.DataFrame(rows)


def main() -> None:
    """Score every known circuit by every method, and write the page."""
    asked = argparse.ArgumentParser(prog="python -m interp.discovery.truth", description=main.__doc__)
    asked.add_argument("--out", type=Path, default=Path("docs/ground-truth.md"))
    asked.add_argument("--prompts", type=int, default=64)
    asked.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    given = asked.parse_args()
    started = time.perf_counter()

    def say(what: str) -> None:
        print(f"{time.perf_counter() - started:6.0f} s  {what}", flush=True)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", INCOMPLETE)
        gates = gate_table()
    swept = detection_table(gains(), n=given.prompts, seeds=given.seeds[:1], say=say)
    dense = detection_table(planted(), n=given.prompts, seeds=given.seeds, say=say)
    found = detection_table(n=given.prompts, seeds=given.seeds, say=say)
    figures = {name: planted_figures(name) for name in planted()}
    text = page(found, dense, figures, gates, swept, n=given.prompts, seeds=given.seeds,
                seconds=time.perf_counter() - started)
    given.out.write_text(text, encoding="utf-8")
    say(f"wrote {given.out}")


if __name__ == "__main__":
    main()
