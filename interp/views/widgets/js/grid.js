// The head grid: rows are layers (0 on top), columns heads; a metric's colours, thumbnails of the patterns, or both.

import { gridLayout, headName, headSentence, inkOn, css, lut, metricColour, metricLimit, moved, number, parseHead, poolMax,
  thinned } from "./core.js";
import { choice, fit, hatch, make } from "./base.js";

const LEFT = 34;
const TOP = 20;
const ROOMY = 34;
const TABLE = 300;

export function gridPanel(link, root) {
  const base = make("canvas");
  const over = make("canvas", { class: "iw-over" });
  const cell = make("div", { role: "gridcell", id: `${link.id}-cell` });
  const focus = make("div", {
    class: "iw-stage", role: "grid", tabindex: "0", "aria-label": "heads, rows are layers",
    "aria-activedescendant": `${link.id}-cell`,
  }, base, over, make("div", { role: "row", class: "iw-hidden" }, cell));
  const scroll = make("div", { class: "iw-scroll" }, focus);
  const legend = make("div", { class: "iw-legend" });
  const jump = make("input", { type: "text", size: "6", placeholder: "L9H9", "aria-label": "go to a head" });
  const table = make("div", { class: "iw-table", hidden: true });
  const listed = make("button", { type: "button", "aria-expanded": "false" }, "Table");
  const modes = [["both", "patterns and metric"], ["pattern", "patterns"], ["metric", "metric"]];
  root.append(
    make("div", { class: "iw-tools" },
      choice(link, "Show", "grid", () => (link.header.thumb && link.metrics.length ? modes : [])),
      choice(link, "Metric", "metric", () => link.metrics.map((metric) => [metric.name, metric.name])),
      make("label", { class: "iw-choice" }, make("span", {}, "Go to"), jump), listed),
    scroll, legend, table);

  let layout = null;
  let cursor = null;
  const heads = () => link.header.heads;
  const mode = () => (!link.header.thumb ? "metric" : !link.metrics.length ? "pattern" : link.get("grid"));
  const sentence = (head) => headSentence(link.header, link.metric, link.sinks, head[0], head[1]);

  function draw() {
    const width = Math.max(220, Math.min(root.clientWidth || 480, 1100));
    layout = gridLayout(heads(), link.header.group, width - 6, LEFT, TOP);
    const pen = fit(base, layout.width + 3, layout.height + 3);
    focus.style.width = `${layout.width + 3}px`;
    focus.setAttribute("aria-rowcount", heads().length);
    focus.setAttribute("aria-colcount", link.header.across);
    const styles = getComputedStyle(link.root);
    const stripes = hatch(pen, styles.getPropertyValue("--iw-hatch"));
    labels(pen, styles);
    const metric = link.metric;
    const limit = metric ? metric.limit ?? metricLimit(metric.mean) : 1;
    const shown = mode();
    for (let layer = 0; layer < heads().length; layer++) {
      for (let head = 0; head < link.header.across; head++) {
        const [x, y, size] = [layout.x(head), layout.y(layer), layout.cell - 1];
        if (head >= heads()[layer]) {
          pen.fillStyle = stripes;
          pen.fillRect(x, y, size, size);
          continue;
        }
        const at = layer * link.header.across + head;
        if (shown !== "pattern" && metric) paint(pen, metric, at, limit, x, y, size, shown, stripes);
        else {
          pen.fillStyle = styles.getPropertyValue("--iw-rule");
          pen.fillRect(x, y, size, size);
        }
      }
    }
    if (shown !== "metric") thumbnails(pen, shown === "both" ? frame() : 1, stripes, styles);
    explain(metric, limit, shown);
    drawOver();
    if (!table.hidden) list();
  }

  const frame = () => Math.max(1, Math.min(3, Math.floor(layout.cell / 8)));

  function labels(pen, styles) {
    pen.fillStyle = styles.getPropertyValue("--iw-muted");
    pen.font = "11px system-ui, sans-serif";
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    for (const layer of thinned(heads().length, layout.cell, 13)) {
      pen.fillText(`L${link.header.layers[layer]}`, LEFT - 6, layout.y(layer) + layout.cell / 2);
    }
    pen.textAlign = "center";
    for (const head of thinned(link.header.across, layout.cell, 24)) {
      pen.fillText(`H${head}`, layout.x(head) + layout.cell / 2, TOP / 2);
    }
  }

  function paint(pen, metric, at, limit, x, y, size, shown, stripes) {
    const value = metric.mean[at];
    if (!Number.isFinite(value)) {
      pen.fillStyle = stripes;
      pen.fillRect(x, y, size, size);
      return;
    }
    const colour = metricColour(value, limit, metric.signed, link.palette);
    const unsure = metric.signed && metric.low[at] <= 0 && metric.high[at] >= 0;
    pen.fillStyle = css(colour);
    pen.fillRect(x, y, size, size);
    if (shown !== "metric") return;
    if (size >= ROOMY) {
      pen.fillStyle = inkOn(colour);
      pen.font = `${unsure || !Number.isFinite(metric.low[at]) ? "" : "600 "}11px system-ui, sans-serif`;
      pen.textAlign = "center";
      pen.fillText(number(value, 2), x + size / 2, y + size / 2 + 0.5);
    } else if (!unsure && metric.signed && size >= 10 && Number.isFinite(metric.low[at])) {
      pen.fillStyle = inkOn(colour);
      pen.beginPath();
      pen.arc(x + size / 2, y + size / 2, Math.min(2, size / 6), 0, 7);
      pen.fill();
    }
  }

  function thumbnails(pen, edge, stripes, styles) {
    const { rows, columns, block } = link.header.thumb;
    const view = link.get("thumbnails");
    const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    const inner = layout.cell - 1 - 2 * edge;
    const from = block === 1 && columns > 1 ? 1 : 0;
    const ratio = Math.min(globalThis.devicePixelRatio || 1, 2);
    const strip = link.get("sink") === "show" ? Math.max(2, Math.min(4, Math.round(inner / 12))) : 0;
    const [high, wide] = [Math.max(1, Math.min(rows, Math.ceil(inner * ratio))),
      Math.max(1, Math.min(columns - from, Math.ceil((inner - strip) * ratio)))];
    const atlas = document.createElement("canvas");
    atlas.width = wide * link.header.across;
    atlas.height = high * heads().length;
    const brush = atlas.getContext("2d");
    const image = brush.createImageData(atlas.width, atlas.height);
    const pixels = new Uint32Array(image.data.buffer);
    const shared = lut(8, link.header.limit, link.palette.attention, link.palette.missing);
    const own = link.get("scale") === "head";
    for (let layer = 0; layer < heads().length; layer++) {
      for (let head = 0; head < heads()[layer]; head++) {
        const start = (layer * link.header.across + head) * rows * columns;
        const codes = poolMax(bytes.subarray(start, start + rows * columns), rows, columns, high, wide, from);
        const most = own ? codes.reduce((a, b) => Math.max(a, b), 3) : 0;
        const colours = own ? lut(8, ((most - 2) / 253) ** 2, link.palette.attention, link.palette.missing) : shared;
        for (let i = 0; i < high; i++) {
          const target = (layer * high + i) * atlas.width + head * wide;
          for (let j = 0; j < wide; j++) pixels[target + j] = colours[codes[i * wide + j]];
        }
      }
    }
    brush.putImageData(image, 0, 0);
    pen.imageSmoothingEnabled = false;
    const paper = styles.getPropertyValue("--iw-paper");
    const grey = styles.getPropertyValue("--iw-muted");
    for (let layer = 0; layer < heads().length; layer++) {
      for (let head = 0; head < heads()[layer]; head++) {
        const [x, y] = [layout.x(head) + edge, layout.y(layer) + edge];
        pen.fillStyle = paper;
        pen.fillRect(x, y, inner, inner);
        pen.fillStyle = stripes;
        pen.fillRect(x + strip, y, inner - strip, inner);
        pen.drawImage(atlas, head * wide, layer * high, wide, high, x + strip, y, inner - strip, inner);
        const share = link.sinks[layer * link.header.across + head];
        if (strip && share > 0) {
          pen.fillStyle = grey;
          pen.fillRect(x, y + inner * (1 - share), strip - 1, inner * share);
        }
      }
    }
  }

  function drawOver() {
    if (!layout) return;
    const pen = fit(over, layout.width + 3, layout.height + 3);
    const styles = getComputedStyle(link.root);
    const ring = (head, colour, width) => {
      pen.lineWidth = width + 2;
      pen.strokeStyle = styles.getPropertyValue("--iw-halo");
      pen.strokeRect(layout.x(head[1]) - 0.5, layout.y(head[0]) - 0.5, layout.cell, layout.cell);
      pen.lineWidth = width;
      pen.strokeStyle = colour;
      pen.strokeRect(layout.x(head[1]) - 0.5, layout.y(head[0]) - 0.5, layout.cell, layout.cell);
    };
    for (const head of link.get("sel") ?? []) if (head[1] < (heads()[head[0]] ?? 0)) ring(head, link.palette.ring, 2);
    const hover = link.get("hover");
    if (hover?.length === 2 && hover[1] < (heads()[hover[0]] ?? 0)) ring(hover, styles.getPropertyValue("--iw-text"), 1);
  }

  function explain(metric, limit, shown) {
    const parts = [];
    const bar = (stops) => make("i", { class: "iw-bar", style: `background:linear-gradient(90deg,${stops.join(",")})` });
    if (metric && shown !== "pattern") {
      const stops = metric.signed ? [...link.palette.negative].reverse().concat(link.palette.positive) : link.palette.attention;
      parts.push(make("span", {}, `${shown === "both" ? "frame: " : ""}${metric.name} `,
        metric.signed ? number(-limit) : "0", bar(stops), number(limit), metric.unit ? ` ${metric.unit}` : ""));
      const detail = [metric.note, metric.signed ? "blue is positive" : ""].filter(Boolean).join(", ");
      if (detail) parts.push(make("span", {}, detail));
      if (metric.signed && shown === "metric") parts.push(make("span", {}, "bold or dot: the interval leaves out zero"));
    }
    if (shown !== "metric") {
      const own = link.get("scale") === "head";
      parts.push(make("span", {}, "weight 0", bar(link.palette.attention),
        own ? "each head's largest (scales differ)" : number(link.header.limit, 2) + (link.header.clipped ? " and above" : "")));
      if (link.get("sink") === "show") parts.push(make("span", {}, "grey bar: first key's share, not in the colours"));
      else parts.push(make("span", {}, "first key left out"));
      if (link.header.thumb.block > 1) {
        parts.push(make("span", {}, `a thumbnail's cell: the largest of ${link.header.thumb.block}×${link.header.thumb.block}`));
      }
    }
    if (heads().some((count) => count < link.header.across)) parts.push(make("span", {}, "hatched: no such head"));
    legend.replaceChildren(...parts);
  }

  function list() {
    const metric = link.metric;
    const rows = [];
    heads().forEach((count, layer) => {
      for (let head = 0; head < count; head++) rows.push([layer, head, layer * link.header.across + head]);
    });
    const size = (at) => (metric && Number.isFinite(metric.mean[at]) ? Math.abs(metric.mean[at]) : -1);
    rows.sort((a, b) => size(b[2]) - size(a[2]));
    const head = make("tr", {}, ...["head", metric?.name ?? "metric", "95 % interval", "first key's share"]
      .map((text) => make("th", { scope: "col" }, text)));
    const body = rows.slice(0, TABLE).map(([layer, index, at]) => make("tr", {},
      make("th", { scope: "row" }, make("button", { type: "button", onclick: () => link.choose([layer, index]) },
        headName(link.header.layers[layer], index, link.header.attention))),
      make("td", {}, metric ? number(metric.mean[at]) : "–"),
      make("td", {}, metric && Number.isFinite(metric.low[at]) ? `${number(metric.low[at])} to ${number(metric.high[at])}` : "–"),
      make("td", {}, number(link.sinks[at] ?? NaN))));
    const more = rows.length > TABLE ? `, the first ${TABLE} of ${rows.length} by magnitude` : "";
    table.replaceChildren(make("table", {}, make("caption", {}, `heads${more}`), make("thead", {}, head),
      make("tbody", {}, ...body)));
  }

  function look(head) {
    cursor = head;
    link.set({ hover: head ?? [] }, true);
    if (!head) return;
    cell.textContent = sentence(head);
    cell.setAttribute("aria-rowindex", head[0] + 1);
    cell.setAttribute("aria-colindex", head[1] + 1);
    cell.setAttribute("aria-selected", String((link.get("sel") ?? []).some((one) => one.join() === head.join())));
  }

  const under = (event) => {
    const box = focus.getBoundingClientRect();
    return layout.at(event.clientX - box.left, event.clientY - box.top);
  };
  focus.addEventListener("pointermove", (event) => {
    const head = under(event);
    if (head?.join() !== (link.get("hover") ?? []).join()) look(head);
    link.point(event, head ? sentence(head) : "");
  });
  focus.addEventListener("pointerleave", (event) => {
    look(null);
    link.point(event, "");
  });
  focus.addEventListener("click", (event) => {
    const head = under(event);
    if (!head) return;
    link.choose(head, event.ctrlKey || event.metaKey || event.shiftKey);
    link.say(`${sentence(head)}; selected`);
    look(head);
  });
  focus.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const chosen = link.get("sel") ?? [];
    const from = cursor ?? chosen[chosen.length - 1] ?? [heads().findIndex((count) => count > 0), 0];
    const to = moved(from, event.key, heads());
    const shift = { "[": -1, "]": 1 }[event.key];
    if (to) {
      look(to);
      link.say(sentence(to));
      const [top, bottom] = [layout.y(to[0]), layout.y(to[0]) + layout.cell];
      if (top < scroll.scrollTop + TOP) scroll.scrollTop = Math.max(0, top - TOP);
      if (bottom > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = bottom - scroll.clientHeight + 4;
    } else if (event.key === "Enter" || event.key === " ") {
      link.choose(from, event.key === " ");
      look(from);
      link.say(`${sentence(from)}; ${cell.getAttribute("aria-selected") === "true" ? "selected" : "no longer selected"}`);
    } else if (shift && link.header.prompt) {
      const query = Math.max(0, Math.min(link.header.prompt.queries.labels.length - 1, link.get("query") + shift));
      link.set({ query, key: -1 });
      link.say(`query ${link.header.prompt.queries.labels[query]} (${query})`);
    } else if (event.key === "m" && link.metrics.length) {
      link.next("metric", link.metrics.map((metric) => metric.name));
      link.say(`metric ${link.get("metric")}`);
    } else if (event.key === "s") {
      link.next("sink", ["show", "hide", "renormalise"]);
      link.say(`first key: ${link.get("sink")}`);
    } else if (event.key === "Escape") {
      look(null);
      link.set({ sel: [], key: -1 });
      link.say("nothing selected");
    } else if (event.key === "/") jump.focus();
    else return;
    event.preventDefault();
  });
  focus.addEventListener("blur", () => look(null));
  jump.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    const asked = parseHead(jump.value);
    const layer = asked ? link.header.layers.indexOf(asked[0]) : -1;
    const known = layer >= 0 && asked[1] < heads()[layer];
    jump.setAttribute("aria-invalid", String(!known));
    if (!known) return link.say(`there is no head ${jump.value}`);
    link.choose([layer, asked[1]]);
    focus.focus();
    look([layer, asked[1]]);
    link.say(`${sentence([layer, asked[1]])}; selected`);
  });
  listed.addEventListener("click", () => {
    table.hidden = !table.hidden;
    listed.setAttribute("aria-expanded", String(!table.hidden));
    if (!table.hidden) list();
  });
  link.drawn(["header", "table", "thumbnails", "metric", "grid", "scale", "sink"], draw);
  link.drawn(["sel", "hover"], drawOver);

  function rows() {
    const metric = link.metric;
    const out = [["head", "layer", "index", ...(metric ? [metric.name, "low", "high"] : []), "first key's share"]];
    heads().forEach((count, layer) => {
      for (let head = 0; head < count; head++) {
        const at = layer * link.header.across + head;
        out.push([headName(link.header.layers[layer], head, link.header.attention), link.header.layers[layer], head,
          ...(metric ? [metric.mean[at], metric.low[at], metric.high[at]] : []), link.sinks[at] ?? null]);
      }
    });
    return out;
  }
  return { name: "heads", title: () => ["heads", link.metric?.name].filter(Boolean).join(": "), rows };
}
