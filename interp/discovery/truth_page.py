"""The page ``docs/ground-truth.md``: how well each method finds circuits that are known, as tables of text."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from interp.core.provenance import collect_versions

CLAIMS = "What is claimed, and what came out"
HEADLINE = "All methods on the compiled programs"
PROGRAMS = "Each compiled program"
PLANTED = "Circuits planted by training"
DENSE = "All methods on the planted circuits"
GAIN = "The softmax gain of an induction circuit"
GATES = "Gates"


LEGEND = """\
AUROC: mean over models and seeds, and the worst model (mean over its seeds). AUPRC and precision among as many edges as are
true: means. Exact: largest share of edges that were patched exactly. Complete: share of prompts whose scores add up to the
whole difference within 1 %, where a method promises it. Seconds: of one run, for the order of magnitude."""

TEXT = f"""\
# Ground truth: how well discovery methods find circuits that are known

Made by `python -m interp.discovery.truth` ({{made}}); not edited by hand.

A method's score of an edge is the size of its mean over prompts; scores of nodes count for an edge as the smaller of its two
ends, and what is below a millionth of the largest score is rounding and counts as nothing. {{prompts}}, resample ablation
throughout: under zero ablation other edges are needed.

## {CLAIMS}

{{claims}}

## {HEADLINE}

{{programs}} programs compiled to the weights of transformers (`data/compiled`); true are the edges that resample ablation
needs, found by trying every edge (`data/compiled/truth.py`). They are an easy case: no norms, exact zeros, every edge whose
patch changes anything is true. That exact patching is perfect here is nearly by construction; what the table tells is which
cheap methods are not.

{LEGEND}

{{compiled}}

## {PROGRAMS}

AUROC, mean over seeds.

{{each}}

## {PLANTED}

The same circuits in small dense models, trained by interchange-intervention training until the model does what the program
does, also where parts of its circuit carry another prompt's run, and edges outside of it carry nothing that matters
(`data/planted/train.py`). On prompts that were never trained on (`data/planted/check.py`): accuracy of the behaviour;
interchange accuracy of the aligned nodes, of random sets of the circuit's edges, and, as a control, of nodes that are not
aligned; how much all edges outside of the circuit move together, as a part of what the whole run moves; how large what nodes
outside of it write is, as a part of what those within write. Beyond: how many edges besides the planted ones are needed to
keep the logit difference of every one of 256 prompts within that part of the gap, found by trying every edge: weights
that are trained do nothing exactly. True are the planted edges.

{{planted}}

## {DENSE}

{LEGEND}

{{dense}}

## {GAIN}

AUROC of the three true edges of the hand-made induction circuit (keys exchanged) over the gain of its softmax: from nearly
linear to saturated, where gradients through the pattern vanish. {{seed}}.

{{swept}}

## {GATES}

Edges that matter and that a method scores as nothing, of all edges whose exact patch moves the output in one direction or
the other (so that exact patching in both misses none by construction). `verified` patches nothing exactly here: 3 % of so
few edges is less than one.

{{gates}}
"""


def page(found: pd.DataFrame, dense: pd.DataFrame, figures: Mapping[str, Mapping[str, float]], gates: pd.DataFrame,
         swept: pd.DataFrame, *, n: int, seeds: Sequence[int], seconds: float) -> str:
    """The page, from the tables of ``interp.discovery.truth``: of compiled programs, planted circuits (and how well these
    are planted), gates, and the sweep of the gain."""
    made = collect_versions()
    versions = ", ".join(f"{name} {made[name]}" for name in ("interp", "torch", "transformers") if name in made)
    return TEXT.format(
        made=f"{datetime.now(UTC):%Y-%m-%d}, {versions}, {seconds / 60:.0f} minutes",
        prompts=f"{n} pairs of prompts, seeds {', '.join(map(str, seeds))}", programs=found["program"].nunique(),
        claims=table(claims(found, dense, gates, swept)), compiled=table(summary(found)), each=table(by_program(found)),
        planted=table(planted_table(dense, figures)), seed=f"Seed {seeds[0]}", swept=table(by_program(swept)),
        dense=table(by_program(dense).merge(summary(dense).drop(columns="worst program"), on="method")),
        gates=table(gate_rows(gates)))


def claims(found: pd.DataFrame, dense: pd.DataFrame, gates: pd.DataFrame, swept: pd.DataFrame) -> pd.DataFrame:
    """What these methods are meant to do, what was measured, and whether that is it."""
    def of(frame: pd.DataFrame, method: str, column: str = "auroc") -> pd.Series:
        return frame.loc[frame["method"] == method, column]

    exact, verified, gained = of(found, "exact, both"), of(found, "verified"), of(swept, "verified")
    share = max(of(found, "verified", "exact").max(), of(dense, "verified", "exact").max())
    missed, eap = int(of(gates, "verified", "missed").sum()), of(found, "EAP, noising")
    silent = sum(int(((frame["method"] == "verified") & (frame["complete"] < 0.95) & ~frame["warned"]).sum())
                 for frame in (found, dense, swept))
    ig = of(found, "EAP-IG inputs, 5 steps")
    rows = [
        ("exact patching: AUROC 1.000 on every program and seed", f"smallest {exact.min():.3f}", exact.min() >= 0.9995),
        ("`verified`: mean AUROC at least 0.995", f"{verified.mean():.4f}", verified.mean() >= 0.995),
        ("`verified`: at least 0.98 on every program and seed", f"smallest {verified.min():.3f}", verified.min() >= 0.98),
        ("`verified`: at most 3 % of edges patched exactly", f"{100 * share:.1f} %", share <= 0.03),
        ("`verified`: no edge missed on any gate", f"{missed} missed", missed == 0),
        ("`verified`: AUROC at least 0.99 over the sweep of the gain", f"smallest {gained.min():.3f}", gained.min() >= 0.99),
        ("`verified`: at least 0.98 on every planted circuit and seed", f"smallest {of(dense, 'verified').min():.3f}",
         of(dense, "verified").min() >= 0.98),
        ("`verified`: complete on 95 % of prompts, or a warning", f"{silent} runs without either", silent == 0),
        ("EAP and EAP-IG (5 steps) fall short: mean near 0.87, worst near 0.58",
         f"means {eap.mean():.3f} and {ig.mean():.3f}, worst {eap.min():.3f} and {ig.min():.3f}",
         max(eap.mean(), ig.mean()) < 0.95 and max(eap.min(), ig.min()) < 0.7),
        ("EAP falls as the softmax saturates", f"{of(swept, 'EAP, noising').iloc[0]:.3f} at the smallest gain, "
         f"{of(swept, 'EAP, noising').min():.3f} at its lowest", of(swept, "EAP, noising").min() < 0.8),
    ]
    return pd.DataFrame([(what, measured, "yes" if met else "no") for what, measured, met in rows],
                        columns=["claim", "measured", "met"])


def summary(found: pd.DataFrame) -> pd.DataFrame:
    """One row per method, in the order of the table."""
    rows = []
    for method, of in found.groupby("method", sort=False):
        each = of.groupby("program", sort=False)["auroc"].mean()
        rows.append({
            "method": method, "mean AUROC": f"{of['auroc'].mean():.3f}", "worst": f"{each.min():.3f}",
            "worst program": short(str(each.idxmin())) if each.min() < 1 else "",
            "AUPRC": f"{of['auprc'].mean():.3f}", "precision": f"{of['precision'].mean():.3f}",
            "exact": f"{100 * of['exact'].max():.1f} %",
            "complete": "" if of["complete"].isna().all() else f"{100 * of['complete'].mean():.0f} %",
            "seconds": f"{of['seconds'].mean():.2f}"})
    return pd.DataFrame(rows)


def by_program(found: pd.DataFrame) -> pd.DataFrame:
    """One row per method, one column per model."""
    methods, programs = found["method"].unique(), found["program"].unique()
    wide = found.pivot_table(index="method", columns="program", values="auroc", aggfunc="mean").loc[methods, programs]
    text = wide.map(lambda x: f"{x:.3f}").rename(columns=short)
    text.columns.name = None
    return text.reset_index()


def planted_table(dense: pd.DataFrame, figures: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """One row per planted circuit: its size, and how well it is planted."""
    titles = {"accuracy": "accuracy", "iia": "interchange", "iia_edges": "of edges", "iia_shuffled": "not aligned",
              "outside": "all outside", "noise": "size outside"}
    rows = []
    for name, of in dense.groupby("program", sort=False):
        mine = figures[str(name)]
        rows.append({"model": name, "edges": of["edges"].iloc[0], "true": of["true"].iloc[0]}
                    | {title: f"{mine[key]:.3f}" for key, title in titles.items()}
                    | {key: int(mine[key]) for key in mine if key.startswith("beyond")})
    return pd.DataFrame(rows)


def gate_rows(gates: pd.DataFrame) -> pd.DataFrame:
    """One row per method, one column per gate: how many are missed of how many."""
    text = gates.assign(cell=gates["missed"].astype(str) + " of " + gates["needed"].astype(str))
    methods, names = gates["method"].unique(), gates["gate"].unique()
    wide = text.pivot_table(index="method", columns="gate", values="cell", aggfunc="first").loc[methods, names]
    wide = wide.rename(columns=short)
    wide.columns.name = None
    total = gates.groupby("method", sort=False)["missed"].sum()
    return wide.assign(all=np.asarray(total.loc[methods])).reset_index()


def short(name: str) -> str:
    """The name of a model without its kind."""
    return name.removeprefix("compiled-").removeprefix("planted-").removeprefix("handmade-")


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
