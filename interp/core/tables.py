"""``HeadScores`` as tables: long, summarised, and as a parquet file."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from interp.core.errors import InterpError
from interp.core.files import write_whole
from interp.core.provenance import Provenance, plain

if TYPE_CHECKING:
    from interp.core.scores import HeadScores

FORMAT = 1
_KEY = b"interp"


def long(scores: "HeadScores") -> pd.DataFrame:
    """Every value as one row, in the order of ``values.ravel()``."""
    grid = np.indices(scores.values.shape).reshape(scores.values.ndim, -1)
    columns: dict[str, Any] = _head_columns(scores, grid[0], grid[1])
    for axis, dim in enumerate(scores.dims[2:], start=2):
        columns[dim] = pd.Series(scores.labels(dim)).to_numpy()[grid[axis]]
    return pd.DataFrame(columns | {"value": scores.values.ravel()})


def summary(scores: "HeadScores", confidence: float, level: float, n_boot: int, seed: int) -> pd.DataFrame:
    """One row per head (and label of a further axis): mean, interval, test, normalised value."""
    mean, (low, high), test = scores.mean(), scores.interval(confidence, n_boot, seed), scores.test(level)
    grid = np.indices(mean.shape).reshape(mean.ndim, -1)
    columns: dict[str, Any] = _head_columns(scores, grid[0], grid[1])
    for axis, dim in enumerate(scores.dims[3:], start=2):
        columns[dim] = pd.Series(scores.labels(dim)).to_numpy()[grid[axis]]
    columns |= {"mean": mean.ravel(), "low": low.ravel(), "high": high.ravel(), "p": test.p.ravel(), "q": test.q.ravel(),
                "significant": test.significant.ravel()}
    refused = ""
    try:
        fraction = scores.normalized(confidence, n_boot, seed)
        parts = (fraction.values.ravel(), fraction.low.ravel(), fraction.high.ravel())
    except InterpError as error:    # the raw values stand; the reader is told why there is no fraction
        refused, nothing = str(error), np.full(mean.size, np.nan)
        parts = (nothing, nothing, nothing)
    columns |= dict(zip(("normalized", "normalized_low", "normalized_high"), parts, strict=True))
    frame = pd.DataFrame(columns)
    frame.attrs["normalized"] = refused
    frame.attrs["test"] = "" if scores.signed else f"{scores.provenance.measure} is never negative: zero is no hypothesis"
    return frame


def _head_columns(scores: "HeadScores", layers: Any, heads: Any) -> dict[str, Any]:
    names = np.array([scores.label(head) for head in scores.heads], dtype=object)
    return {"head": names[layers * scores.n_heads + heads], "layer": layers, "index": heads}


def save(scores: "HeadScores", path: str | Path) -> Path:
    """Write the long table as parquet with all else in the file's metadata, whole or not at all."""
    rest = {
        "format": FORMAT, "attention": scores.attention, "unit": scores.unit, "group": scores.group,
        "signed": scores.signed, "dims": list(scores.dims), "shape": list(scores.values.shape),
        "coords": {name: plain(labels, name) for name, labels in scores.coords.items()},
        "baselines": {name: _numbers(x) for name, x in scores.baselines.items()},
        "normalizer": None if scores.normalizer is None else _numbers(scores.normalizer),
        "provenance": scores.provenance.to_json(),
    }
    table = pa.Table.from_pandas(long(scores), preserve_index=False)
    value = table.schema.get_field_index("value")
    table = table.set_column(value, "value", pa.array(scores.values.ravel(), from_pandas=False))
    table = table.replace_schema_metadata({_KEY: json.dumps(rest, allow_nan=False)})
    return write_whole(path, lambda temporary: pq.write_table(table, temporary, compression="zstd"))


def load(path: str | Path) -> dict[str, Any]:
    """The fields of the ``HeadScores`` that ``save`` wrote."""
    asked = f"read the scores {path}"
    if not Path(path).is_file():
        raise InterpError(asked, "there is no such file", "check the path")
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise InterpError(asked, "it is not a whole parquet file", "give a file written by HeadScores.save") from error
    if _KEY not in (table.schema.metadata or {}):
        raise InterpError(asked, "it carries no provenance", "give a file written by HeadScores.save")
    rest = json.loads(table.schema.metadata[_KEY])
    if rest["format"] > FORMAT:
        raise InterpError(asked, f"it is of format {rest['format']}, this version reads up to {FORMAT}", "update interp")
    return {
        "values": table["value"].to_numpy().reshape(rest["shape"]),
        "provenance": Provenance.from_json(rest["provenance"]),
        "attention": rest["attention"], "unit": rest["unit"], "group": rest["group"],
        "signed": rest.get("signed", True), "dims": tuple(rest["dims"]),
        "coords": {name: tuple(labels) for name, labels in rest["coords"].items()},
        "baselines": {name: np.array(x, dtype=np.float64) for name, x in rest["baselines"].items()},
        "normalizer": None if rest["normalizer"] is None else np.array(rest["normalizer"], dtype=np.float64),
    }


def _numbers(array: Any) -> list[float | None]:
    """An array as JSON; None stands for NaN."""
    return [float(x) if np.isfinite(x) else None for x in array]
