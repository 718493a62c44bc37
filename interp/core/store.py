"""``Store``: saved scores in a folder, found again by what was asked."""

from dataclasses import dataclass
from pathlib import Path

from interp.core.errors import InterpError
from interp.core.provenance import Provenance
from interp.core.scores import HeadScores


@dataclass(frozen=True)
class Store:
    """A folder of parquet files, one per result, named ``<measure>-<key>.parquet`` after ``Provenance.key()``."""

    folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))

    def path(self, provenance: Provenance) -> Path:
        """Where the result of this request is, or would be."""
        return self.folder / f"{provenance.measure}-{provenance.key()[:20]}.parquet"

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
