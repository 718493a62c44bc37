"""The page ``docs/ground-truth.md``: how well each method finds circuits that are known, as tables of text."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pandas as pd

from interp.core.provenance import collect_versions

HEADLINE = "All methods"
PROGRAMS = "Each program"


def page(found: pd.DataFrame, *, n: int, seeds: Sequence[int], seconds: float) -> str:
    """The page, from rows of ``interp.discovery.truth.detection_table``."""
    made = collect_versions()
    versions = ", ".join(f"{name} {made[name]}" for name in ("interp", "torch", "transformers") if name in made)
    parts = [
        "# Ground truth: how well discovery methods find circuits that are known",
        "",
        f"Made by `python -m interp.discovery.truth` ({datetime.now(UTC):%Y-%m-%d}, {versions}, "
        f"{seconds / 60:.0f} minutes); not edited by hand.",
        "",
        f"{found['program'].nunique()} programs compiled to the weights of transformers (`data/compiled`). The truth of "
        "each is the set of edges that *resample* ablation needs, found by trying every edge (`data/compiled/truth.py`); "
        "under zero ablation other edges are needed. A method's score of an edge is the size of its mean over "
        f"{n} pairs of prompts; seeds of the prompts: {', '.join(map(str, seeds))}. Scores of nodes count for an edge as "
        "the smaller of its two ends.",
        "",
        "Programs are an easy case: no norms, exact zeros, every edge whose patch changes anything is true. That exact "
        "patching is perfect here is therefore nearly by construction; what the table tells is which cheap methods are not.",
        "",
        f"## {HEADLINE}",
        "",
        "AUROC: mean over programs and seeds, and the worst program (mean over its seeds). AUPRC and precision among as "
        "many edges as are true: means. Exact: share of edges that were patched exactly. Complete: share of prompts whose "
        "scores add up to the whole difference within the tolerance, where a method says so. Seconds: of one "
        "run, for the order of magnitude.",
        "",
        table(summary(found)),
        "",
        f"## {PROGRAMS}",
        "",
        "AUROC, mean over seeds.",
        "",
        table(by_program(found)),
        "",
    ]
    return "\n".join(parts)


def summary(found: pd.DataFrame) -> pd.DataFrame:
    """One row per method, in the order of the table."""
    rows = []
    for method, of in found.groupby("method", sort=False):
        each = of.groupby("program", sort=False)["auroc"].mean()
        rows.append({
            "method": method, "mean AUROC": f"{of['auroc'].mean():.3f}", "worst": f"{each.min():.3f}",
            "worst program": str(each.idxmin()).removeprefix("compiled-") if each.min() < 1 else "",
            "AUPRC": f"{of['auprc'].mean():.3f}", "precision": f"{of['precision'].mean():.3f}",
            "exact": f"{100 * of['exact'].max():.1f} %",
            "complete": "" if of["complete"].isna().all() else f"{100 * of['complete'].mean():.0f} %",
            "seconds": f"{of['seconds'].mean():.2f}"})
    return pd.DataFrame(rows)


def by_program(found: pd.DataFrame) -> pd.DataFrame:
    """One row per method, one column per program."""
    methods, programs = found["method"].unique(), found["program"].unique()
    wide = found.pivot_table(index="method", columns="program", values="auroc", aggfunc="mean").loc[methods, programs]
    text = wide.map(lambda x: f"{x:.3f}").rename(columns=lambda name: name.removeprefix("compiled-"))
    text.columns.name = None
    return text.reset_index()


def table(frame: pd.DataFrame) -> str:
    """A table in Markdown."""
    rows = [list(frame.columns), ["---"] * frame.shape[1], *frame.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def read_tables(text: str) -> dict[str, pd.DataFrame]:
    """The tables of a page, by heading; cells are text."""
    found, heading, rows = {}, "", []
    for line in [*text.splitlines(), "## "]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif line.startswith("## "):
            if rows:
                found[heading] = pd.DataFrame(rows[2:], columns=rows[0])
            heading, rows = line[3:], []
    return found
