// All panels of one state together.

import { make } from "./base.js";
import { gridPanel } from "./grid.js";
import { mapPanel } from "./map.js";
import { stripPanel } from "./strip.js";

export function workbenchPanels(link, root) {
  const [grid, map, strip] = ["heads", "attention", "tokens"].map((name) =>
    make("section", { class: `iw-panel iw-${name}`, "aria-label": name }));
  const source = make("p", { class: "iw-fine" });
  root.append(make("div", { class: "iw-bench" }, grid, make("div", { class: "iw-side" }, map, strip)), source);
  gridPanel(link, grid);
  mapPanel(link, map);
  stripPanel(link, strip);
  link.drawn(["header"], () => {
    map.hidden = strip.hidden = !link.header.prompt;
    source.textContent = link.header.source ?? "";
  });
}
