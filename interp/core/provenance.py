"""``Provenance``: what was asked, of which model, on which prompts, with which options and versions.

Every saved number carries one. It is plain JSON data, so it can be compared, hashed and written into any file.
"""

import hashlib
import json
import math
import platform
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from interp.core.errors import InterpError
from interp.core.head import Head

FORMAT = 1
PACKAGES = ("interp", "torch", "transformers", "transformer-lens", "numpy", "scipy", "pandas")
_ASKED = ("measure", "options", "model", "task", "metric", "direction", "format")


@dataclass(frozen=True)
class Provenance:
    """What a result is a result of.

    Attributes:
        measure: name of the measure.
        options: every option of the measure with the value it had, defaults included.
        model: name, revision, dtype, backend, architecture, weight_processing, weights_sha256 (or None).
        task: name, version, seed, n, options, tokens_sha256 (hash of the token ids of the clean and corrupted prompts).
        metric: name of the metric (logits -> one number per prompt).
        direction: ``noising``, ``denoising`` or None where the measure has no direction.
        baselines: mean of the metric over the prompts, by name (``clean``, ``corrupt``).
        versions: package -> version.
        device: the device it was computed on.
        date: when, ISO 8601, UTC.
        code: ``revision`` and ``dirty`` of the source checkout, both None outside one.
        outcome: what a computation that was not done in full found out about itself: how much was computed, and what bounds
            hold for the rest (``interp.core.certificate`` puts it into words); empty where all was computed.
        format: version of this record.

    All values are turned into plain JSON data when the record is made (tuples become lists, heads their names, non-finite
    numbers their names), so that a record equals itself after a round trip.
    """

    measure: str
    options: Mapping[str, Any]
    model: Mapping[str, Any]
    task: Mapping[str, Any]
    metric: str
    direction: str | None = None
    baselines: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)
    device: str = ""
    date: str = ""
    code: Mapping[str, Any] = field(default_factory=dict)
    format: int = FORMAT
    outcome: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for item in fields(self):
            object.__setattr__(self, item.name, plain(getattr(self, item.name), item.name))

    def to_json(self) -> str:
        """The record as JSON text, keys sorted."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Provenance":
        """Read what ``to_json`` wrote; refuses a record of a later format or with unknown fields."""
        asked = "read a provenance record"
        try:
            record = json.loads(text)
        except json.JSONDecodeError as error:
            raise InterpError(asked, f"it is not JSON ({error})", "give text written by Provenance.to_json") from error
        known = {item.name for item in fields(cls)}
        if not isinstance(record, dict) or not {"measure", "options", "model", "task", "metric", "format"} <= set(record):
            raise InterpError(asked, "it lacks required fields", "give text written by Provenance.to_json")
        if record["format"] > FORMAT or not set(record) <= known:
            true = f"it is of format {record['format']}, this version reads up to {FORMAT}"
            raise InterpError(asked, true, "update interp")
        return cls(**record)

    def key(self) -> str:
        """sha256 of what was asked (measure, options, model, task, metric, direction), not of when or what came out."""
        asked = {name: getattr(self, name) for name in _ASKED}
        return hashlib.sha256(json.dumps(asked, sort_keys=True, allow_nan=False).encode()).hexdigest()


def plain(value: Any, where: str) -> Any:
    """``value`` as plain JSON data; a ``TypeError`` names the place of what cannot be written."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Head | Path):
        return str(value)
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist(), where)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((plain(item, where) for item in value), key=str)
    if isinstance(value, tuple | list | range):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    raise TypeError(f"{where} is a {type(value).__name__}; provenance holds JSON data only")


def check_comparable(a: Provenance, b: Provenance, *, across: Collection[str] = ()) -> None:
    """Refuse to compare unlike things: raises ``InterpError`` naming what differs.

    Compared are the model (its weights where both records have their hash, else name and revision; and the weight
    processing), the prompts (hash of the token ids) and the metric. ``across`` names those of ``model``, ``task`` and
    ``metric`` that are meant to differ, e.g. ``across=("task",)`` to compare the heads of two tasks.
    """
    asked = f"compare {a.measure} with {b.measure}"
    for name in across:
        if name not in ("model", "task", "metric"):
            raise InterpError(asked, f"{name!r} is nothing one can compare across", "choose among model, task, metric")
    weights = all(p.model.get("weights_sha256") for p in (a, b))
    tokens = all(p.task.get("tokens_sha256") for p in (a, b))
    parts = {
        "model": (*(("weights_sha256",) if weights else ("name", "revision")), "weight_processing"),
        "task": ("tokens_sha256",) if tokens else ("name", "version", "seed", "n", "options"),
    }
    for part, names in parts.items():
        one, other = getattr(a, part), getattr(b, part)
        for name in names:
            if part not in across and one.get(name) != other.get(name):
                what = {"tokens_sha256": "prompts", "weights_sha256": "weights"}.get(name, name.replace("_", " "))
                hashed = name.endswith("sha256")
                said = " against ".join(str(p.get("name") if hashed else (p.get("name"), p.get(name))) for p in (one, other))
                raise InterpError(asked, f"they differ in the {part}'s {what} ({said})",
                                  f"score both on the same {part}, or say across=({part!r},)")
    if "metric" not in across and a.metric != b.metric:
        raise InterpError(asked, f"one is of the metric {a.metric}, the other of {b.metric}",
                          "use one metric for both, or say across=('metric',)")


def collect_versions() -> dict[str, str | None]:
    """Version of Python and of each package that takes part in the numbers; None where it is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def collect_code() -> dict[str, str | bool | None]:
    """Revision of the git checkout that ``interp`` runs from, and whether its files differ from it (``dirty``).

    Both are None where ``interp`` is installed without its history.
    """
    package = Path(__file__).parents[1]
    if _git(package, "ls-files", "--error-unmatch", "core/provenance.py") is None:
        return {"revision": None, "dirty": None}
    changed = _git(package, "status", "--porcelain", "--", ".")
    return {"revision": _git(package, "rev-parse", "HEAD"), "dirty": None if changed is None else bool(changed)}


def now() -> str:
    """The present time, ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _git(folder: Path, *words: str) -> str | None:
    """Output of a git command in ``folder``, None where git is absent or refuses."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
