"""Writing a file whole or not at all."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from interp.core.errors import InterpError


def write_whole(path: str | Path, write: Callable[[Path], None]) -> Path:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place in one step.

    If anything fails on the way (a full disk, say) nothing is left behind and a file that was at ``path`` stays as it was.
    Folders on the way are made. Raises ``InterpError`` if the disk refuses.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise InterpError(f"write {path}", (error.strerror or str(error)).lower(),
                          "nothing was left half-written: make room or choose another place") from error
    finally:
        if temporary.exists():
            temporary.unlink()
    return path


def write_text(path: str | Path, text: str) -> Path:
    """Write UTF-8 text to ``path``, whole or not at all."""
    content = text.encode()

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    return write_whole(path, write)
