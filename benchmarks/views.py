"""The widgets in a real browser: first paint, head switch, sizes of scripts, payloads, pages and notebooks; beside peers.

Needs Chromium and playwright for what is drawn. The peers are looked for in the folder that ``INTERP_VIEW_PEERS`` names:

    pip install --no-deps --target $INTERP_VIEW_PEERS/py bertviz circuitsvis importlib_metadata zipp lazy-importer
    npm install --prefix $INTERP_VIEW_PEERS/js d3@5 jquery@2 requirejs@2        # what BertViz loads from the network
"""

import json
import re
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.result import Benchmark, Findings, Row
from benchmarks.harness.shapes import Setting
from benchmarks.peers import views as peers
from benchmarks.peers.views import CHROMIUM, MISSING, settled
from interp.views.widgets import page, sources
from interp.views.widgets.head_metric import head_metrics
from interp.views.widgets.pattern_set import PatternSet, TokenRow, pattern_set
from interp.views.widgets.state import HeadState
from interp.views.widgets.view import View, Workbench

try:
    from playwright.sync_api import TimeoutError as TooLateError
    from playwright.sync_api import sync_playwright
except ImportError:
    sync_playwright, TooLateError = None, TimeoutError

KB = 1000
SWITCHES = 20
SLOW = 8.0
"""Seconds above which a peer is drawn once."""
PAINT = """
const wait = () => requestAnimationFrame(() => {
  if (!globalThis.interpState) return wait();
  requestAnimationFrame(() => { globalThis.painted = performance.now(); });
});
wait();
"""
"""Milliseconds from opening the page (reading and unpacking it included) to the first frame after everything is drawn."""
SWITCH = """async (heads) => {
  const state = globalThis.interpState;
  const taken = [];
  for (const head of heads) {
    const start = performance.now();
    state.update({ sel: [head], hover: [] });
    for (let i = 0; i < 6; i++) await null;
    taken.push(performance.now() - start);
    await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
  }
  return taken;
}"""
"""Milliseconds of script from a selection to map, strip and grid drawn anew."""


def measure(setting: Setting) -> Findings:
    """Every bar of the views; what needs a browser says so where there is none."""
    full = setting.shape.layers >= 12
    rows = [*sizes(full)]
    with tempfile.TemporaryDirectory() as place, browser() as tab:
        folder = Path(place)
        rows += painted(tab and tab(PAINT), folder, full)
        rows += switched(tab and tab(""), folder, full)
        rows += beside_peers(tab and tab(peers.WATCH), folder, 12 if full else 2, 64 if full else 16, setting.repeats)
    return Findings(tuple(rows))


def sizes(full: bool) -> Iterator[Row]:
    """What is sent and saved, in thousands of bytes."""
    largest = max((*sources.OWN, *sources.further()), key=lambda view: len(sources.script(view).encode()))
    yield size(f"script of a view, the largest ({largest})", len(sources.script(largest).encode()), 60)
    side, length = (12, 64) if full else (3, 16)
    for name, made in (("structured heads", structured), ("noise", noise)):
        text = page.page(state_of(made(side, side, length)), "workbench")
        yield size(f"page of {side}×{side} heads, {length} tokens, {name}", len(text.encode()), 350)
    for layers, heads, length in ((12, 12, 64), (32, 32, 256), (80, 64, 128)) if full else ((3, 3, 16),):
        state = lazy(layers, heads, length)
        sent = sum(len(getattr(state, name)) for name in ("thumbnails", "sinks", "table", "full"))
        sent += len(json.dumps([state.header, state.payloads]).encode())
        yield size(f"data before the first paint, {layers}×{heads} heads, {length} tokens", sent, 1500)
    for layers, heads, length in ((12, 12, 64), (32, 32, 128)) if full else ((3, 3, 16),):
        grown = notebook(Workbench(lazy(layers, heads, length)))
        yield size(f"a saved notebook grows, {layers}×{heads} heads, {length} tokens", grown, 500,
                   "the cell's output with the view for readers without widgets")


def painted(tab: Any, folder: Path, full: bool) -> Iterator[Row]:
    """Opening a saved page."""
    shapes = ((12, 12, 64, 300), (32, 32, 64, 600), (80, 64, 64, 1000), (2, 2, 4096, 1000)) if full else ((3, 3, 16, 300),)
    for layers, heads, length, bar in shapes:
        what = f"first paint of {layers * heads:,} heads, {length:,} tokens (bar in ms)"
        if tab is None:
            yield Row(what, bar=bar, sense="at most", note=MISSING)
            continue
        place = saved(folder, layers, heads, length)
        taken = []
        for _ in range(6 if full else 2):
            tab.goto(place.as_uri())
            while not tab.evaluate("globalThis.painted ?? 0"):
                tab.wait_for_timeout(20)
            taken.append(tab.evaluate("globalThis.painted") / 1000)
        yield seconds(what, taken[1:], bar, f"a page of {place.stat().st_size / KB:,.0f} KB is opened; unpacking included")


def switched(tab: Any, folder: Path, full: bool) -> Iterator[Row]:
    """Selecting another head that was not looked at before."""
    shapes = ((12, 12, 64, 8), (4, 6, 512, 8), (1, 6, 2048, 40), (2, 2, 4096, 100)) if full else ((3, 3, 16, 8),)
    for layers, heads, length, bar in shapes:
        what = f"head switch (script), {length:,} tokens (bar in ms)"
        if tab is None:
            yield Row(what, bar=bar, sense="at most", note=MISSING)
            continue
        tab.goto(saved(folder, layers, heads, length).as_uri())
        tab.wait_for_selector(".iw-voice", state="attached")
        tab.wait_for_timeout(300)
        order = [[i // heads, i % heads] for i in range(layers * heads)][::-1]
        taken = tab.evaluate(SWITCH, (order * SWITCHES)[:SWITCHES])
        yield seconds(what, [one / 1000 for one in taken], bar, f"median of {SWITCHES}")


def beside_peers(tab: Any, folder: Path, side: int, length: int, repeats: int) -> Iterator[Row]:
    """The same tensors drawn by us and by others: until nothing changes any more, and how large the page is."""
    weights, tokens = structured(side, side, length), texts(length)
    own = folder / "own.html"
    page.save(state_of(weights), "workbench", own)
    for name, made in peers.PEERS.items():
        place, part = folder / f"{name}.html", peers.PARTS[name]
        try:
            place.write_text(made(weights, tokens), encoding="utf-8")
        except peers.MissingError as missing:
            yield Row(f"against {name}", rival=name, bar=1.0, note=str(missing))
            continue
        many = f"{side}×{side} heads, {length} tokens"
        sizes_ = [one.stat().st_size / KB for one in (own, place)]
        yield Row(f"page, {many}", sizes_[0], name, sizes_[1], sizes_[1] / sizes_[0], 1.0, unit="KB", note=part)
        if tab is None:
            yield Row(f"drawn, {many}", rival=name, bar=1.0, note=MISSING)
            continue
        try:
            rounds = [(settled(tab, own), settled(tab, place))]
            while len(rounds) < repeats and rounds[0][1] < SLOW:
                rounds.append((settled(tab, own), settled(tab, place)))
        except (peers.MissingError, TooLateError) as missing:
            yield Row(f"drawn, {many}", rival=name, bar=1.0, note=str(missing).splitlines()[0])
            continue
        ours, its = ([one[i] for one in rounds] for i in (0, 1))
        mine, theirs = statistics.median(ours), statistics.median(its)
        yield Row(f"drawn, {many}", mine, name, theirs, theirs / mine, 1.0, note=part,
                  rounds={"ours": tuple(ours), name: tuple(its)})


def size(what: str, count: int, bar: float, note: str = "") -> Row:
    """A row about thousands of bytes."""
    return Row(what, count / KB, ratio=count / KB, bar=bar, sense="at most", unit="KB", note=note)


def seconds(what: str, taken: list[float], bar: float, note: str) -> Row:
    """A row about a median of seconds."""
    middle = statistics.median(taken)
    ends = f"{1000 * min(taken):.3g} to {1000 * max(taken):.3g} ms"
    return Row(what, middle, ratio=1000 * middle, bar=bar, sense="at most", note=f"{note}; {ends}",
               rounds={"ours": tuple(taken)})


def notebook(view: View) -> int:
    """Bytes that a notebook grows by when the view is shown and the kernel is gone."""
    return len(json.dumps(view._repr_mimebundle_()[0]).encode())


def saved(folder: Path, layers: int, heads: int, length: int) -> Path:
    """A page of that many structured heads, written once."""
    place = folder / f"{layers}-{heads}-{length}.html"
    if not place.exists():
        page.save(lazy(layers, heads, length), "workbench", place, largest=300_000 if layers * heads > 1000 else 16_000_000)
    return place


def state_of(weights: np.ndarray) -> HeadState:
    """Patterns [layer, head, query, key] with a metric."""
    layers, heads, length, _ = weights.shape
    effect = np.random.default_rng(1).normal(size=(layers, heads))
    return HeadState(pattern_set(weights, texts(length)), head_metrics({"effect": effect}))


def lazy(layers: int, heads: int, length: int) -> HeadState:
    """Structured patterns of many heads, of which one layer at a time is held."""
    one = structured(1, heads, length)[0]
    seen = np.broadcast_to(np.tril(np.ones((length, length), bool)), one.shape)
    row = TokenRow(tuple(texts(length)))
    effect = np.random.default_rng(1).normal(size=(layers, heads))
    return HeadState(PatternSet((heads,) * layers, (row,), (row,), lambda prompt, layer: (one, seen)),
                     head_metrics({"effect": effect}))


def structured(layers: int, heads: int, length: int) -> np.ndarray:
    """Heads as trained models have them: each a mixture of first key, previous token, nearness, repetition and its own
    noise, float32 [layer, head, query, key]."""
    rng = np.random.default_rng(0)
    far = np.subtract.outer(np.arange(length), np.arange(length))
    causal = far >= 0
    parts = np.stack([far == np.arange(length)[:, None], far == 1, np.exp(-np.maximum(far, 0) / 4.0),
                      far == max(1, length // 2)]).astype(np.float32)
    out = np.empty((layers, heads, length, length), np.float32)
    for layer in range(layers):
        for head in range(heads):
            mixed = np.tensordot(rng.dirichlet([0.3] * 4).astype(np.float32), parts, 1) + 1e-4
            mixed *= np.exp(0.2 * rng.standard_normal((length, 1), np.float32))
            mixed[~causal] = 0
            out[layer, head] = mixed / mixed.sum(-1, keepdims=True)
    return out


def noise(layers: int, heads: int, length: int) -> np.ndarray:
    """The softmax of normal scores: nothing of it can be compressed."""
    scores = np.exp(np.random.default_rng(0).standard_normal((layers, heads, length, length), np.float32))
    scores[..., ~np.tril(np.ones((length, length), bool))] = 0
    return scores / scores.sum(-1, keepdims=True)


def texts(length: int) -> list[str]:
    """Words as tokens."""
    return [f" word{i}" for i in range(length)]


@contextmanager
def browser() -> Iterator[Callable[[str], Any] | None]:
    """Opens tabs, in which a script runs before any page, and which reach no network but for the scripts of peers, which are
    answered from files; None without a browser."""
    if CHROMIUM is None or sync_playwright is None:
        yield None
        return
    with sync_playwright() as player:
        opened = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])

        def tab(script: str) -> Any:
            context = opened.new_context(viewport={"width": 1180, "height": 1000})
            context.route(re.compile("^https?:"), peers.answer)
            if script:
                context.add_init_script(script)
            return context.new_page()

        yield tab
        opened.close()


BENCHMARK = Benchmark("Views", measure, minutes=1, place=19)
