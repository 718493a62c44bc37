"""A workbench in a browser with Python behind it, without a notebook: a saved page whose state asks this process."""

import base64
from pathlib import Path
from typing import Any

from interp.views.widgets import page as pages
from interp.views.widgets.state import HeadState

BYTES = ("thumbnails", "sinks", "table", "full")
SENT = ("ask", "request", "prompt", "sel", "query", "key")
"""Traits that the page tells Python."""
BRIDGE = """async ([values, sent]) => {
  const state = globalThis.interpState;
  const view = (text) => new DataView(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
  const told = {};
  const take = (given) => {
    const changed = Object.fromEntries(Object.entries(given).map(
      ([name, one]) => [name, one?.bytes === undefined ? one : view(one.bytes)]));
    for (const name of sent) if (name in changed) told[name] = JSON.stringify(changed[name]);
    state.update(changed);
  };
  state.answer = () => null;
  state.save_changes = async () => {
    const fresh = sent.filter((name) => JSON.stringify(state.get(name)) !== told[name]);
    for (const name of fresh) told[name] = JSON.stringify(state.get(name));
    if (fresh.length) take(await globalThis.askPython(Object.fromEntries(fresh.map((name) => [name, state.get(name)]))));
  };
  take(values);
}"""


def open_live(tab: Any, state: HeadState, place: Path, view: str = "workbench") -> list[dict[str, Any]]:
    """Open a state in a tab of a browser, with this process to answer it; returns the questions, as they come."""
    kept, pages.LIVE = pages.LIVE, ()
    try:
        pages.save(state, view, place)
    finally:
        pages.LIVE = kept
    questions: list[dict[str, Any]] = []

    def ask_python(values: dict[str, Any]) -> dict[str, Any]:
        if "ask" in values:
            questions.append(values["ask"]["question"])
        for name in sorted(values, key=lambda name: name in ("ask", "request")):
            state.set_trait(name, values[name])
        return traits(state)

    tab.expose_function("askPython", ask_python)
    tab.goto(place.as_uri())
    tab.wait_for_selector(".iw-voice", state="attached")
    tab.evaluate(BRIDGE, [traits(state), list(SENT)])
    return questions


def traits(state: HeadState) -> dict[str, Any]:
    """What Python would send."""
    values: dict[str, Any] = {name: {"bytes": base64.b64encode(getattr(state, name)).decode()} for name in BYTES}
    for name in (*pages.TRAITS, "full_key", "reply"):
        if name != "request":
            values[name] = getattr(state, name)
    return values
