"""Finished units of a sweep on disk, so that an interrupted sweep goes on where it stopped.

``folder/<key of the plan>/<hash of the unit>.safetensors`` holds the metric and the record of what acted for some lists
and prompts, with the plan's key and a checksum in its metadata. A file is written whole or not at all. What cannot be
read, or belongs to another plan, is never used, and named.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from interp.core.files import write_whole

_PARTS = ("acted", "lists", "rows", "values")


@dataclass(frozen=True)
class UnitStore:
    """The units of one plan: ``folder`` holds a folder for each plan, named by the first 20 digits of its ``key``."""

    folder: Path
    key: str

    @property
    def place(self) -> Path:
        """The folder of this plan's units."""
        return Path(self.folder) / self.key[:20]


@dataclass(frozen=True)
class Stored:
    """What a store holds of a plan.

    Attributes:
        values: float64 [metric, list, prompt], NaN where nothing is stored. acted, done: bool [list, prompt].
        bad: files that could not be used, each with the reason.
    """

    values: np.ndarray
    acted: np.ndarray
    done: np.ndarray
    bad: tuple[str, ...]


def put(store: UnitStore, lists: Sequence[int], rows: Sequence[int], values: np.ndarray, acted: np.ndarray) -> Path:
    """Keep one unit: the metric [metric, list, prompt] and what acted [list, prompt], of these lists and prompts.

    Raises ``InterpError`` if the disk refuses; nothing is then left half-written.
    """
    parts = {"acted": acted.astype(np.uint8), "lists": np.asarray(lists, dtype=np.int64),
             "rows": np.asarray(rows, dtype=np.int64), "values": values.astype(np.float64)}
    parts = {name: np.ascontiguousarray(part) for name, part in parts.items()}
    packed = save(parts, {"plan": store.key, "sha256": _checksum(store.key, parts)})
    name = hashlib.sha256(parts["lists"].tobytes() + b"|" + parts["rows"].tobytes()).hexdigest()[:20]
    return write_whole(store.place / f"{name}.safetensors", lambda path: _fill(path, packed))


def read(store: UnitStore, n_metrics: int, n_lists: int, n_prompts: int) -> Stored:
    """Everything usable that the store holds of a plan of this size."""
    values = np.full((n_metrics, n_lists, n_prompts), np.nan)
    acted, done, bad = np.zeros((n_lists, n_prompts), bool), np.zeros((n_lists, n_prompts), bool), []
    for path in sorted(store.place.glob("*.safetensors")):
        parts = _parts(path, store.key, values.shape)
        if isinstance(parts, str):
            bad.append(f"{path}: {parts}")
            continue
        at = np.ix_(parts["lists"], parts["rows"])
        values[(slice(None), *at)] = parts["values"]
        acted[at], done[at] = parts["acted"].astype(bool), True
    return Stored(values, acted, done, tuple(bad))


def remove(folder: str | Path) -> None:
    """Take away all units kept in ``folder``, half-written ones of a killed process included, and the folders that are empty
    then. Files that no sweep wrote stay."""
    folder = Path(folder)
    plans = [path for path in folder.glob("*") if path.is_dir() and re.fullmatch(r"[0-9a-f]{20}", path.name)]
    for plan in plans:
        for path in plan.iterdir():
            if re.fullmatch(r"\.?[0-9a-f]{20}\.safetensors(\.[0-9a-f]{16})?", path.name):
                path.unlink()
    for place in (*plans, folder):
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()


def _parts(path: Path, key: str, shape: tuple[int, ...]) -> dict[str, np.ndarray] | str:
    """The tensors of a unit's file, or why it cannot be used."""
    try:
        with safe_open(path, framework="numpy") as file:
            said, names = file.metadata() or {}, set(file.keys())
            if names != set(_PARTS):
                return "it is no unit of a sweep"
            parts = {name: file.get_tensor(name) for name in _PARTS}
    except (OSError, SafetensorError, ValueError, TypeError):
        return "it is damaged"
    if said.get("plan") != key:
        return "it belongs to another sweep"
    if said.get("sha256") != _checksum(key, parts):
        return "it is damaged"
    lists, rows = parts["lists"], parts["rows"]
    fits = parts["values"].shape == (shape[0], len(lists), len(rows)) and parts["acted"].shape == (len(lists), len(rows))
    within = all(len(i) and i.min() >= 0 and i.max() < n for i, n in ((lists, shape[1]), (rows, shape[2])))
    return parts if fits and within else "it does not fit the sweep"


def _checksum(key: str, parts: dict[str, np.ndarray]) -> str:
    total = hashlib.sha256(key.encode())
    for name in _PARTS:
        total.update(f"{name} {parts[name].dtype} {parts[name].shape}\n".encode())
        total.update(parts[name].tobytes())
    return total.hexdigest()


def _fill(path: Path, packed: bytes) -> None:
    path.write_bytes(packed)
