"""Models whose circuits are known, and how well each method finds them.

``python -m interp.discovery.truth`` writes the table of all methods, good and bad, to ``docs/ground-truth.md``.

The truth of a compiled program is read from ``circuits/compiled``: the edges that are needed under an ablation, found by
trying every edge (``data/compiled/truth.py``). A method's score of an edge is the size of its mean over prompts.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interp.core import detection
from interp.core.circuit import Circuit
from interp.core.errors import InterpError
from interp.discovery.graph import edges_of, mask_of
from interp.discovery.method import discover
from interp.discovery.node_scores import NodeScores
from interp.discovery.truth_page import page
from interp.models.compiled import COMPILED
from interp.models.load import load
from interp.tasks.batch import Batch
from interp.tasks.own import from_tokens

TABLE: Mapping[str, tuple[str, Mapping[str, Any]]] = {
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


def programs() -> list[str]:
    """The compiled programs."""
    return list(COMPILED)


def batch_of(name: str, n: int = 64, seed: int = 0) -> Batch:
    """Prompt pairs of a compiled program."""
    if name not in COMPILED:
        raise InterpError(f"make prompts of {name}", "it is no compiled program", "choose one of " + ", ".join(COMPILED))
    pairs = COMPILED[name]().pairs(n, seed)
    return from_tokens([p.clean for p in pairs], [p.corrupt for p in pairs], [p.answer for p in pairs],
                       [p.wrong for p in pairs], name=name)


def place() -> Path:
    """Where the circuits lie: in a checkout, or in a wheel."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package.parent / "circuits", package / "_data" / "circuits"):
        if folder.is_dir():
            return folder
    raise InterpError("find the circuits that ship", "the folder is not there", "install interp from a wheel or a checkout")


def truth_of(model: Any, ablation: str = "resample") -> np.ndarray:
    """The true edges of a compiled program under an ablation, as a mask [edge]."""
    name = model.name.removeprefix("compiled-")
    return mask_of(edges_of(model), Circuit.load(place() / "compiled" / f"{name}.{ablation}.json"))


def detection_table(names: Sequence[str] | None = None, methods: Mapping[str, tuple[str, Mapping[str, Any]]] = TABLE, *,
                    n: int = 64, seeds: Sequence[int] = (1, 2, 3), say: Callable[[str], None] | None = None) -> pd.DataFrame:
    """How well methods find the edges that resample ablation needs: one row per program, method and seed of the prompts.

    Columns: program, edges, true, method, seed, auroc, auprc, precision (among as many as are true), exact (share of edges
    that were patched exactly), complete (share of prompts whose residual is below the tolerance, where there is one),
    seconds.
    """
    rows = []
    for name in programs() if names is None else names:
        model = load(name, verify=False)
        true = truth_of(model)
        for seed in seeds:
            batch = batch_of(name, n, seed)
            for title, (method, options) in methods.items():
                started = time.perf_counter()
                found = discover(model, batch, method=method, **options)
                seconds = time.perf_counter() - started
                found = found.to_edges() if isinstance(found, NodeScores) else found
                size = np.abs(found.mean())
                exact = 1.0 if method == "edge_patching" else len(found.notes.get("exact", ())) / len(true)
                complete = found.notes.get("complete")
                rows.append({"program": name, "edges": len(true), "true": int(true.sum()), "method": title, "seed": seed,
                             "auroc": detection.auroc(size, true), "auprc": detection.average_precision(size, true),
                             "precision": detection.precision_at(size, true), "exact": exact,
                             "complete": np.nan if complete is None else float(np.mean(complete)),
                             "seconds": seconds})
            if say is not None:
                say(f"{name}, seed {seed}")
    return pd.DataFrame(rows)


def main() -> None:
    """Score every program by every method, and write the page."""
    asked = argparse.ArgumentParser(prog="python -m interp.discovery.truth", description=main.__doc__)
    asked.add_argument("--out", type=Path, default=Path("docs/ground-truth.md"))
    asked.add_argument("--prompts", type=int, default=64)
    asked.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    given = asked.parse_args()
    started = time.perf_counter()

    def say(what: str) -> None:
        print(f"{time.perf_counter() - started:6.0f} s  {what}", flush=True)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the scores of integrated gradients")      # the column "complete" says it
        found = detection_table(n=given.prompts, seeds=given.seeds, say=say)
    text = page(found, n=given.prompts, seeds=given.seeds, seconds=time.perf_counter() - started)
    given.out.write_text(text, encoding="utf-8")
    say(f"wrote {given.out}")


if __name__ == "__main__":
    main()
