// Retrieval: a long context under the queries of the answer, what was copied from the needle, heads by their score.

import { css, headName, inkOn, lut, mix, number, thinned, weightTable, weightText } from "../core.js";
import { fit, make } from "../base.js";

export const retrievalTitle = "Retrieval";

const SVG = "http://www.w3.org/2000/svg";
const LINE = 24;
const NAMES = 66;
const BAR = 120;
const ROW = 17;
const SINK = 10;
const CHAR = 7.4;
const CELL = 38;
const BOX = 26;

export function retrievalPanel(link, root) {
  const title = make("div", { class: "iw-title" });
  const note = make("p", { class: "iw-note", hidden: true });
  const pick = make("select", { "aria-label": "context" });
  const listed = make("button", { type: "button", "aria-expanded": "false" }, "Table");
  const heads = area("heads by their score, up and down, Enter selects", "list of heads");
  const found = area("answered by length and depth, arrows move, Enter shows a context there", "grid");
  const own = area("score of the head by length and depth", "grid");
  const base = make("canvas");
  const over = make("canvas", { class: "iw-over" });
  const map = make("div", { class: "iw-stage", role: "application", tabindex: "0", "aria-roledescription": "map of the context",
    "aria-label": "attention over the context, up and down the answer's tokens, left and right places" }, base, over);
  const arcs = area("needle and answer, left and right the answer's tokens", "copied tokens");
  const legend = make("div", { class: "iw-legend" });
  const table = make("div", { class: "iw-table", hidden: true });
  const picked = make("label", { class: "iw-choice" }, make("span", {}, "Context"), pick);
  const side = make("div", { class: "iw-retrieval-side" }, make("div", { class: "iw-scroll iw-retrieval-list" }, heads.stage),
    make("div", { class: "iw-retrieval-grids" }, found.stage, own.stage));
  root.append(make("div", { class: "iw-tools" }, picked, listed), title, note,
    make("div", { class: "iw-retrieval-body" }, side, make("div", { class: "iw-retrieval-main" },
      make("div", { class: "iw-scroll" }, map), make("div", { class: "iw-scroll" }, arcs.stage))), legend, table);

  for (const where of [heads, found, own, arcs]) where.point = (event, text) => link.point(event, text);
  let which = 0;
  let step = -1;
  let place = 0;
  let layout = null;
  let cursor = null;
  let cell = null;
  const decoded = new Map();

  const data = () => link.payload("retrieval");
  const context = () => data()?.contexts[which] ?? null;
  const name = (head) => headName(link.header.layers[head[0]], head[1], link.header.attention);
  const entry = (head) => data().top.find((one) => one[0] === head[0] && one[1] === head[1]);
  const looked = () => link.looked ?? data()?.top[0]?.slice(0, 2) ?? null;
  const rows = () => (looked() ? context()?.heads[looked().join(".")] : null) ?? null;

  /** Whether the context is the prompt that the other views show. */
  const shared = () => context()?.prompt >= 0 && link.header.prompt && link.get("prompt") === context().prompt
    && link.header.prompt.keys.labels.length === context().length;

  const tokens = () => {
    const it = context();
    if (!it.list) Object.defineProperty(it, "list", { value: it.tokens.split("\n") });
    return it.list;
  };
  const label = (i) => (i < context().length ? `${tokens()[i]} (${i})` : `${context().said[i - context().length] ?? "?"} (said before)`);

  function codes(text) {
    if (!decoded.has(text)) decoded.set(text, Uint8Array.from(atob(text), (c) => c.charCodeAt(0)));
    return decoded.get(text);
  }

  function draw() {
    const given = data();
    const quiet = !given ? "No retrieval scores here." : "";
    if (given) {
      const names = given.contexts.map((one) => one.cell + (one.answered === null ? "" : one.answered > 0.5 ? ", answered" : ", not answered"));
      if (pick.options.length !== names.length) pick.replaceChildren(...names.map((text, i) => make("option", { value: i }, text)));
      which = Math.min(which, Math.max(0, given.contexts.length - 1));
      pick.selectedIndex = which;
    }
    picked.hidden = !given || given.contexts.length < 2;
    const there = given && context();
    map.hidden = arcs.stage.hidden = !there;
    note.hidden = !quiet && !!there && !!rows();
    note.textContent = quiet || (!there ? "Scores alone were given: there is no context to look into."
      : rows() ? "" : `${looked() ? name(looked()) : "No head"} was not looked at in this context: choose one of the list.`);
    if (!given) return;
    if (there) follow();
    say();
    listHeads();
    grids();
    paintMap();
    paintArcs();
    explain();
    if (!table.hidden) list();
  }

  /** The step that the other views' query stands for; else the one that was chosen here, else the first that was copied. */
  function follow() {
    const count = context().said.length;
    const at = link.get("query") - (context().length - 1);
    if ((shared() || !link.header.prompt) && at >= 0 && at < count) step = at;
    else if (step < 0 || step >= count) step = Math.max(0, rows()?.copied.indexOf(true) ?? 0);
  }

  function say() {
    const head = looked();
    const at = head ? entry(head) : null;
    const interval = at && at[3] !== null ? ` [${number(at[3])}, ${number(at[4])}]` : "";
    title.replaceChildren(make("strong", {}, head ? name(head) : "no head"),
      ...(at ? [` ${data().name} ${number(at[2] ?? NaN)}${interval}`] : head ? [" not among the listed heads"] : []),
      ...(data().n ? [make("span", { class: "iw-badge" }, `${data().n} ${data().n === 1 ? "prompt" : "prompts"}`)] : []),
      ...(data().answered !== null && data().n ? [make("span", { class: "iw-badge" }, `${data().answered} of ${data().n} answered`)] : []),
      ...(data().source ? [make("span", { class: "iw-fine" }, data().source)] : []));
  }

  function listHeads() {
    const { top } = data();
    const most = Math.max(1e-9, ...top.flatMap((one) => [one[2] ?? 0, one[4] ?? 0]));
    const width = NAMES + BAR + 118;
    const svg = heads.clear(width, top.length * LINE + 4);
    const chosen = (link.get("sel") ?? []).map((one) => one.join());
    const hover = (cursor ?? link.get("hover") ?? []).slice(0, 2).join();
    const x = (value) => NAMES + (Math.max(0, value) / most) * BAR;
    top.forEach(([layer, head, mean, low, high], i) => {
      const y = i * LINE + 2;
      const mine = [layer, head].join();
      if (chosen.includes(mine) || hover === mine) {
        svg.append(drawn("rect", { x: 0.5, y: y + 0.5, width: width - 1, height: LINE - 1, rx: 3,
          class: chosen.includes(mine) ? "iw-retrieval-chosen" : "iw-retrieval-hover" }));
      }
      svg.append(drawn("text", { x: 8, y: y + 16, class: "iw-retrieval-head" }, name([layer, head])));
      if (mean === null) return;
      svg.append(drawn("rect", { x: NAMES, y: y + 7, width: Math.max(1, x(mean) - NAMES), height: LINE - 14, class: "iw-retrieval-bar" }));
      if (low !== null) {
        svg.append(drawn("path", { d: `M${x(low)} ${y + 12}H${x(high)}M${x(low)} ${y + 8}v8M${x(high)} ${y + 8}v8`, class: "iw-retrieval-whisker" }));
      }
      svg.append(drawn("text", { x: NAMES + BAR + 8, y: y + 16, class: "iw-retrieval-text" },
        number(mean, 2) + (low === null ? "" : ` [${number(low, 2)}, ${number(high, 2)}]`)));
    });
    heads.hit = (px, py) => top[Math.floor((py - 2) / LINE)]?.slice(0, 2) ?? null;
  }

  function grids() {
    const given = data().grid;
    found.stage.hidden = !given?.found;
    own.stage.hidden = !given;
    if (!given) return;
    if (given.found) matrix(found, "needles found", given.found.share, (i, j) => interval(given.found, i, j));
    const head = looked();
    const scores = head ? given.scores[head.join(".")] : null;
    matrix(own, head ? `score of ${name(head)}` : "score", scores, () => "");
  }

  const interval = ({ low, high }, i, j) => (low[i][j] === null ? "" : `, 95 % interval ${number(low[i][j])} to ${number(high[i][j])}`);

  function matrix(where, text, values, more) {
    const { lengths, depths, n } = data().grid;
    const [left, top] = [46, 34];
    const svg = where.clear(left + lengths.length * CELL + 8, top + depths.length * BOX + 22);
    svg.append(hatching(`${link.id}-hatch`));
    svg.append(drawn("text", { x: 4, y: 12, class: "iw-retrieval-head" }, text));
    svg.append(drawn("text", { x: left, y: 28, class: "iw-retrieval-text" }, "length (tokens)"));
    const here = context() ? context().cell.match(/^length (\d+), depth (\d+)/) : null;
    depths.forEach((depth, i) => svg.append(drawn("text", { x: left - 5, y: top + i * BOX + 17, "text-anchor": "end",
      class: "iw-retrieval-text" }, `${depth} %`)));
    for (const j of thinned(lengths.length, CELL, 34)) {
      svg.append(drawn("text", { x: left + (j + 0.5) * CELL, y: top + depths.length * BOX + 14, "text-anchor": "middle", class: "iw-retrieval-text" },
        lengths[j] >= 10000 ? `${Number((lengths[j] / 1000).toPrecision(3))}k` : String(lengths[j])));
    }
    depths.forEach((depth, i) => lengths.forEach((length, j) => {
      const value = values?.[i]?.[j] ?? null;
      const [x, y] = [left + j * CELL, top + i * BOX];
      const colour = value === null ? null : mix(link.palette.attention, value);
      svg.append(drawn("rect", { x, y, width: CELL - 1, height: BOX - 1, fill: colour ? css(colour) : `url(#${link.id}-hatch)` }));
      if (value !== null) {
        const shown = n[i][j] === 1 && where === found ? (value > 0.5 ? "✓" : "✗") : number(value, 2);
        svg.append(drawn("text", { x: x + CELL / 2 - 0.5, y: y + 17, "text-anchor": "middle", fill: inkOn(colour), class: "iw-retrieval-value" }, shown));
      }
      if (here && Number(here[1]) === length && Number(here[2]) === depth) ring(svg, x, y, "var(--iw-focus)");
      if (cell && where === found && cell[0] === i && cell[1] === j) ring(svg, x, y, "var(--iw-text)");
    }));
    where.hit = (px, py) => {
      const [i, j] = [Math.floor((py - top) / BOX), Math.floor((px - left) / CELL)];
      return i >= 0 && i < depths.length && j >= 0 && j < lengths.length ? [i, j] : null;
    };
    where.text = ([i, j]) => {
      const value = values?.[i]?.[j] ?? null;
      return `length ${lengths[j]}, depth ${depths[i]} %: ${value === null ? "no prompt" : `${text} ${number(value)}${more(i, j)}, ${n[i][j]} ${n[i][j] === 1 ? "prompt" : "prompts"}`}`;
    };
  }

  const ring = (svg, x, y, stroke) => {
    for (const [colour, size] of [["var(--iw-halo)", 5], [stroke, 2]]) {
      svg.append(drawn("rect", { x: x - 0.5, y: y - 0.5, width: CELL, height: BOX, fill: "none", stroke: colour, "stroke-width": size }));
    }
  };

  /** Rows are the answer's tokens, columns the context: the first key apart, the rest by the largest weight of a column's tokens. */
  function paintMap() {
    const mine = rows();
    map.hidden = !mine;
    layout = null;
    if (!mine) return;
    const { said, columns, length, needle } = context();
    const styles = getComputedStyle(link.root);
    const width = Math.max(260, Math.min((map.parentElement.clientWidth || 640) - 8, 900));
    const left = 12 + Math.min(12, Math.max(3, ...said.map((text) => [...text].length))) * 6.7;
    const [top, wide] = [24, width - left - SINK - 3 - 6];
    const high = said.length * ROW;
    const start = left + SINK + 3;
    const x = (token) => (token < 1 ? left : start + ((token - 1) / Math.max(1, length - 1)) * wide);
    const pen = fit(base, width, top + high + 34);
    map.style.width = `${width}px`;
    layout = { left, top, wide, high, start, x, width, height: top + high + 34 };
    const all = codes(mine.row);
    let most = 3;
    for (let i = 0; i < said.length; i++) for (let j = 1; j <= columns; j++) most = Math.max(most, all[i * (columns + 1) + j]);
    layout.limit = weightTable(8)[most];
    const image = (count, from, stops, limit) => {
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [count, said.length];
      const brush = canvas.getContext("2d");
      const pixels = brush.createImageData(count, said.length);
      const colours = lut(8, limit, stops, link.palette.missing);
      const out = new Uint32Array(pixels.data.buffer);
      for (let i = 0; i < said.length; i++) for (let j = 0; j < count; j++) out[i * count + j] = colours[all[i * (columns + 1) + from + j]];
      brush.putImageData(pixels, 0, 0);
      return canvas;
    };
    pen.imageSmoothingEnabled = false;
    pen.drawImage(image(1, 0, link.palette.sink, 1), 0, 0, 1, said.length, left, top, SINK, high);
    if (columns) pen.drawImage(image(columns, 1, link.palette.attention, layout.limit), 0, 0, columns, said.length, start, top, wide, high);
    pen.strokeStyle = styles.getPropertyValue("--iw-rule");
    pen.lineWidth = 1;
    pen.strokeRect(left - 0.5, top - 0.5, SINK + 1, high + 1);
    pen.strokeRect(start - 0.5, top - 0.5, wide + 1, high + 1);
    pen.font = "11px ui-monospace, monospace";
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    said.forEach((text, i) => {
      pen.fillStyle = styles.getPropertyValue(mine.copied[i] ? "--iw-text" : "--iw-muted");
      pen.font = `${mine.copied[i] ? "700 " : ""}11px ui-monospace, "DejaVu Sans Mono", monospace`;
      pen.fillText(short(text, 12), left - 5, top + (i + 0.5) * ROW);
    });
    pen.font = "11px system-ui, sans-serif";
    pen.fillStyle = styles.getPropertyValue("--iw-muted");
    pen.textAlign = "center";
    const ends = [x(needle[0]), Math.max(x(needle[0]) + 3, x(needle[1]))];
    for (const share of [0, 0.25, 0.5, 0.75, 1]) {
      const at = Math.round(1 + share * (length - 2));
      if (length > 2) pen.fillText(at.toLocaleString("en"), Math.min(width - 14, Math.max(start + 8, x(at))), top + high + 12);
    }
    pen.fillText("place in the context (token)", start + wide / 2, top + high + 26);
    pen.fillStyle = pen.strokeStyle = link.palette.query;
    pen.lineWidth = 2;
    pen.beginPath();
    pen.moveTo(ends[0], top - 2);
    pen.lineTo(ends[0], top - 8);
    pen.lineTo(ends[1], top - 8);
    pen.lineTo(ends[1], top - 2);
    pen.stroke();
    pen.setLineDash([3, 3]);
    pen.lineWidth = 1;
    for (const end of ends) {
      pen.beginPath();
      pen.moveTo(end, top);
      pen.lineTo(end, top + high);
      pen.stroke();
    }
    pen.setLineDash([]);
    pen.fillStyle = styles.getPropertyValue("--iw-text");
    pen.fillText("needle", Math.max(left + 22, Math.min(width - 24, (ends[0] + ends[1]) / 2)), 8);
    overMap();
  }

  function overMap() {
    if (!layout || !rows()) return;
    const pen = fit(over, layout.width, layout.height);
    pen.lineWidth = 1.5;
    pen.strokeStyle = link.palette.ring;
    pen.strokeRect(layout.left - 1, layout.top + step * ROW - 0.5, layout.start + layout.wide - layout.left + 2, ROW);
    const key = shared() ? link.get("key") : rows().at[step];
    if (key >= 0 && key < context().length) {
      const at = key < 1 ? layout.left + SINK / 2 : layout.x(key + 0.5);
      pen.strokeStyle = link.palette.key;
      pen.beginPath();
      pen.moveTo(at, layout.top - 1);
      pen.lineTo(at, layout.top + layout.high + 4);
      pen.stroke();
    }
  }

  const short = (text, most) => ([...text].length > most ? `${[...text].slice(0, most - 1).join("")}…` : text);

  /** Boxes of texts in lines of a width. */
  function lay(texts, width, top, gap) {
    let [x, y] = [4, top];
    const boxes = texts.map((text) => {
      const wide = Math.max(12, [...text].length * CHAR + 6);
      if (x + wide > width - 4 && x > 4) [x, y] = [4, y + gap];
      const box = { x, y, wide, text };
      x += wide + 3;
      return box;
    });
    return { boxes, bottom: y + 20 };
  }

  function paintArcs() {
    const mine = rows();
    arcs.stage.hidden = !mine;
    if (!mine) return;
    const { needle, near, said, special } = context();
    const width = Math.max(260, Math.min((arcs.stage.parentElement.clientWidth || 640) - 8, 900));
    const texts = tokens().slice(...near).map((text) => short(text, 24));
    const above = lay(texts, width, 22, 25);
    const below = lay(said.map((text) => short(text, 24)), width, above.bottom + 70, 40);
    const svg = arcs.clear(width, below.bottom + 40);
    const table = weightTable(8);
    const weights = codes(mine.near).subarray(step * (near[1] - near[0]), (step + 1) * (near[1] - near[0]));
    const most = Math.max(1e-6, ...[...weights].map((code) => table[code] || 0));
    svg.append(drawn("text", { x: 4, y: 12, class: "iw-retrieval-text" },
      `context around the needle, shaded by what ${short(said[step] ?? "", 16)} looks at (largest here ${number(most, 2)})`));
    const centre = (box) => box.x + box.wide / 2;
    said.forEach((_, i) => {
      const at = mine.at[i];
      const to = below.boxes[i];
      const from = at >= near[0] && at < near[1] ? above.boxes[at - near[0]] : null;
      const dim = i === step ? "" : " iw-retrieval-dim";
      if (!from) return;
      const [x0, y0, x1, y1] = [centre(from), from.y + 20, centre(to), to.y];
      const middle = (y0 + y1) / 2;
      svg.append(drawn("path", { d: `M${x0} ${y0}C${x0} ${middle} ${x1} ${middle} ${x1} ${y1}`,
        "stroke-width": (1 + 3 * (mine.weight[i] ?? 0)).toFixed(1), class: (mine.copied[i] ? "iw-retrieval-copy" : "iw-retrieval-look") + dim }));
    });
    svg.append(drawn("text", { x: 4, y: below.bottom + 34, class: "iw-retrieval-text" }, "the answer, token by token; underlined: copied"));
    above.boxes.forEach((box, k) => {
      const i = near[0] + k;
      const inside = i >= needle[0] && i < needle[1];
      const weight = table[weights[k]];
      const colour = mix(link.palette.fromQuery, Number.isFinite(weight) ? weight / most : 0);
      svg.append(drawn("rect", { x: box.x, y: box.y, width: box.wide, height: 20, rx: special.includes(i) ? 8 : 2, fill: css(colour),
        class: inside ? "iw-retrieval-needle" : "iw-retrieval-token" }), tokenText(box, inkOn(colour)));
    });
    below.boxes.forEach((box, i) => {
      svg.append(drawn("rect", { x: box.x, y: box.y, width: box.wide, height: 20, rx: 2,
        class: i === step ? "iw-retrieval-now" : "iw-retrieval-token iw-retrieval-paper" }), tokenText(box, "var(--iw-text)"));
      if (mine.copied[i]) svg.append(drawn("line", { x1: box.x + 2, x2: box.x + box.wide - 2, y1: box.y + 22.5, y2: box.y + 22.5, class: "iw-retrieval-under" }));
      else if (mine.at[i] >= 0 && (mine.at[i] < near[0] || mine.at[i] >= near[1])) {
        const text = mine.at[i] < context().length ? `→${mine.at[i]}` : "→said";
        svg.append(drawn("text", { x: centre(box), y: box.y + 32, "text-anchor": "middle", class: "iw-retrieval-text" }, text));
      }
    });
    arcs.hit = (px, py) => {
      const at = (boxes) => boxes.findIndex((box) => px >= box.x && px < box.x + box.wide + 3 && py >= box.y - 2 && py < box.y + 24);
      const i = at(below.boxes);
      if (i >= 0) return { step: i };
      const k = at(above.boxes);
      return k >= 0 ? { key: near[0] + k, code: weights[k] } : null;
    };
  }

  const tokenText = (box, fill) => drawn("text", { x: box.x + box.wide / 2, y: box.y + 14, "text-anchor": "middle", fill, class: "iw-retrieval-chip" }, box.text);

  function explain() {
    const parts = [];
    const bar = (stops) => make("i", { class: "iw-bar", style: `background:linear-gradient(90deg,${stops.join(",")})` });
    if (layout) {
      const per = Math.ceil((context().length - 1) / Math.max(1, context().columns));
      parts.push(make("span", {}, "weight 0", bar(link.palette.attention), `${number(layout.limit, 2)}, this head's largest but for the first key`),
        make("span", {}, "first key 0", bar(link.palette.sink), "1"),
        make("span", {}, "solid curve, bold token: copied; dashed: looked at, not copied"));
      if (per > 1) parts.push(make("span", {}, `a column of the map: the largest of up to ${per} tokens`));
    }
    if (data().grid) parts.push(make("span", {}, "hatched: no prompt"));
    if (data().total > data().top.length) parts.push(make("span", {}, `the first ${data().top.length} of ${data().total} heads by score`));
    legend.replaceChildren(...parts);
  }

  function stepText(i) {
    const mine = rows();
    if (!mine) return "";
    const at = mine.at[i];
    const does = at < 0 ? "has no weights" : `${mine.copied[i] ? "copies" : "looks at"} ${label(at)} with ${number(mine.weight[i] ?? NaN)}`;
    return `${context().said[i]} (answer ${i + 1} of ${context().said.length}): ${name(looked())} ${does}; needle ${number(mine.needle[i] ?? NaN)}, first key ${number(mine.first[i] ?? NaN)}`;
  }

  function choose(i, key = null) {
    step = i;
    const at = key ?? rows()?.at[i] ?? -1;
    if (shared() || !link.header.prompt) {
      const length = context().length;
      link.set({ query: length - 1 + i, key: at < length ? at : -1 });
    }
    draw();
    link.say(stepText(i));
  }

  function show(i) {
    which = i;
    step = -1;
    const to = context().prompt;
    if (to >= 0 && (link.header.prompts ?? []).length > to) link.set({ prompt: to });
    draw();
    link.say(`context ${pick.options[i]?.textContent ?? ""}`);
  }

  function open([i, j]) {
    const { lengths, depths } = data().grid;
    const at = data().contexts.findIndex((one) => one.cell.startsWith(`length ${lengths[j]}, depth ${depths[i]},`));
    cell = [i, j];
    if (at >= 0) show(at);
    else {
      draw();
      link.say(`${found.text([i, j])}; no context of this cell is kept here`);
    }
  }

  function list() {
    const head = looked();
    const mine = rows();
    const parts = [make("table", {}, make("caption", {}, `heads by ${data().name}`),
      make("thead", {}, make("tr", {}, ...["head", data().name, "95 % interval"].map((text) => make("th", { scope: "col" }, text)))),
      make("tbody", {}, ...data().top.map(([layer, index, mean, low, high]) => make("tr", {},
        make("th", { scope: "row" }, make("button", { type: "button", onclick: () => link.choose([layer, index]) }, name([layer, index]))),
        make("td", {}, number(mean ?? NaN)), make("td", {}, low === null ? "–" : `${number(low)} to ${number(high)}`)))))];
    if (mine) {
      parts.push(make("table", {}, make("caption", {}, `${name(head)} while answering, ${context().cell}`),
        make("thead", {}, make("tr", {}, ...["answer", "looks at", "weight", "copied", "on the needle", "on the first key"]
          .map((text) => make("th", { scope: "col" }, text)))),
        make("tbody", {}, ...context().said.map((text, i) => make("tr", {}, make("th", { scope: "row" }, text),
          make("td", {}, mine.at[i] < 0 ? "–" : label(mine.at[i])), make("td", {}, number(mine.weight[i] ?? NaN)),
          make("td", {}, mine.copied[i] ? "yes" : "no"), make("td", {}, number(mine.needle[i] ?? NaN)),
          make("td", {}, number(mine.first[i] ?? NaN)))))));
    }
    table.replaceChildren(...parts);
  }

  function exported() {
    const out = [["what", "head", "value", "low", "high", "context", "answer token", "looks at", "place", "copied", "needle", "first key"]];
    for (const [layer, head, mean, low, high] of data().top) out.push([data().name, name([layer, head]), mean, low, high, "", "", "", "", "", "", ""]);
    const given = data().grid;
    if (given?.found) {
      given.depths.forEach((depth, i) => given.lengths.forEach((length, j) => out.push(["found", "", given.found.share[i][j],
        given.found.low[i][j], given.found.high[i][j], `length ${length}, depth ${depth}`, "", "", "", "", "", ""])));
    }
    const mine = rows();
    if (mine) {
      context().said.forEach((text, i) => out.push(["weight", name(looked()), mine.weight[i], "", "", context().cell, text,
        mine.at[i] < 0 ? "" : label(mine.at[i]), mine.at[i], mine.copied[i] ? 1 : 0, mine.needle[i], mine.first[i]]));
    }
    return out;
  }

  pick.addEventListener("change", () => show(pick.selectedIndex));
  listed.addEventListener("click", () => {
    table.hidden = !table.hidden;
    listed.setAttribute("aria-expanded", String(!table.hidden));
    if (!table.hidden && data()) list();
  });

  const byHead = (head) => {
    const at = entry(head);
    return `${name(head)}: ${data().name} ${number(at[2] ?? NaN)}${at[3] === null ? "" : `, 95 % interval ${number(at[3])} to ${number(at[4])}`}, ${data().top.indexOf(at) + 1} of ${data().total}`;
  };
  const prefer = (head) => {
    cursor = head;
    link.set({ hover: head ?? [] }, true);
  };
  heads.listen({
    over: (head) => {
      if ((head ?? []).join() !== (link.get("hover") ?? []).join()) link.set({ hover: head ?? [] }, true);
      return head ? byHead(head) : "";
    },
    click: (head, event) => {
      link.choose(head, event.ctrlKey || event.metaKey || event.shiftKey);
      link.say(`${byHead(head)}; selected`);
    },
    key: (event) => {
      const { top } = data();
      const from = Math.max(0, top.findIndex((one) => one.slice(0, 2).join() === (cursor ?? looked() ?? []).join()));
      const to = { ArrowUp: from - 1, ArrowDown: from + 1, Home: 0, End: top.length - 1 }[event.key];
      if (to !== undefined && top.length) {
        prefer(top[Math.max(0, Math.min(top.length - 1, to))].slice(0, 2));
        const y = top.indexOf(entry(cursor)) * LINE;
        const scroll = heads.stage.parentElement;
        if (y < scroll.scrollTop) scroll.scrollTop = y;
        if (y + LINE > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = y + LINE - scroll.clientHeight + 8;
        link.say(byHead(cursor));
      } else if ((event.key === "Enter" || event.key === " ") && top.length) {
        const head = cursor ?? top[from].slice(0, 2);
        link.choose(head, event.key === " ");
        link.say(`${byHead(head)}; selected`);
      } else return false;
      return true;
    },
    leave: () => prefer(null),
  });
  for (const where of [found, own]) {
    where.listen({
      over: (at) => (at ? where.text(at) : ""),
      click: (at) => open(at),
      key: (event) => {
        const turn = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
        const { lengths, depths } = data().grid;
        const from = cell ?? [0, 0];
        if (turn) {
          cell = cell ? [Math.max(0, Math.min(depths.length - 1, from[0] + turn[0])), Math.max(0, Math.min(lengths.length - 1, from[1] + turn[1]))] : from;
          grids();
          link.say(where.text(cell));
        } else if (event.key === "Enter" || event.key === " ") open(from);
        else return false;
        return true;
      },
      leave: () => {
        cell = null;
        if (data()) grids();
      },
    });
  }
  arcs.listen({
    over: (at) => (!at ? "" : at.step !== undefined ? stepText(at.step) : `${label(at.key)}: ${weightText(at.code, 8)} from ${context().said[step]}`),
    click: (at) => {
      if (at.step !== undefined) choose(at.step);
      else choose(step, at.key);
    },
    key: (event) => stepped(event, { ArrowLeft: -1, ArrowRight: 1 }),
    leave: () => {},
  });

  function stepped(event, turns) {
    const count = context().said.length;
    const to = event.key === "Home" ? 0 : event.key === "End" ? count - 1 : turns[event.key] ? step + turns[event.key] : null;
    if (to === null) return false;
    choose(Math.max(0, Math.min(count - 1, to)));
    return true;
  }

  /** Step and column under a point of the map: column 0 is the first key. */
  function under(event) {
    const box = map.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    const i = Math.floor((py - layout.top) / ROW);
    if (i < 0 || i >= context().said.length || px < layout.left) return null;
    const share = (px - layout.start) / layout.wide;
    if (px < layout.left + SINK + 2) return [i, 0];
    return share < 1 ? [i, 1 + Math.max(0, Math.floor(share * context().columns))] : null;
  }

  /** First token of a column of the map and the one after its last. */
  function span(column) {
    if (column === 0) return [0, 1];
    const { length, columns } = context();
    const edge = (k) => 1 + Math.floor((k * (length - 1)) / columns);
    return [edge(column - 1), edge(column)];
  }

  function placeText([i, column]) {
    const [from, to] = span(column);
    const code = codes(rows().row)[i * (context().columns + 1) + column];
    const texts = tokens().slice(from, Math.min(to, from + 8)).join("");
    const [first, last] = context().needle;
    const many = to - from > 1;
    return `${context().said[i]} → ${many ? `${from}–${to - 1}` : label(from)}${to > first && from < last ? ", needle" : ""}: ${many ? "at most " : ""}${weightText(code, 8)}${many ? `: ${texts}${to - from > 8 ? "…" : ""}` : ""}`;
  }

  map.addEventListener("pointermove", (event) => {
    const at = layout && rows() ? under(event) : null;
    link.point(event, at ? placeText(at) : "");
  });
  map.addEventListener("pointerleave", (event) => link.point(event, ""));
  map.addEventListener("click", (event) => {
    const at = layout && rows() ? under(event) : null;
    if (!at) return;
    place = at[1];
    const [from, to] = span(at[1]);
    const peak = rows().at[at[0]];
    choose(at[0], peak >= from && peak < to ? peak : from);
    link.say(placeText(at));
  });
  map.addEventListener("keydown", (event) => {
    if (!layout || !rows() || event.ctrlKey || event.metaKey || event.altKey) return;
    const turn = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (turn) {
      place = Math.max(0, Math.min(context().columns, place + turn));
      link.say(placeText([step, place]));
    } else if (!stepped(event, { ArrowUp: -1, ArrowDown: 1 })) return;
    event.preventDefault();
  });
  link.drawn(["header", "payloads", "sel", "hover", "query", "prompt"], () => {
    const wanted = data()?.contexts.findIndex((one) => one.prompt >= 0 && one.prompt === link.get("prompt")) ?? -1;
    if (link.header.prompt && wanted >= 0 && (link.header.prompts ?? []).length) which = wanted;
    draw();
  });
  link.drawn(["key"], overMap);
  return { name: "retrieval", rows: exported };
}

/** A focusable drawing in SVG; `hit` answers what is under a point, `listen` says what is done about it. */
function area(label, what) {
  const svg = drawn("svg", { "aria-hidden": "true" });
  const stage = make("div", { class: "iw-retrieval-stage", role: "application", tabindex: "0", "aria-roledescription": what, "aria-label": label }, svg);
  const made = {
    stage, hit: () => null, text: () => "",
    clear(width, height) {
      svg.replaceChildren();
      for (const [key, value] of Object.entries({ width, height, viewBox: `0 0 ${width} ${height}` })) svg.setAttribute(key, value);
      stage.style.width = `${width}px`;
      return svg;
    },
    listen({ over, click, key, leave }) {
      const at = (event) => {
        const box = svg.getBoundingClientRect();
        return made.hit(event.clientX - box.left, event.clientY - box.top);
      };
      stage.addEventListener("pointermove", (event) => made.point?.(event, over(at(event))));
      stage.addEventListener("pointerleave", (event) => made.point?.(event, ""));
      stage.addEventListener("click", (event) => {
        const found = at(event);
        if (found) click(found, event);
      });
      stage.addEventListener("keydown", (event) => {
        if (event.ctrlKey || event.metaKey || event.altKey) return;
        if (key(event)) event.preventDefault();
      });
      stage.addEventListener("blur", leave);
      stage.addEventListener("pointerleave", leave);
    },
  };
  return made;
}

function hatching(id) {
  const pattern = drawn("pattern", { id, width: 5, height: 5, patternUnits: "userSpaceOnUse" });
  pattern.append(drawn("path", { d: "M0 5L5 0", class: "iw-retrieval-hatch" }));
  const defs = drawn("defs", {});
  defs.append(pattern);
  return defs;
}

function drawn(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}
