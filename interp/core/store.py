"""``Store``: saved scores in a folder, found again by what was asked; and the name of the file of a result."""

import re
from dataclasses import dataclass
from pathlib import Path

from interp.core.errors import InterpError
from interp.core.provenance import Provenance
from interp.core.scores import HeadScores


@dataclass(frozen=True)
class Store:
    """A folder of parquet files, one per result, named by ``file_name``."""

    folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))

    def path(self, provenance: Provenance) -> Path:
        """Where the result of this request is, or would be."""
        return self.folder / file_name(provenance)

    def get(self, provenance: Provenance) -> HeadScores | None:
        """The saved result of the same request, None if there is none; date, device and versions may differ.

        Raises ``InterpError`` if the file is there and cannot be read, or holds the answer to another request.
        """
        path = self.path(provenance)
        if not path.exists():
            return None
        found = HeadScores.load(path)
        if found.provenance.key() != provenance.key():
            raise InterpError(f"find the saved {provenance.measure}", f"{path} answers another request", "remove that file")
        return found

    def put(self, scores: HeadScores) -> Path:
        """Save a result, replacing an earlier one of the same request; returns where."""
        return scores.save(self.path(scores.provenance))

    def all(self) -> tuple[HeadScores, ...]:
        """Every saved result, by file name."""
        return tuple(HeadScores.load(path) for path in sorted(self.folder.glob("*.parquet")))


def file_name(provenance: Provenance, said: str = "") -> str:
    """The name of a result's file: ``organism.ioi.n64.seed0.ablation.3f81c02a.parquet``.

    Model, prompts and measure are for the reader; the eight digits at the end, of ``Provenance.key()``, are what no other
    request has, so that results of different requests can share a folder. ``said`` stands before them: options that the
    reader should see (``kind=zero``).
    """
    task = provenance.task
    seed = task.get("seed")
    parts = [
        str(provenance.model.get("name") or "").rstrip("/").split("/")[-1], str(task.get("name") or ""),
        f"n{task.get('n')}", "" if seed is None else f"seed{seed}", provenance.measure, said, provenance.key()[:8],
    ]
    return ".".join(re.sub(r"[^\w=,.+-]+", "_", part) for part in parts if part) + ".parquet"
