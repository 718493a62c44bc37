"""``interp types``: what each head is, as a table."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from interp.cli import arguments
from interp.cli.arguments import check_place, load_model


def types(
    model: arguments.Model = "",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for types.csv and evidence.csv.",
                                             show_default=False)] = None,
    n: Annotated[int, typer.Option("-n", "--n", help="Prompts of each kind of texts.")] = 12,
    seed: arguments.Seed = 0,
    at_least: Annotated[float, typer.Option("--at-least", help="Strength that is asked for, 0 to 1.")] = 0.3,
    confidence: Annotated[float, typer.Option("--confidence", help="Share of resamples in which a type must hold.")] = 0.95,
    device: arguments.Device = None,
    dtype: arguments.Dtype = "float32",
    backend: arguments.Backend = None,
) -> None:
    """Say what each head is: previous token, duplicate token, induction, sink with its share of rows, ... or unknown.

    A type is called where it shows on most kinds of texts and in nearly all resamples of the prompts. It says where a head
    looks, not that it matters.

    Example: `interp types --model organism --out types`
    """
    if out is not None:
        check_place(out, "folder")
    loaded = load_model(model, device, dtype, backend)
    from interp.measures.head_types import head_types

    found = head_types(loaded, n=n, seed=seed, at_least=at_least, confidence=confidence)
    shown = found.table.drop(columns=["layer", "index", "roles"])
    sys.stdout.write(shown.round(2).to_string(index=False) + "\n")
    for what, why in found.asked["left_out"].items():
        sys.stdout.write(f"without {what}: {why}\n")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        found.table.drop(columns="roles").to_csv(out / "types.csv", index=False)
        found.evidence.to_csv(out / "evidence.csv", index=False)
        sys.stdout.write(f"saved: {out / 'types.csv'}, {out / 'evidence.csv'}\n")
