"""A view as one HTML file: the same scripts and the data, compressed inside, no request, no network."""

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np

from interp.core.files import write_text
from interp.views.widgets import packing, sources
from interp.views.widgets.state import HeadState

ALL_HEADS = 8_000_000
"""Bytes of patterns in full, before compression, that a page holds; the strongest heads come first."""
SECURITY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
TRAITS = ("header", "sel", "hover", "query", "key", "metric", "grid", "sink", "scale", "theme", "prompt", "request", "edge",
          "task", "step", "threshold", "payloads")
LIVE = ("live",)
"""Views that draw nothing without Python: a page of several has no tab for them."""
LETTERS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%:()*+-;,=.?@^_`{|}~"
"""Digits in base 85 that stand for themselves in HTML and JSON; ``js/page.js`` has the same."""
START = """const unpacked = async () => {
const raw = Uint8Array.from(atob(CODE), (letter) => letter.charCodeAt(0));
return new Response(new Blob([raw]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
};
unpacked().then((code) => {
const script = document.createElement("script");
script.type = "module";
script.textContent = code;
document.body.append(script);
}).catch((error) => {
document.getElementById("here").textContent = `This browser cannot draw the page: ${error.message}`;
});
"""


def page(state: HeadState, view: str, *, title: str = "Attention heads", largest: int = ALL_HEADS) -> str:
    """The view of a state as HTML text.

    Selected heads are kept to three decimals, the others to what one byte a cell holds, as many as fit ``largest``; the page
    says of each head that it lacks that it does.
    """
    heads, blob = _heads(state, largest)
    total, kept = sum(state.heads), sum(len(one["heads"]) for one in heads)
    drawn = kept == total and all(one["key"]["block"] == 1 for one in heads)
    buffers = {"sinks": state.sinks, "table": state.table, "heads": blob}
    if not drawn:  # else the page pools them itself
        buffers["thumbnails"] = state.thumbnails
    payloads = {kind: one for kind, one in state.payloads.items() if view != "workbench" or kind not in LIVE}
    traits = {name: getattr(state, name) for name in TRAITS} | {"request": [], "hover": [], "payloads": payloads}
    header = dict(state.header) | {"still": True, "prompts": []}
    if state.patterns is not None and kept < total:
        parts = [header.get("source") or "", f"{kept} of {total} heads can be opened in this page"]
        header["source"] = " · ".join(part for part in parts if part)
    content = {"traits": traits | {"header": header}, "heads": heads,
               "buffers": {name: _packed(data) for name, data in buffers.items() if data}}
    data = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    source = sources.workbench_script(payloads) if view == "workbench" else sources.script(view)
    script = source.replace("export default view(", "const WIDGET = view(") + sources.joined("page") + (
        'const CONTENT = JSON.parse(document.getElementById("content").textContent);\n'
        'showPage(WIDGET, CONTENT, document.getElementById("here")).then((state) => { globalThis.interpState = state; });\n')
    code = base64.b64encode(gzip.compress(script.encode(), 9, mtime=0)).decode()
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{SECURITY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{_text(title)}</title><style>{sources.style(source)}\n"
        "html{color-scheme:light dark}body{margin:0;background:#fff}"
        "@media (prefers-color-scheme:dark){body{background:#18181B}}"
        "main{max-width:1180px;margin:0 auto}</style></head>"
        '<body><main id="here"></main><noscript>This page draws with JavaScript, which is switched off.</noscript>'
        f'<script type="application/json" id="content">{data}</script>\n'
        f'<script type="module">\nconst CODE = "{code}";\n{START}</script></body></html>\n'
    )


def save(state: HeadState, view: str, path: str | Path, **options: Any) -> Path:
    """Write ``page`` to a file; whole or not at all."""
    return write_text(Path(path), page(state, view, **options))


def _heads(state: HeadState, largest: int) -> tuple[list[dict[str, Any]], bytes]:
    """The kept heads, one after the other in one piece; and what lies there, in runs of heads that are packed alike."""
    if state.patterns is None:
        return [], b""
    order = [[layer, head] for layer, count in enumerate(state.heads) for head in range(count)]
    if state.metrics:
        size = np.nan_to_num(np.abs(state.metrics[0].mean), nan=-1.0)
        order.sort(key=lambda at: -size[at[0], at[1]])
    chosen = [[head.layer, head.head] for head in state.selected]
    runs: list[dict[str, Any]] = []
    parts: list[bytes] = []
    at = 0
    for layer, head in chosen + [one for one in order if one not in chosen]:
        found = packing.full(state.patterns, state.prompt, layer, head, bits=None if [layer, head] in chosen else 8)
        if at + len(found.data) > largest and [layer, head] not in chosen:
            break
        key = {name: value for name, value in found.key.items() if name not in ("prompt", "layer", "head")}
        if not runs or (runs[-1]["size"], runs[-1]["key"]) != (len(found.data), key):
            runs.append({"size": len(found.data), "key": key, "heads": []})
        runs[-1]["heads"].append([layer, head])
        parts.append(found.data)
        at += len(found.data)
    return runs, b"".join(parts)


def _packed(data: bytes) -> str:
    """Compressed, in base 85: five letters for four bytes."""
    zipped = gzip.compress(data, 9, mtime=0)
    missing = -len(zipped) % 4
    words = np.frombuffer(zipped + bytes(missing), ">u4").astype(np.uint32)
    digits = words[:, None] // np.array([85**4, 85**3, 85**2, 85, 1], np.uint32) % np.uint32(85)
    text: str = np.frombuffer(LETTERS, np.uint8)[digits].tobytes().decode()
    return text[: len(text) - missing]


def _text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
