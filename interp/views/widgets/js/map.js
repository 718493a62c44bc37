// One head's attention: rows are queries (first on top), columns keys; masked cells hatched, the first key on a scale of its own.

import { MASKED, UNDEFINED, columnOf, columnSpan, headLimit, headName, known, lut, mapLayout, number, poolMax, row,
  rowOf, rowSpan, sinkShare, thinned, tokenSentence, troubles, weightText } from "./core.js";
import { choice, fit, hatch, make } from "./base.js";

const LETTER = 6.7;
const LINE = 12;
const MOST_CELLS = 250000;

export function mapPanel(link, root) {
  const base = make("canvas");
  const over = make("canvas", { class: "iw-over" });
  const focus = make("div", { class: "iw-stage", role: "application", tabindex: "0",
    "aria-roledescription": "attention map", "aria-label": "attention map, arrows move query and key" }, base, over);
  const title = make("div", { class: "iw-title" });
  const note = make("p", { class: "iw-note", hidden: true });
  const legend = make("div", { class: "iw-legend" });
  const table = make("div", { class: "iw-table", hidden: true });
  const listed = make("button", { type: "button", "aria-expanded": "false" }, "Table");
  root.append(
    make("div", { class: "iw-tools" },
      choice(link, "First key", "sink", [["show", "shown apart"], ["hide", "left out"], ["renormalise", "left out, rest to 1"]]),
      choice(link, "Scale", "scale", [["shared", "the same for all heads"], ["head", "this head's own"]]), listed),
    title, note, make("div", { class: "iw-scroll" }, focus), legend, table);

  const [sheet, edge] = [make("canvas"), make("canvas")];
  let layout = null;
  let full = null;
  let limit = 1;
  const labelsOf = (side) => link.header.prompt[side].labels;

  function draw() {
    const head = link.looked;
    const prompt = link.header.prompt;
    const quiet = !prompt ? "No patterns here: scores alone were given." : !head ? "No head is selected: choose one in the grid." : "";
    full = quiet ? null : link.full(head);
    const absent = full?.absent;
    if (absent) full = null;
    note.hidden = !quiet && !absent;
    note.textContent = quiet || absent || "";
    focus.hidden = !full;
    legend.hidden = !full;
    if (quiet) title.replaceChildren();
    if (!quiet && !full && !absent) {
      title.replaceChildren(make("strong", {}, name(head)), " … waiting for its pattern");
      focus.hidden = !layout;
      return;
    }
    if (!full) {
      layout = null;
      if (head) title.replaceChildren(make("strong", {}, name(head)));
      return;
    }
    paint(head);
    drawOver();
    if (!table.hidden) list();
  }

  const name = (head) => headName(link.header.layers[head[0]], head[1], link.header.attention);

  function paint(head) {
    const styles = getComputedStyle(link.root);
    const { rows, columns, block } = full;
    const width = Math.max(220, Math.min(root.clientWidth || 520, 900));
    const longest = (side) => Math.min(14, Math.max(...labelsOf(side).map((label) => [...label].length)));
    const left = 26 + longest("queries") * LETTER;
    const below = 26 + longest("keys") * LETTER;
    layout = mapLayout(rows, columns, Math.min(width - left - 24, 560), left, 4);
    const pen = fit(base, layout.width + 4, layout.height + below);
    focus.style.width = `${layout.width + 4}px`;
    const mode = link.get("sink");
    const renormalised = mode === "renormalise";
    limit = renormalised ? 1 : link.get("scale") === "head" ? headLimit(full) : link.header.limit;
    pen.fillStyle = hatch(pen, styles.getPropertyValue("--iw-hatch"));
    if (mode === "show") pen.fillRect(layout.left, layout.top, layout.strip, layout.high);
    if (layout.wide) pen.fillRect(layout.start, layout.top, layout.wide, layout.high);
    pen.imageSmoothingEnabled = false;
    if (columns > 1) {
      const ratio = Math.min(globalThis.devicePixelRatio || 1, 2);
      const high = Math.min(rows, Math.ceil(layout.high * ratio));
      const wide = Math.min(columns - 1, Math.ceil(layout.wide * ratio));
      const image = renormalised ? shares(high, wide) : colours(high, wide);
      pen.drawImage(image, 0, 0, wide, high, layout.start, layout.top, layout.wide, layout.high);
    }
    if (mode === "show") pen.drawImage(first(), 0, 0, 1, rows, layout.left, layout.top, layout.strip, layout.high);
    frame(pen, styles);
    labels(pen, styles);
    describe(head, mode, block);
  }

  /** The columns after the first as an image, pooled by their maximum where the screen has fewer pixels than tokens. */
  function colours(high, wide) {
    const { codes, rows, columns, bits } = full;
    const table = lut(bits, limit, link.palette.attention, link.palette.missing);
    const pooled = poolMax(codes, rows, columns, high, wide, 1);
    return image(high, wide, (pixels) => {
      for (let i = 0; i < pixels.length; i++) pixels[i] = table[pooled[i]];
    });
  }

  /** The same with every row divided by what it gives to keys other than the first. */
  function shares(high, wide) {
    const { codes, rows, columns, table } = full;
    const paint = lut(8, 1, link.palette.attention, link.palette.missing);
    const best = new Uint8Array(high * wide);
    for (let i = 0; i < rows; i++) {
      const weight = table[codes[i * columns]];
      const rest = Number.isFinite(weight) ? 1 - weight : 1;
      const start = Math.floor((i * high) / rows) * wide;
      for (let j = 1; j < columns; j++) {
        const code = codes[i * columns + j];
        const level = code < 2 ? code : 2 + Math.round(253 * Math.sqrt(Math.min(1, rest > 1e-6 ? table[code] / rest : 0)));
        const at = start + Math.floor(((j - 1) * wide) / (columns - 1));
        if (level > best[at]) best[at] = level;
      }
    }
    return image(high, wide, (pixels) => {
      for (let i = 0; i < pixels.length; i++) pixels[i] = paint[best[i]];
    });
  }

  function first() {
    const { codes, rows, columns, bits } = full;
    const table = lut(bits, 1, link.palette.sink, link.palette.missing);
    return image(rows, 1, (pixels) => {
      for (let i = 0; i < rows; i++) pixels[i] = table[codes[i * columns]];
    }, edge);
  }

  function image(high, wide, fill, canvas = sheet) {
    if (canvas.width !== wide) canvas.width = wide;
    if (canvas.height !== high) canvas.height = high;
    const brush = canvas.getContext("2d");
    const data = brush.createImageData(wide, high);
    fill(new Uint32Array(data.data.buffer));
    brush.putImageData(data, 0, 0);
    return canvas;
  }

  function frame(pen, styles) {
    pen.strokeStyle = styles.getPropertyValue("--iw-rule");
    pen.lineWidth = 1;
    pen.strokeRect(layout.left - 0.5, layout.top - 0.5, layout.strip + 1, layout.high + 1);
    if (layout.wide) pen.strokeRect(layout.start - 0.5, layout.top - 0.5, layout.wide + 1, layout.high + 1);
  }

  function labels(pen, styles) {
    const { rows, columns, block } = full;
    pen.font = "11px ui-monospace, 'DejaVu Sans Mono', monospace";
    pen.textBaseline = "middle";
    pen.fillStyle = styles.getPropertyValue("--iw-text");
    pen.textAlign = "right";
    for (const i of thinned(rows, layout.pitch, LINE)) {
      pen.fillText(short(labelsOf("queries")[rowSpan(i, block, 0)[0]]), layout.left - 5, layout.y(i) + layout.pitch / 2);
    }
    const turned = (j, x) => {
      pen.save();
      pen.translate(x, layout.height + 5);
      pen.rotate(-Math.PI / 2);
      pen.fillText(short(labelsOf("keys")[columnSpan(j, block, Infinity)[0]]), 0, 0);
      pen.restore();
    };
    turned(0, layout.x(0) + layout.strip / 2);
    let free = layout.x(0) + layout.strip / 2 + LINE;
    for (let j = 1; j < columns; j++) {
      const x = layout.x(j) + layout.pitch / 2;
      if (x < free) continue;
      turned(j, x);
      free = x + LINE;
    }
    pen.fillStyle = styles.getPropertyValue("--iw-muted");
    pen.font = "11px system-ui, sans-serif";
    pen.save();
    pen.translate(8, layout.top + layout.high / 2);
    pen.rotate(-Math.PI / 2);
    pen.textAlign = "center";
    if (layout.high > 110) pen.fillText("query / destination", 0, 0);
    pen.restore();
    pen.textAlign = "center";
    const middle = Math.max(layout.left + 34, (layout.left + layout.width) / 2);
    pen.fillText("key / source", middle, base.clientHeight - 7 || layout.height + 100);
  }

  const short = (label) => ([...label].length > 14 ? `${[...label].slice(0, 7).join("")}…${[...label].slice(-6).join("")}` : label);

  function describe(head, mode, block) {
    const chosen = (link.get("sel") ?? []).filter((one) => one.join() !== head.join());
    const share = sinkShare(full);
    const bad = troubles(full);
    title.replaceChildren(
      make("strong", {}, name(head)),
      ...(link.get("hover")?.length === 2 ? [make("span", { class: "iw-badge" }, "preview")] : []),
      ...(Number.isFinite(share) ? [make("span", { class: "iw-badge" }, `first key ${number(share, 2)} of the attention`)] : []),
      ...(bad.undefinedRows ? [make("span", { class: "iw-badge iw-warn" }, `${bad.undefinedRows} rows not a number`)] : []),
      ...(bad.empty ? [make("span", { class: "iw-badge iw-warn" }, `${bad.empty} rows fully masked`)] : []),
      ...(link.header.rest ? [make("span", { class: "iw-badge" }, "rows may sum to less than 1: learned sink")] : []),
      ...chosen.slice(-6).map((one) => make("button", { type: "button", title: "look at this head",
        onclick: () => link.set({ sel: [...(link.get("sel") ?? []).filter((x) => x.join() !== one.join()), one] }) }, name(one))));
    focus.setAttribute("aria-label", `attention of ${name(head)}, rows are queries, arrows move query and key`);
    const bar = (stops) => make("i", { class: "iw-bar", style: `background:linear-gradient(90deg,${stops.join(",")})` });
    const top = mode === "renormalise" ? "1 (share of what is not on the first key)" : number(limit, 2)
      + (link.get("scale") === "head" ? ", this head's largest" : link.header.clipped ? " and above, all heads" : ", all heads");
    legend.replaceChildren(
      make("span", {}, "weight 0", bar(link.palette.attention), top),
      ...[mode === "show" ? make("span", {}, "first key 0", bar(link.palette.sink), "1") : make("span", {}, "first key left out")],
      ...(full.codes.includes(MASKED) ? [make("span", {}, make("i", { class: "iw-bar iw-hatched" }), "masked")] : []),
      ...(bad.undefinedRows ? [make("span", {}, make("i", { class: "iw-bar", style: `background:${link.palette.missing}` }),
        "not a number")] : []),
      ...(block > 1 ? [make("span", {}, `each cell is the largest of ${block}×${block} tokens`)] : []));
  }

  function drawOver() {
    if (!full || !layout) return;
    const pen = fit(over, layout.width + 4, layout.height + 4);
    const [query, key] = [link.get("query"), link.get("key")];
    pen.lineWidth = 1.5;
    const box = (x, y, w, h, colour) => {
      pen.strokeStyle = colour;
      pen.strokeRect(x - 0.5, y - 0.5, w + 1, h + 1);
    };
    const i = rowOf(query, full.block);
    const j = columnOf(key, full.block);
    if (query >= 0 && i < full.rows) {
      box(layout.left, layout.y(i), layout.width - layout.left, layout.pitch, link.palette.query);
    }
    if (key >= 0 && j < full.columns) box(layout.x(j), layout.top, layout.w(j), layout.high, link.palette.key);
  }

  const text = (i, j) => {
    const queries = tokenSentence(link.header.prompt.queries, rowSpan(i, full.block, labelsOf("queries").length));
    const keys = tokenSentence(link.header.prompt.keys, columnSpan(j, full.block, labelsOf("keys").length));
    const code = full.codes[i * full.columns + j];
    const what = full.block > 1 && code > UNDEFINED ? "at most " : "";
    return `${queries} → ${keys}: ${what}${weightText(code, full.bits)}`;
  };

  function list() {
    const i = Math.max(0, rowOf(link.get("query"), full.block));
    const cells = [...row(full, i)].map((weight, j) => [weight, j]).filter(([, j]) => full.codes[i * full.columns + j] !== MASKED);
    cells.sort((a, b) => (b[0] || 0) - (a[0] || 0));
    const who = tokenSentence(link.header.prompt.queries, rowSpan(i, full.block, labelsOf("queries").length));
    table.replaceChildren(make("table", {},
      make("caption", {}, `what ${who} attends to${cells.length > 100 ? `, the first 100 of ${cells.length}` : ""}`),
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "key"), make("th", { scope: "col" }, "weight"))),
      make("tbody", {}, ...cells.slice(0, 100).map(([, j]) => make("tr", {},
        make("th", { scope: "row" }, tokenSentence(link.header.prompt.keys, columnSpan(j, full.block, labelsOf("keys").length))),
        make("td", {}, weightText(full.codes[i * full.columns + j], full.bits)))))));
  }

  const under = (event) => {
    const box = focus.getBoundingClientRect();
    return layout?.at(event.clientX - box.left, event.clientY - box.top) ?? null;
  };
  const point = (i, j) => ({
    query: rowSpan(i, full.block, labelsOf("queries").length)[0],
    key: columnSpan(j, full.block, labelsOf("keys").length)[0],
  });
  focus.addEventListener("pointermove", (event) => {
    const at = full && under(event);
    link.point(event, at ? text(...at) : "");
  });
  focus.addEventListener("pointerleave", (event) => link.point(event, ""));
  focus.addEventListener("click", (event) => {
    const at = full && under(event);
    if (!at) return;
    link.set(point(...at));
    link.say(text(...at));
  });
  focus.addEventListener("keydown", (event) => {
    if (!full || event.ctrlKey || event.metaKey || event.altKey) return;
    let i = Math.max(0, Math.min(full.rows - 1, rowOf(Math.max(0, link.get("query")), full.block)));
    let j = Math.max(0, Math.min(full.columns - 1, columnOf(link.get("key"), full.block)));
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (step) {
      i = Math.max(0, Math.min(full.rows - 1, i + step[0]));
      j = Math.max(0, Math.min(full.columns - 1, j + step[1]));
    } else if (event.key === "Home") j = 0;
    else if (event.key === "End") j = full.columns - 1;
    else if (event.key === "Escape") {
      link.set({ key: -1 });
      event.preventDefault();
      return;
    } else return;
    event.preventDefault();
    link.set(point(i, j));
    link.say(text(i, j));
  });
  listed.addEventListener("click", () => {
    table.hidden = !table.hidden;
    listed.setAttribute("aria-expanded", String(!table.hidden));
    if (!table.hidden && full) list();
  });
  link.drawn(["header", "sel", "hover", "sink", "scale", "prompt", "full_key"], draw);
  link.drawn(["query", "key"], () => {
    drawOver();
    if (!table.hidden && full) list();
  });

  /** Every weight that is not masked; of very long prompts those of the chosen query. */
  function rows() {
    const out = [["head", "query", "query index", "key", "key index", "weight", "off by at most"]];
    if (!full) return out;
    const { codes, columns, block, bits } = full;
    const one = Math.max(0, rowOf(link.get("query"), block));
    const [from, to] = codes.length > MOST_CELLS ? [one, one + 1] : [0, full.rows];
    for (let i = from; i < to; i++) {
      for (let j = 0; j < columns; j++) {
        const code = codes[i * columns + j];
        const [query, key] = [rowSpan(i, block, labelsOf("queries").length)[0], columnSpan(j, block, labelsOf("keys").length)[0]];
        if (code !== MASKED) out.push([name(link.looked), labelsOf("queries")[query], query, labelsOf("keys")[key], key, ...known(code, bits)]);
      }
    }
    return out;
  }
  return { name: "attention", rows };
}

