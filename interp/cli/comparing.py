"""``interp compare``: what circuits share, beside what chance gives."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.cli import arguments
from interp.cli.arguments import check_place, load_model
from interp.core.errors import InterpError


def compare(
    circuits: Annotated[
        list[Path] | None, typer.Argument(metavar="A.json B.json ...", help="Two or more circuit files.", show_default=False)
    ] = None,
    unit: Annotated[str, typer.Option("--unit", help="heads, nodes or edges.")] = "heads",
    model: Annotated[
        str, typer.Option("--model", "-m", help="The model, where the files do not tell its shape.", show_default=False)
    ] = "",
    layers: Annotated[int | None, typer.Option("--layers", help="Layers of the model.", show_default=False)] = None,
    heads: Annotated[int | None, typer.Option("--heads", help="Heads of a layer.", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The tables, a JSON file.", show_default=False)] = None,
    device: arguments.Device = None,
) -> None:
    """Compare circuits: the overlap of each pair with its chance lines, what all share, and what one alone has.

    `chance`: the mean Jaccard of random circuits of these sizes; `matched`: with as many in each layer; p: of sharing as
    much by matched chance, corrected for the number of pairs (Holm). Runs no model if the files tell its shape. Whether
    heads that two circuits share do the same in both tasks, `interp reuse` finds out (--circuit A.json --circuit B.json).

    Example: `interp compare circuits/organism/ioi.json circuits/organism/colored_objects.json`
    """
    from interp.core.circuit import Circuit
    from interp.core.overlap import by_role
    from interp.core.overlap_many import heads as table_of_heads
    from interp.core.overlap_many import intersections, matrix, pairs
    from interp.core.universe import Shape, universe

    if circuits is None or len(circuits) < 2:
        raise InterpError("compare circuits", f"{len(circuits or ())} files were given", "give two or more circuit files")
    if (layers is None) != (heads is None):
        raise InterpError("take the shape of the model", "only one of --layers and --heads was given", "give both")
    if out is not None:
        check_place(out, "file")
    read = {name: Circuit.load(path) for name, path in _named(circuits).items()}
    if model:
        from interp.discovery import edges_of
        from interp.discovery.shape import shape_of

        shape = shape_of(edges_of(load_model(model, device, "float32", None)))
    else:
        shape = Shape(layers, heads) if layers is not None and heads is not None else Shape.of_circuits(*read.values())
    among = universe(shape, unit)
    found, cut, shared = pairs(read, among), intersections(read, among), table_of_heads(read)
    if len(read) > 2:
        sys.stdout.write(f"Jaccard of {unit}\n" + matrix(found).round(2).to_string() + "\n\n")
    sys.stdout.write(found.round(3).to_string(index=False) + "\n\n")
    sys.stdout.write(f"{unit} by the circuits that have them\n")
    for row in cut.to_dict("records"):
        names = " + ".join(row["circuits"]) + ("" if row["degree"] < len(read) else " (all)")
        items = ", ".join(row["items"]) if unit != "edges" or row["count"] <= 12 else f"{row['items'][0]}, ..."
        sys.stdout.write(f"  {names}: {row['count']} (by chance {row['chance']:.1f}) {items}\n")
    tables: dict[str, Any] = {"pairs": found, "intersections": cut, "heads": shared}
    if len(read) == 2 and any(one.roles for one in read.values()):
        tables["roles"] = by_role(*read.values(), shape)
        sys.stdout.write("\nby role\n" + tables["roles"].round(3).to_string(index=False) + "\n")
    if out is not None:
        from interp.core.files import write_text
        from interp.core.provenance import plain

        told = {"unit": unit, "n": len(among), "shape": shape.record(), "circuits": list(read)} | {
            name: table.to_dict("records") for name, table in tables.items()}
        text = json.dumps(plain(told, "comparison"), indent=1, ensure_ascii=False)
        sys.stdout.write(f"saved: {write_text(out, text + chr(10))}\n")


def _named(paths: list[Path]) -> dict[str, Path]:
    """Files by the shortest ends of their paths that tell them apart."""
    if len(set(paths)) < len(paths):
        raise InterpError("compare circuits", "a file was given twice", "name each file once")
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.with_suffix("").parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            break
    else:
        names = [str(path) for path in paths]
    return dict(zip(names, paths, strict=True))
