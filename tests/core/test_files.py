"""Files are written whole or not at all."""

import errno
from pathlib import Path

import pytest

from interp.core.errors import InterpError
from interp.core.files import write_text, write_whole


def test_text(tmp_path):
    path = write_text(tmp_path / "a" / "b.txt", "é\n")
    assert path.read_bytes() == "é\n".encode()
    write_text(path, "new")
    assert path.read_text() == "new"
    assert [p.name for p in path.parent.iterdir()] == ["b.txt"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_left_of_a_failed_write(tmp_path, error):
    (tmp_path / "x").write_text("before")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise error

    with pytest.raises((InterpError, KeyboardInterrupt)) as caught:
        write_whole(tmp_path / "x", fail)
    if isinstance(error, OSError):
        assert "no space left" in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_text() == "before"


def test_a_folder_in_the_way_is_named(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(InterpError, match="is a directory"):
        write_text(tmp_path / "x", "text")
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
