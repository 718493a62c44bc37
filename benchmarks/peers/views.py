"""BertViz and CircuitsVis as pages, drawn without a network: what they would load from it is answered from files."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MISSING = "needs Chromium and playwright"
FOLDER = Path(os.environ.get("INTERP_VIEW_PEERS", "peers-of-views"))
SCRIPTS = {"require.js": "requirejs/require.js", "d3": "d3/dist/d3.min.js", "jquery": "jquery/dist/jquery.min.js"}
QUIET = 1.0
"""Seconds without a change after which a page counts as drawn."""
LONGEST = 150.0
WATCH = """
globalThis.lastWork = 0;
new MutationObserver(() => { globalThis.lastWork = performance.now(); })
  .observe(document, { subtree: true, childList: true, attributes: true });
let before = performance.now();
const beat = () => {
  const now = performance.now();
  if (now - before > 120) globalThis.lastWork = now;
  before = now;
  requestAnimationFrame(beat);
};
requestAnimationFrame(beat);
"""
STATE = "[globalThis.lastWork, performance.now(), document.querySelectorAll('canvas, svg').length]"


class MissingError(Exception):
    """A peer is not here, or does not draw."""


def bertviz(weights: np.ndarray, tokens: list[str]) -> str:
    """The model view of all heads."""
    made = _module("bertviz").model_view([torch.tensor(layer)[None] for layer in weights], tokens, html_action="return")
    return f"<!doctype html><meta charset=utf-8><body>{made.data}</body>"


def circuitsvis(weights: np.ndarray, tokens: list[str]) -> str:
    """The heads of the first layer: a display of it holds one layer."""
    made = _module("circuitsvis.attention").attention_heads(torch.tensor(weights[0]), tokens)
    return f"<!doctype html><meta charset=utf-8><body>{made.local_src}</body>"


PEERS: Mapping[str, Callable[[np.ndarray, list[str]], str]] = {"BertViz": bertviz, "CircuitsVis": circuitsvis}
PARTS = {"BertViz": "its model view; ours has map, strip, metrics and export besides",
         "CircuitsVis": "its heads of one layer, ours all layers"}


def answer(route: Any) -> None:
    """A request of a page: the scripts that BertViz loads, from files; nothing else."""
    address = route.request.url
    found = next((FOLDER / "js" / "node_modules" / path for name, path in SCRIPTS.items() if name in address), None)
    if found is not None and found.is_file():
        route.fulfill(path=found, content_type="text/javascript")
    else:
        route.abort()


def settled(tab: Any, place: Path) -> float:
    """Seconds from opening a page, in a tab with ``WATCH``, until its last change or the end of its last long frame.

    Raises:
        MissingError: it drew nothing, or did not come to rest.
    """
    start = time.perf_counter()
    tab.goto(place.as_uri(), timeout=1000 * LONGEST)
    while time.perf_counter() - start < LONGEST:
        last, now, drawn = tab.evaluate(STATE)
        if now - last > 1000 * QUIET:
            if not drawn:
                raise MissingError("it drew nothing: the scripts that it loads from the network are not here")
            return float(last) / 1000
        tab.wait_for_timeout(100)
    raise MissingError(f"it did not come to rest within {LONGEST:.0f} s")


def _module(name: str) -> Any:
    sys.path.insert(0, str(FOLDER / "py"))
    try:
        return __import__(name, fromlist=["x"])
    except ImportError as error:
        raise MissingError(f"not here ({error}): see the head of benchmarks/views.py") from None
    finally:
        sys.path.pop(0)
