"""Models whose circuits are known, and how well each method finds them: ``python -m interp.discovery.truth``.

The truth of a compiled program is read from ``circuits/compiled``: the edges that are needed under an ablation, found by
trying every edge (``data/compiled/truth.py``). A method's score of an edge is the size of its mean over prompts.
"""

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
from interp.models import load
from interp.models.compiled import COMPILED
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
    that were patched exactly), complete (share of prompts whose residual is below the tolerance, where there is one).
    """
    rows = []
    for name in programs() if names is None else names:
        model = load(name, verify=False)
        true = truth_of(model)
        for seed in seeds:
            batch = batch_of(name, n, seed)
            for title, (method, options) in methods.items():
                found = discover(model, batch, method=method, **options)
                size = np.abs(found.mean())
                exact = 1.0 if method == "edge_patching" else len(found.notes.get("exact", ())) / len(true)
                complete = found.notes.get("complete")
                rows.append({"program": name, "edges": len(true), "true": int(true.sum()), "method": title, "seed": seed,
                             "auroc": detection.auroc(size, true), "auprc": detection.average_precision(size, true),
                             "precision": detection.precision_at(size, true), "exact": exact,
                             "complete": np.nan if complete is None else float(np.mean(complete))})
        if say is not None:
            say(name)
    return pd.DataFrame(rows)
