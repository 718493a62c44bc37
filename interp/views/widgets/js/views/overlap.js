// What circuits share: a matrix of pairs, intersections as UpSet bars, and their union as a graph; each beside chance.

import { css, inkOn, mix, number } from "../core.js";
import { make } from "../base.js";
import { chooseEdge, graphDrawing, headAt, initials, inputSample, readGraph, svgMake } from "../graph.js";

const HUES = 8;
const DENSE = 260;
const SURE = 0.05;
const TALL = 96;
const COLUMN = 26;
const ROW = 26;
const COLUMNS = ["unit", "task", "other task", "shared", "in either", "jaccard", "by chance", "p (Holm)", "weighted", "weighted by chance",
  "weighted p (Holm)"];

export const overlapTitle = "Overlap";

const spaced = (name) => name.replaceAll("_", " ");
const p = (value) => (value === null || value === undefined ? "p not known" : value < 0.001 ? "p <0.001" : `p ${value.toFixed(value < 0.1 ? 3 : 2)}`);
const span = (...parts) => make("span", {}, ...parts);
const button = (attributes, ...parts) => make("button", { type: "button", ...attributes }, ...parts);
const plural = (count, noun) => `${count} ${count === 1 ? noun.replace(/s$/, "") : noun}`;

export function overlapPanel(link, root) {
  const unitOf = make("select", { "aria-label": "unit that is compared" });
  const least = make("select", { "aria-label": "edges of the union that are drawn" });
  const listed = button({ "aria-expanded": "false" }, "Table");
  const chooser = (text, select) => make("label", { class: "iw-choice" }, span(text), select);
  const units = chooser("Compare", unitOf);
  const edgesOf = chooser("Edges of", least);
  const grid = make("table", { class: "iw-overlap-grid", role: "grid", "aria-label": "overlap of each two tasks" });
  const gridLegend = make("div", { class: "iw-legend" });
  const bars = make("div", { class: "iw-overlap-bars" });
  const barLegend = make("div", { class: "iw-legend" });
  const tasks = make("div", { class: "iw-overlap-tasks", role: "group", "aria-label": "tasks" });
  const holder = make("div", {});
  const graphLegend = make("div", { class: "iw-legend iw-overlap-inputs" });
  const table = make("div", { class: "iw-table", hidden: true });
  const note = make("p", { class: "iw-note", hidden: true });
  const upset = make("section", { "aria-label": "intersections" }, make("h3", {}, "In exactly these tasks"),
    make("div", { class: "iw-overlap-scroll" }, bars), barLegend);
  const union = make("section", { "aria-label": "union of the circuits" }, make("h3", {}, "All circuits in one graph"),
    make("div", { class: "iw-tools" }, edgesOf), tasks, holder, graphLegend);
  const two = make("section", { "aria-label": "pairs" }, make("h3", {}, "Each two tasks"),
    make("div", { class: "iw-overlap-scroll" }, grid), gridLegend);
  const parts = [make("div", { class: "iw-tools" }, units, listed), make("div", { class: "iw-overlap-top" }, two, upset), union];
  root.append(note, ...parts, table);

  let data = null;
  let unit = "heads";
  let names = [];
  let graph = { nodes: [], edges: [], heads: [1] };
  let width = 0;
  let theme = "";
  let spot = [1, 0];
  let column = 0;
  let written = "";
  const many = () => data.tasks.length > HUES;

  const drawing = graphDrawing(link, holder, "union of the circuits: arrows follow edges up and down and choose among them, Enter selects", {
    node: (i) => `${graph.nodes[i].name}: ${membership(graph.nodes[i].in)}`,
    edge: (j) => `${graph.edges[j].name}: ${membership(graph.edges[j].in)}`,
    pickNode: (i, add) => {
      const head = headAt(link, graph.nodes[i]);
      if (head) link.choose(head, add);
    },
    pickEdge: (j) => chooseEdge(link, graph, graph.edges[j]),
  });

  const membership = (inside) => `in ${inside.length} of ${data.tasks.length} circuits: ${namesOf(inside)}`;

  function read() {
    data = link.payload("overlap");
    if (!data) return;
    graph = readGraph(data);
    names = data.tasks.map(spaced);
    graph.nodes.forEach((node, i) => {
      node.in = data.nodes[i].in;
    });
    graph.edges.forEach((edge, j) => {
      edge.in = data.edges[j][3];
      edge.score = edge.low = edge.high = null;
    });
    const kinds = Object.keys(data.units);
    if (!kinds.includes(unit)) [unit] = kinds;
    unitOf.replaceChildren(...kinds.map((kind) => make("option", { value: kind }, kind)));
    unitOf.value = unit;
    units.hidden = kinds.length < 2;
    edgesOf.hidden = !data.total;
    const count = data.tasks.length;
    const options = Array.from({ length: count }, (_, i) => i + 1);
    const having = (k) => graph.edges.filter((edge) => edge.in.length >= k).length;
    least.replaceChildren(...options.map((k) => make("option", { value: k },
      `${k === 1 ? "any circuit" : k === count ? `all ${k} circuits` : `${k} circuits or more`} (${having(k)})`)));
    least.value = options.find((k) => having(k) <= DENSE) ?? count;
    dress();
    written = "";
    width = 0;
  }

  /** Colours by membership: shared is dark, what one task alone has is of its hue; of many tasks the share alone. */
  function dress() {
    const count = data.tasks.length;
    const tone = (inside) => (many() ? `m${Math.min(4, Math.floor((5 * (inside.length - 1)) / Math.max(1, count - 1)))}`
      : inside.length > 1 ? "shared" : `t${inside[0] ?? 0}`);
    for (const edge of graph.edges) {
      edge.tone = tone(edge.in);
      edge.width = 1.2 + (3.8 * (edge.in.length - 1)) / Math.max(1, count - 1);
    }
    for (const node of graph.nodes) {
      if (node.kind === "embed" || node.kind === "logits") continue;
      node.fill = `var(--iw-fill-${tone(node.in)})`;
      node.ink = `var(--iw-ink-${tone(node.in)})`;
      node.under = node.in.length === 1 ? initials(names[node.in[0]]) : `${node.in.length}/${count}`;
    }
  }

  function draw() {
    if (link.payload("overlap") !== data) read();
    note.hidden = !!data;
    note.textContent = "No circuits were given.";
    for (const part of parts) part.hidden = !data;
    if (!data) return;
    const now = Math.max(300, root.clientWidth);
    if (now !== width || theme !== link.theme) {
      width = now;
      theme = link.theme;
      written = "";
      const began = performance.now();
      drawing.show(graph);
      holder.dataset.ms = (performance.now() - began).toFixed(1);
    }
    if (written !== unit) {
      written = unit;
      drawPairs();
      drawBars();
    }
    pick();
    if (!table.hidden) list();
  }

  const alike = () => ({ edges: "as many edges between the same layers", heads: "as many heads in each layer",
    nodes: "as many heads in each layer and as many MLPs" })[unit];
  const namesOf = (inside) => inside.map((i) => names[i]).join(", ");
  const row = (kind) => ({ a, b, shared, union: both, value, chance, p: sure, weighted }) => [kind, data.tasks[a], data.tasks[b], shared,
    both, value, chance, sure, weighted?.value, weighted?.chance, weighted?.p];

  function sentence(pair, weighted) {
    const [a, b] = [names[pair.a], names[pair.b]];
    const { value, chance } = weighted ? pair.weighted : pair;
    const what = weighted ? "weighted Jaccard" : `${pair.shared} of ${pair.union} ${unit} shared, Jaccard`;
    return `${a} and ${b}: ${what} ${number(value, 2)}, by chance ${number(chance, 2)}, ${p((weighted ? pair.weighted : pair).p)} after correction`;
  }

  const pairAt = (i, j) => data.units[unit].pairs.find((pair) => (pair.a === i && pair.b === j) || (pair.a === j && pair.b === i));

  function drawPairs() {
    const { sizes, weighted, n, draws, pairs } = data.units[unit];
    const count = data.tasks.length;
    const small = count > 10;
    grid.classList.toggle("iw-overlap-small", small);
    const stops = link.palette.attention;
    const rows = data.tasks.map((task, i) => {
      const cells = data.tasks.map((_, j) => {
        const td = make("td", { role: "gridcell", tabindex: "-1", "data-at": `${i},${j}` });
        if (i === j) {
          td.className = "iw-overlap-self";
          td.append(make("b", {}, spaced(task)), span(plural(sizes[i], unit)));
          return td;
        }
        const pair = pairAt(i, j);
        const own = i > j ? pair : pair?.weighted;
        if (!own || own.value === null) {
          td.setAttribute("aria-label", "no weights");
          return td;
        }
        const colour = mix(stops, 0.08 + 0.8 * own.value);
        td.style.background = css(colour);
        td.style.color = inkOn(colour);
        td.classList.toggle("iw-overlap-sure", own.p !== null && own.p < SURE);
        td.setAttribute("aria-label", sentence(pair, i < j));
        const marks = make("i", { class: "iw-overlap-mark" }, make("i", { style: `width:${(100 * own.value).toFixed(1)}%` }),
          make("u", { style: `left:${(100 * own.chance).toFixed(1)}%` }));
        td.append(make("b", {}, own.value.toFixed(2)), marks,
          ...(small ? [] : [span(`chance ${own.chance.toFixed(2)}`), span(p(own.p))]));
        return td;
      });
      const head = make("th", { scope: "row" }, button({ "data-task": i, onclick: () => chooseTask(i) }, spaced(task)));
      return make("tr", { role: "row" }, head, ...cells);
    });
    grid.replaceChildren(make("tbody", {}, ...rows));
    focusCell(spot, false);
    gridLegend.replaceChildren(
      span(`below the diagonal: Jaccard of ${unit} (shared / in either), colour 0`, make("i", { class: "iw-bar", style: `background:linear-gradient(90deg,${stops.join(",")})` }), "1"),
      ...(weighted ? [span(`above: weighted by the size of scores${unit !== "edges" ? " (of a node: summed over the edges out of it)" : ""}, Σ min / Σ max`)] : []),
      span(`tick and “chance”: mean of random circuits with ${alike()}, of ${n.toLocaleString("en")} (exact${weighted ? `; weights: ${draws} random exchanges within layers, so that no p can be below ${number(pairs.length / (draws + 1), 2)}` : ""})`),
      span(`p: of sharing as much by chance, Holm-corrected for ${plural(pairs.length, "pairs")}; bold: below ${SURE}`));
  }

  function focusCell([i, j], move = true) {
    const count = data.tasks.length;
    spot = [Math.max(0, Math.min(count - 1, i)), Math.max(0, Math.min(count - 1, j))];
    for (const cell of grid.querySelectorAll("td")) cell.tabIndex = -1;
    const cell = grid.querySelector(`td[data-at="${spot.join()}"]`);
    if (!cell) return;
    cell.tabIndex = 0;
    if (move) {
      cell.focus();
      link.say(cell.getAttribute("aria-label") ?? cell.textContent);
    }
  }

  function chooseHeads(heads, text) {
    link.set({ sel: heads });
    link.say(`${text}; ${plural(heads.length, "heads")} selected`);
  }

  function chooseCell(i, j) {
    if (i === j) return chooseTask(i);
    const both = (inside) => inside.includes(i) && inside.includes(j);
    const ends = new Set(graph.edges.filter((edge) => both(edge.in)).flatMap((edge) => [edge.from, edge.to]));
    const mine = graph.nodes.filter((node, k) => (unit === "edges" ? ends.has(k) : both(node.in)));
    chooseHeads(mine.map((node) => headAt(link, node)).filter(Boolean), sentence(pairAt(i, j), i < j && !!pairAt(i, j).weighted));
  }

  function chooseTask(i) {
    const task = data.tasks[i];
    const off = link.get("task") === task;
    link.set({ task: off ? "" : task });
    link.say(off ? "all tasks" : `task ${spaced(task)}: ${plural(data.units[unit].sizes[i], unit)}`);
  }

  function drawBars() {
    const { bars: rows, more } = data.units[unit];
    const count = data.tasks.length;
    upset.hidden = count < 3;
    if (count < 3) return;
    const most = Math.max(1, ...rows.map((row) => Math.max(row.count, row.chance)));
    const high = TALL + 20 + count * ROW;
    const side = make("div", { class: "iw-overlap-names", style: `padding-top:${TALL + 20}px` }, ...names.map((name, i) =>
      button({ "data-task": i, onclick: () => chooseTask(i) }, name)));
    const columns = rows.map((row, k) => {
      const svg = svgMake("svg", { width: COLUMN, height: high, "aria-hidden": "true" });
      const y = (value) => 18 + TALL * (1 - value / most);
      const bottom = y(0);
      svg.append(svgMake("rect", { x: 5, width: COLUMN - 10, y: y(row.count), height: bottom - y(row.count), class: "iw-overlap-bar" }),
        svgMake("line", { x1: 1, x2: COLUMN - 1, y1: y(row.chance), y2: y(row.chance), class: "iw-overlap-chance" }),
        svgMake("text", { x: COLUMN / 2, y: y(Math.max(row.count, row.chance)) - 4 }, String(row.count)));
      const at = (i) => TALL + 20 + i * ROW + ROW / 2;
      for (let i = 0; i < count; i++) {
        svg.append(svgMake("circle", { cx: COLUMN / 2, cy: at(i), r: row.in.includes(i) ? 6 : 3, class: row.in.includes(i) ? "iw-overlap-in" : "iw-overlap-out" }));
      }
      if (row.in.length > 1) {
        svg.append(svgMake("line", { x1: COLUMN / 2, x2: COLUMN / 2, y1: at(row.in[0]), y2: at(row.in[row.in.length - 1]), class: "iw-overlap-join" }));
      }
      return button({ class: "iw-overlap-column", tabindex: k === column ? "0" : "-1", "aria-label": barText(row),
        "data-k": k, onclick: () => chooseHeads(row.heads, barText(row)) }, svg);
    });
    bars.replaceChildren(side, make("div", { class: "iw-overlap-columns", role: "group", "aria-label": "intersections" }, ...columns));
    barLegend.replaceChildren(span(`bar: ${unit} that lie in all of the marked circuits and in no other`),
      span(make("i", { class: "iw-overlap-tick" }), `by chance, of independent random circuits with ${alike()}`),
      ...(more ? [span(`${more} smaller ${more === 1 ? "combination" : "combinations"} not drawn`)] : []));
  }

  const barText = (row) => `${plural(row.count, unit)} in ${row.in.length === data.tasks.length ? "all" : "exactly"} ${namesOf(row.in)}; by chance ${number(row.chance, 2)}`;

  /** What is selected elsewhere: the task's circuit alone, bars that hold the selected heads, buttons of the task. */
  function pick() {
    if (!data) return;
    const chosen = data.tasks.indexOf(link.get("task") ?? "");
    const k = Number(least.value);
    drawing.keep((j) => graph.edges[j].in.length >= k && (chosen < 0 || graph.edges[j].in.includes(chosen)));
    const seen = graph.edges.filter((_, j) => drawing.isKept(j)).length;
    const count = data.tasks.length;
    for (const one of root.querySelectorAll("[data-task]")) one.setAttribute("aria-pressed", String(Number(one.dataset.task) === chosen));
    const swatch = (tone) => make("i", { class: "iw-circuit-swatch", style: `background:var(--iw-fill-${tone})` });
    const task = (name, i) => button({ "aria-pressed": String(i === chosen), onclick: () => chooseTask(i) },
      ...(many() ? [] : [swatch(`t${i}`)]), `${initials(name)} ${name}`);
    const focused = tasks.contains(document.activeElement) ? [...tasks.children].indexOf(document.activeElement) : -1;
    tasks.replaceChildren(...names.map(task));
    if (focused >= 0) tasks.children[focused]?.focus();
    const used = ["q", "k", "v"].filter((input) => graph.edges.some((edge) => edge.input === input));
    graphLegend.replaceChildren(
      ...(many() ? [span("in one circuit ", ...[0, 1, 2, 3, 4].map((i) => swatch(`m${i}`)), `in all ${count}`)]
        : [span(swatch("shared"), "in two circuits or more"), span("hue: in that task's circuit alone")]),
      span("under a node: how many circuits have it, or the only one; width of an edge: how many have it"),
      ...used.map((input) => span(inputSample(input), { q: "queries", k: "keys", v: "values" }[input])),
      span(!data.total ? "the circuits name no edges" : `${seen} of ${data.total} edges drawn${chosen >= 0 ? `, those of ${names[chosen]}` : ""}`));
    const sel = new Set((link.get("sel") ?? []).map((head) => head.join()));
    for (const one of bars.querySelectorAll(".iw-overlap-column")) {
      const { heads } = data.units[unit].bars[Number(one.dataset.k)];
      one.classList.toggle("iw-overlap-holds", heads.some((head) => sel.has(head.join())));
    }
  }

  function list() {
    const line = (text, act, values) => make("tr", {}, make("th", { scope: "row" }, button({ onclick: act }, text)),
      ...values.map((value) => make("td", {}, Number.isInteger(value) ? String(value) : number(value ?? NaN))));
    const sheet = (caption, heads, lines) => make("table", {}, make("caption", {}, caption),
      make("thead", {}, make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text)))), make("tbody", {}, ...lines));
    const { pairs, bars: rows } = data.units[unit];
    table.replaceChildren(
      sheet(`pairs of tasks, ${unit}`, ["tasks", ...COLUMNS.slice(3)], [...pairs].sort((a, b) => b.value - a.value).map((pair) =>
        line(`${names[pair.a]} and ${names[pair.b]}`, () => chooseCell(pair.a, pair.b), row(unit)(pair).slice(3)))),
      sheet("intersections", ["in exactly", unit, "by chance"], rows.map((one) =>
        line(namesOf(one.in), () => chooseHeads(one.heads, barText(one)), [one.count, one.chance]))));
  }

  grid.addEventListener("click", (event) => {
    const cell = event.target.closest("td");
    if (!cell) return;
    const [i, j] = cell.dataset.at.split(",").map(Number);
    focusCell([i, j], false);
    chooseCell(i, j);
  });
  grid.addEventListener("pointermove", (event) => {
    const cell = event.target.closest("td");
    link.point(event, cell?.getAttribute("aria-label") ?? "");
  });
  grid.addEventListener("pointerleave", (event) => link.point(event, ""));
  grid.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName !== "TD") return;
    const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (by) focusCell([spot[0] + by[0], spot[1] + by[1]]);
    else if (event.key === "Enter" || event.key === " ") chooseCell(...spot);
    else if (event.key === "Escape") link.set({ sel: [], task: "" });
    else return;
    event.preventDefault();
  });
  bars.addEventListener("keydown", (event) => {
    const at = event.target.closest(".iw-overlap-column");
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!at || !by) return;
    const all = [...bars.querySelectorAll(".iw-overlap-column")];
    column = Math.max(0, Math.min(all.length - 1, Number(at.dataset.k) + by));
    all.forEach((one, k) => {
      one.tabIndex = k === column ? 0 : -1;
    });
    all[column].focus();
    link.say(all[column].getAttribute("aria-label"));
    event.preventDefault();
  });
  bars.addEventListener("pointermove", (event) => link.point(event, event.target.closest(".iw-overlap-column")?.getAttribute("aria-label") ?? ""));
  bars.addEventListener("pointerleave", (event) => link.point(event, ""));
  unitOf.addEventListener("change", () => {
    unit = unitOf.value;
    draw();
  });
  least.addEventListener("change", pick);
  listed.addEventListener("click", () => {
    table.hidden = !table.hidden;
    listed.setAttribute("aria-expanded", String(!table.hidden));
    if (!table.hidden) list();
  });
  link.drawn(["payloads", "header"], draw);
  link.drawn(["task", "sel"], pick);
  return {
    name: "overlap",
    title: () => (data ? `overlap of ${data.tasks.length} circuits` : overlapTitle),
    rows: () => [COLUMNS, ...Object.entries(data?.units ?? {}).flatMap(([kind, found]) => found.pairs.map(row(kind)))],
  };
}
