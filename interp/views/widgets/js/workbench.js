// All panels of one state together: head grid, map and strip, and beside them, as tabs, the further views that have data.

import { make } from "./base.js";
import { exportable } from "./export.js";
import { gridPanel } from "./grid.js";
import { mapPanel } from "./map.js";
import { stripPanel } from "./strip.js";

export const workbenchPanels = (further) => (link, root) => {
  const [grid, map, strip] = ["heads", "attention", "tokens"].map((name) =>
    make("section", { class: `iw-panel iw-${name}`, "aria-label": name }));
  const source = make("p", { class: "iw-fine" });
  const tabs = make("div", { class: "iw-tabs", role: "tablist", "aria-label": "further views" });
  const shelf = make("div", { class: "iw-shelf" });
  root.append(make("div", { class: "iw-bench" }, grid, make("div", { class: "iw-side" }, map, strip)), tabs, shelf, source);
  exportable(link, grid, gridPanel(link, grid));
  exportable(link, map, mapPanel(link, map));
  exportable(link, strip, stripPanel(link, strip));
  link.drawn(["header"], () => {
    map.hidden = strip.hidden = !link.header.prompt;
    grid.hidden = !link.header.prompt && !link.metrics.length;
    source.textContent = link.header.source ?? "";
  });
  const open = new Map();
  let shown = "";
  const show = (kind) => {
    shown = kind;
    for (const [name, { tab, panel }] of open) {
      tab.setAttribute("aria-selected", String(name === kind));
      tab.tabIndex = name === kind ? 0 : -1;
      panel.hidden = name !== kind;
    }
    link.redraw();
  };
  const step = (event) => {
    const names = [...open.keys()];
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    show(names[(names.indexOf(shown) + by + names.length) % names.length]);
    open.get(shown).tab.focus();
  };
  link.drawn(["payloads"], () => {
    const payloads = link.get("payloads") ?? {};
    for (const kind of Object.keys(further).filter((name) => payloads[name] && !open.has(name))) {
      const [title, draw] = further[kind];
      const panel = make("section", { class: `iw-panel iw-${kind}`, id: `${link.id}-${kind}`, role: "tabpanel",
        "aria-labelledby": `${link.id}-${kind}-tab` });
      const tab = make("button", { type: "button", role: "tab", id: `${link.id}-${kind}-tab`,
        "aria-controls": `${link.id}-${kind}`, onclick: () => show(kind), onkeydown: step }, title);
      open.set(kind, { tab, panel });
      tabs.append(tab);
      shelf.append(panel);
      exportable(link, panel, { name: kind, ...draw(link, panel) });
    }
    tabs.hidden = shelf.hidden = !open.size;
    if (!shown && open.size) show(open.keys().next().value);
  });
  return null;
};
