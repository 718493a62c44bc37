"""Servers that notebooks are open in, each on a free port of this machine with folders of its own, gone after the test."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

TOKEN = "one-test-only"
START = 90
"""Seconds that a server may take to answer."""


@contextlib.contextmanager
def served(words: Sequence[str], folder: Path, answers: str) -> Iterator[str]:
    """Run ``python -m WORDS`` in ``folder`` (``PORT`` in the words stands for its port) until the block is left.

    Yields the address, once ``answers`` below it does.
    """
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    own = {name: str(folder / "settings" / name.lower()) for name in (
        "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME",
        "XDG_STATE_HOME")}
    command = [sys.executable, "-m", *(word.replace("PORT", str(port)) for word in words)]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, env={**os.environ, **own}, stdin=subprocess.DEVNULL, stdout=log,
                                  stderr=subprocess.STDOUT)
        try:
            address = f"http://127.0.0.1:{port}"
            _wait(server, address + answers, folder / "server.log")
            yield address
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _wait(server: subprocess.Popen, address: str, log: Path) -> None:
    until = time.monotonic() + START
    while time.monotonic() < until:
        if server.poll() is not None:
            break
        with contextlib.suppress(OSError, urllib.error.URLError), urllib.request.urlopen(address, timeout=5):
            return
        time.sleep(0.2)
    raise RuntimeError(f"{address} does not answer:\n{log.read_text(errors='replace')[-2000:]}")
