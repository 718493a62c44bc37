"""Writing a figure to a file: an image through kaleido and a browser, or a page of its own."""

from pathlib import Path

import plotly.graph_objects as go

from interp.core.errors import InterpError
from interp.core.files import write_text, write_whole

IMAGES = ("png", "svg", "pdf")
WIDTH, HEIGHT = 900, 520
"""Of figures that have none of their own, in CSS pixels."""


def save(figure: go.Figure, path: str | Path, *, width: int | None = None, height: int | None = None,
         scale: float = 2) -> Path:
    """Write a figure as ``.png``, ``.svg`` or ``.pdf`` (by the path's ending), or as a self-contained ``.html``; its path.

    Images need ``pip install 'interp[export]'`` (kaleido) and Chrome or Chromium, found on the path or by the environment
    variable ``BROWSER_PATH``. Nothing is fetched from the network. A file is written whole or not at all.

    Args:
        width, height: in CSS pixels; None: the figure's own, or 900 x 520. scale: pixels of a PNG per CSS pixel.

    Raises ``InterpError`` for another ending, where kaleido or the browser is missing, and where the browser fails.
    """
    kind = Path(path).suffix.lower().lstrip(".")
    if kind == "html":
        return write_text(path, figure.to_html(include_plotlyjs=True))
    asked = f"save a figure as {path}"
    if kind not in IMAGES:
        raise InterpError(asked, f"{kind or 'no ending'!r} is no format of a figure", "end it in .png, .svg, .pdf or .html")
    size = {"width": width or figure.layout.width or WIDTH, "height": height or figure.layout.height or HEIGHT}
    image = _image(figure, asked, {"format": kind, "scale": scale, **size})
    return write_whole(path, lambda temporary: _write(temporary, image))


def _write(path: Path, image: bytes) -> None:
    path.write_bytes(image)


def _image(figure: go.Figure, asked: str, options: dict[str, object]) -> bytes:
    try:
        import kaleido
        from kaleido.errors import BrowserClosedError, BrowserFailedError, ChromeNotFoundError, JavascriptError, KaleidoError
    except ImportError as error:
        raise InterpError(asked, "images need kaleido, which is not installed",
                          "pip install 'interp[export]', or save as .html") from error
    try:
        return bytes(kaleido.calc_fig_sync(figure, opts=options, kopts={"mathjax": False}))
    except ChromeNotFoundError as error:
        raise InterpError(asked, "images are drawn by Chrome or Chromium, and none was found",
                          "install one, set BROWSER_PATH to it, or save as .html") from error
    except (BrowserClosedError, BrowserFailedError, JavascriptError, KaleidoError, TimeoutError, OSError) as error:
        raise InterpError(asked, f"the browser failed ({type(error).__name__}: {error})",
                          "try another browser by BROWSER_PATH, or save as .html") from error
