// The circuit graph: heads, MLPs and edges above a threshold, with the faithfulness of what is kept where it was measured.

import { inkOn, mix, number } from "../core.js";
import { make } from "../base.js";
import { chooseEdge, graphDrawing, headAt, initials, inputSample, readGraph } from "../graph.js";

const STEPS = 160;
const ROWS = 300;
const WIDEST = 7;
const THINNEST = 0.9;
const WAIT = 220;
const CURVE = 74;
const SNAP = 12;
const INPUT = { q: "queries", k: "keys", v: "values" };
const ROLE = ["#56B4E9", "#E69F00", "#009E73", "#F0E442", "#CC79A7", "#0072B2", "#D55E00", "#999999"];
const SVG_NAME = "http://www.w3.org/2000/svg";

export const circuitTitle = "Circuit";

export function circuitPanel(link, root) {
  const title = make("div", { class: "iw-title" });
  const line = make("p", { class: "iw-circuit-line" });
  const detail = make("p", { class: "iw-fine" });
  const slider = make("input", { type: "range", min: 0, step: 1, "aria-label": "threshold of the score", class: "iw-circuit-slider" });
  const shown = make("output", { class: "iw-circuit-at" });
  const curve = document.createElementNS(SVG_NAME, "svg");
  curve.setAttribute("class", "iw-circuit-curve");
  curve.setAttribute("role", "img");
  const bar = make("div", { class: "iw-circuit-bar" }, make("div", { class: "iw-circuit-track" }, curve, slider), shown);
  const holder = make("div", {});
  const legend = make("div", { class: "iw-legend iw-circuit-legend" });
  const roles = make("div", { class: "iw-legend" });
  const table = make("div", { class: "iw-table", hidden: true });
  const listed = make("button", { type: "button", "aria-expanded": "false" }, "Table");
  const note = make("p", { class: "iw-note", hidden: true });
  root.append(title, line, detail, bar, holder, note, legend, roles, make("div", { class: "iw-tools iw-circuit-foot" }, listed), table);

  let data = null;
  let graph = { nodes: [], edges: [], heads: [1] };
  let steps = [0];
  let found = [];
  let waiting = null;
  let asking = "";
  let refused = null;
  let size = [];
  let width = 0;
  let track = 400;
  let theme = "";
  let marks = new Map();

  const drawing = graphDrawing(link, holder, "circuit: arrows follow edges up and down and choose among them, Enter selects", {
    node: (i) => nodeText(i),
    edge: (j) => edgeText(j),
    pickNode: (i, add) => {
      const head = headAt(link, graph.nodes[i]);
      if (head) link.choose(head, add);
    },
    pickEdge: (j) => chooseEdge(link, graph, graph.edges[j]),
    key: (event) => {
      const by = { "+": 1, "=": 1, "-": -1, _: -1 }[event.key];
      if (!by) return false;
      toStep(Number(slider.value) + by);
      return true;
    },
  });

  function nodeText(i) {
    const node = graph.nodes[i];
    const [ins, outs] = drawing.degree(i);
    const role = data.roles[node.name];
    return `${node.name}${role ? `, ${role}` : ""}: ${ins} ${ins === 1 ? "edge" : "edges"} in, ${outs} out`;
  }

  function edgeText(j) {
    const { from, to, input, score, low, high, name } = graph.edges[j];
    const parts = [`${graph.nodes[from].name} to ${input ? `${INPUT[input]} of ` : ""}${graph.nodes[to].name}`];
    parts.push(score === null ? "no score" : `score ${number(score)}${interval(low, high)}, ${j + 1} of ${data.total}`);
    if (data.places[name]) parts.push(`at ${data.places[name]}`);
    return parts.join(": ");
  }

  const interval = (low, high) => (low === null || high === null || low === undefined ? "" : ` [${number(low)}, ${number(high)}]`);

  /** How many edges a threshold keeps, and whether that is known exactly. */
  function keptAt(threshold) {
    let [from, to] = [0, size.length];
    while (from < to) {
      const middle = (from + to) >> 1;
      if (size[middle] >= threshold) from = middle + 1;
      else to = middle;
    }
    if (from < size.length) return [from, true];
    if (threshold <= 0 || !data.weaker.length) return [data.total, true];
    const below = data.weaker.filter(([at]) => at >= threshold);
    if (!below.length) return [from, threshold > data.weaker[0][0]];
    const [at, count] = below[below.length - 1];
    return [count, at === threshold];
  }

  function read() {
    data = link.payload("circuit");
    if (!data) return;
    graph = readGraph(data);
    size = graph.edges.map((edge) => (edge.score === null ? Infinity : Math.abs(edge.score)));
    const scored = [...new Set(size.filter(Number.isFinite))].sort((a, b) => a - b);
    let chosen = scored;
    if (scored.length > STEPS) {
      const ranks = Array.from({ length: STEPS }, (_, i) => Math.round(scored.length ** (i / (STEPS - 1))));
      chosen = [...new Set(ranks)].map((rank) => scored[scored.length - rank]).reverse();
    }
    const least = data.weaker.length ? data.weaker.map(([at]) => at).reverse() : [];
    steps = [0, ...least.slice(1), ...(data.weaker.length ? chosen : chosen.slice(1))];
    slider.max = steps.length - 1;
    slider.disabled = steps.length < 2;
    found = [...data.points];
    refused = null;
    width = 0;
  }

  /** Widths, colours and marks of what is drawn. */
  function dress() {
    const most = size.reduce((a, b) => (Number.isFinite(b) && b > a ? b : a), 0) || 1;
    for (const edge of graph.edges) {
      edge.width = edge.score === null ? 1.6 : Math.max(THINNEST, WIDEST * Math.sqrt(Math.abs(edge.score) / most));
      edge.tone = edge.score === null ? "none" : edge.score < 0 ? "neg" : "pos";
    }
    const kinds = [...new Set(Object.values(data.roles))];
    marks = new Map();
    for (const role of kinds) {
      let mark = initials(role);
      while ([...marks.values()].some((one) => one.mark === mark)) mark += "′";
      marks.set(role, { mark, fill: kinds.length <= ROLE.length ? ROLE[marks.size] : "" });
    }
    for (const node of graph.nodes) {
      const own = marks.get(data.roles[node.name]);
      node.fill = own?.fill ?? "";
      node.ink = own?.fill ? inkOn(mix([own.fill, own.fill], 0)) : "";
      node.under = own?.mark ?? "";
    }
    explain(most);
  }

  function explain(most) {
    const sample = (tone) => make("i", { class: `iw-circuit-swatch iw-e-${tone}`, style: "background:var(--iw-tone)" });
    const scored = size.some(Number.isFinite);
    const used = ["q", "k", "v"].filter((input) => graph.edges.some((edge) => edge.input === input));
    legend.replaceChildren(
      ...(scored ? [make("span", {}, sample("pos"), "positive score"),
        make("span", {}, sample("neg"), "negative, ends in a bar"),
        make("span", {}, `width: square root of the score's size, ${WIDEST} px is ${number(most)}; below ${number(most * (THINNEST / WIDEST) ** 2, 2)} all are alike`)] : []),
      ...used.map((input) => make("span", { class: "iw-circuit-input" }, inputSample(input),
        `into ${INPUT[input]}: ${{ q: "dashed, from the left", k: "dotted, from below", v: "from the right" }[input]}`)),
      ...(data.origin ? [make("span", {}, data.origin)] : []),
      ...(data.told ? [make("span", {}, data.told)] : []));
    roles.replaceChildren(...[...marks].map(([role, { mark, fill }]) => {
      const names = graph.nodes.filter((node) => data.roles[node.name] === role);
      const pick = () => {
        const heads = names.map((node) => headAt(link, node)).filter(Boolean);
        if (heads.length) link.set({ sel: heads });
        link.say(`${role}: ${heads.length} heads selected`);
      };
      return make("button", { type: "button", class: "iw-circuit-role", onclick: pick },
        make("i", { class: "iw-circuit-swatch", style: fill ? `background:${fill}` : "" }), `${mark} ${role}: ${names.length}`);
    }));
  }

  function draw() {
    if (link.payload("circuit") !== data) read();
    root.classList.toggle("iw-circuit-empty", !data);
    if (!data) {
      note.hidden = false;
      note.textContent = "No circuit was given.";
      return;
    }
    const now = Math.max(300, holder.clientWidth);
    if (now !== width || theme !== link.theme) {
      width = now;
      theme = link.theme;
      track = Math.max(120, slider.clientWidth || width - 160);
      const began = performance.now();
      dress();
      drawing.show(graph);
      keep();
      holder.dataset.ms = (performance.now() - began).toFixed(1);
    } else keep();
    name();
    note.hidden = graph.edges.length > 0;
    note.textContent = graph.nodes.length ? "This circuit is a list of heads: it names no edges." : "This circuit is empty.";
    bar.hidden = steps.length < 2;
    line.hidden = detail.hidden = !data.total;
  }

  function name() {
    const badge = (text) => make("span", { class: "iw-badge" }, text);
    title.replaceChildren(make("strong", {}, data.name), ...[data.model, data.task].filter(Boolean).map(badge),
      badge(`${graph.nodes.filter((node) => node.kind === "head").length} heads`), ...(data.total ? [badge(`${data.total.toLocaleString("en")} edges`)] : []));
    if (data.citation) title.append(make("span", { class: "iw-fine" }, data.citation));
  }

  const threshold = () => link.get("threshold") ?? 0;

  /** The step that keeps what a threshold keeps. */
  function stepOf(at) {
    const i = steps.findIndex((step) => step >= at);
    return i < 0 ? steps.length - 1 : i;
  }

  function keep() {
    if (!data) return;
    const at = threshold();
    drawing.keep((j) => size[j] >= at);
    slider.value = stepOf(at);
    slider.setAttribute("aria-valuetext", `score at least ${number(at)}, ${keptAt(at)[0]} edges`);
    shown.textContent = at > 0 ? `|score| ≥ ${number(at)}` : "all edges";
    tell();
    wonder();
    if (!table.hidden) list();
  }

  function toStep(i) {
    link.set({ threshold: steps[Math.max(0, Math.min(steps.length - 1, i))] });
  }

  const same = (point, at) => {
    const [[one, exactOne], [other, exactOther]] = [keptAt(point.threshold), keptAt(at)];
    return point.threshold === at || (exactOne && exactOther && one === other);
  };
  const pointAt = (at) => found.find((point) => !point.file && same(point, at)) ?? found.find((point) => same(point, at));
  const value = (point) => `${number(point.faithfulness)}${interval(point.low, point.high) || " (no interval)"} on ${point.n} ${
    point.n === 1 ? "prompt" : "prompts"}`;

  /** The line: edges kept and hidden, and the faithfulness of these very edges where it is known. */
  function tell() {
    const at = threshold();
    const [count, exact] = keptAt(at);
    const hidden = data.total - count;
    const number_ = (some) => some.toLocaleString("en");
    const drawn = graph.edges.length < count ? ` (the strongest ${number_(graph.edges.length)} drawn)` : "";
    const about = exact ? "" : "at least ";
    const parts = [`${about}${number_(count)} ${count === 1 ? "edge" : "edges"} kept${drawn}, ${exact ? "" : "at most "}${number_(hidden)} hidden`];
    const point = pointAt(at);
    const measured = graph.edges.length > 0;
    const strong = (text) => make("strong", {}, text);
    if (point) line.replaceChildren(`${parts[0]}, `, strong(`faithfulness ${value(point)}`));
    else if (refused?.at === at) line.replaceChildren(`${parts[0]}; `, make("span", { class: "iw-warn" }, refused.text));
    else if (asking) line.replaceChildren(`${parts[0]}, faithfulness: measuring …`);
    else line.replaceChildren(`${parts[0]}${measured ? ", faithfulness of these edges not measured" : ""}`);
    detail.replaceChildren();
    if (point) {
      detail.append(point.how ?? "", ...(point.warnings ?? []).map((text) => make("span", { class: "iw-warn" }, `; ${text}`)));
    } else if (measured) {
      const near = found.map((one) => [one, keptAt(one.threshold)[0]]).sort((a, b) => a[1] - b[1]);
      const below = near.filter(([, kept]) => kept < count).pop();
      const above = near.find(([, kept]) => kept > count);
      const some = [below, above].filter(Boolean).map(([one, kept]) => `of ${number_(kept)} edges: ${value(one)}`);
      const live = link.live("circuit") ? "" : "no model is here to measure it";
      detail.append([some.length ? `measured ${some.join(", ")}` : "", live].filter(Boolean).join("; "));
    }
    plot();
  }

  const xOf = (at) => 8 + (stepOf(at) / Math.max(1, steps.length - 1)) * (track - 16);

  /** Measured points over the slider: dots with intervals, no line between them. */
  function plot() {
    const wide = track;
    const most = Math.max(1.1, ...found.map((point) => Math.min(2, Math.max(point.faithfulness, point.high ?? 0))));
    const least = Math.min(0, ...found.map((point) => Math.max(-1, Math.min(point.faithfulness, point.low ?? 0))));
    curve.style.display = found.length || link.live("circuit") ? "" : "none";
    const y = (share) => 8 + ((most - share) / (most - least)) * (CURVE - 16);
    curve.setAttribute("width", wide);
    curve.setAttribute("height", CURVE);
    curve.setAttribute("aria-label", found.length ? `faithfulness measured at ${found.length} thresholds: ${found.map((point) =>
      `${keptAt(point.threshold)[0]} edges ${number(point.faithfulness)}`).join(", ")}` : "no faithfulness measured yet");
    const part = (tag, attributes, text = "") => {
      const element = document.createElementNS(SVG_NAME, tag);
      for (const [key, is] of Object.entries(attributes)) element.setAttribute(key, is);
      if (text) element.textContent = text;
      return element;
    };
    const parts = [];
    for (const share of [0, 1]) {
      parts.push(part("line", { x1: 0, x2: wide, y1: y(share), y2: y(share), class: share ? "iw-circuit-one" : "iw-circuit-zero" }));
    }
    parts.push(part("text", { x: 2, y: y(0) - 5 }, "faithfulness; dashed line 1: as the model, line 0: as no edge"));
    const here = xOf(threshold());
    parts.push(part("line", { x1: here, x2: here, y1: 0, y2: CURVE, class: "iw-circuit-here" }));
    for (const point of found) {
      const [px, now] = [xOf(point.threshold), same(point, threshold())];
      const clip = (share) => y(Math.max(least, Math.min(most, share)));
      if (point.low !== null && point.high !== null) {
        parts.push(part("line", { x1: px, x2: px, y1: clip(point.low), y2: clip(point.high), class: "iw-circuit-whisker" }));
      }
      parts.push(part("circle", { cx: px, cy: clip(point.faithfulness), r: now ? 4.5 : 3, class: `${now ? "iw-circuit-now" : "iw-circuit-dot"}${point.file ? " iw-circuit-file" : ""}` }));
    }
    curve.replaceChildren(...parts);
  }

  /** Ask for what is kept, once the threshold rests, where Python can tell. */
  function wonder() {
    const at = threshold();
    clearTimeout(waiting);
    if (!link.live("circuit") || !graph.edges.length || found.some((point) => !point.file && same(point, at)) || refused?.at === at || asking === String(at)) return;
    waiting = setTimeout(async () => {
      asking = String(at);
      tell();
      const answer = await link.ask("circuit", { threshold: at });
      asking = "";
      if (answer.error) refused = { at, text: answer.error };
      else if (!found.some((point) => !point.file && point.threshold === answer.threshold)) found.push(answer);
      tell();
      if (!answer.error && pointAt(threshold())) link.say(line.textContent);
      wonder();
    }, WAIT);
  }

  function list() {
    const head = make("tr", {}, ...["edge", "score", "95 % interval", "at"].map((text) => make("th", { scope: "col" }, text)));
    const rows = graph.edges.map((edge, j) => [edge, j]).filter(([, j]) => drawing.isKept(j));
    const body = rows.slice(0, ROWS).map(([edge]) => make("tr", {},
      make("th", { scope: "row" }, make("button", { type: "button", onclick: () => chooseEdge(link, graph, edge) }, edge.name)),
      make("td", {}, edge.score === null ? "–" : number(edge.score)),
      make("td", {}, interval(edge.low, edge.high).trim() || "–"),
      make("td", {}, data.places[edge.name] ?? "")));
    const more = rows.length > ROWS ? `, the strongest ${ROWS} of ${rows.length}` : "";
    table.replaceChildren(make("table", {}, make("caption", {}, `edges kept${more}`), make("thead", {}, head), make("tbody", {}, ...body)));
  }

  curve.addEventListener("click", (event) => {
    const x = event.clientX - curve.getBoundingClientRect().left;
    const [near] = found.filter((point) => Math.abs(xOf(point.threshold) - x) < SNAP)
      .sort((a, b) => Math.abs(xOf(a.threshold) - x) - Math.abs(xOf(b.threshold) - x));
    if (near) link.set({ threshold: near.threshold });
    else toStep(Math.round(((x - 8) / (track - 16)) * (steps.length - 1)));
  });
  slider.addEventListener("input", () => toStep(Number(slider.value)));
  slider.addEventListener("change", () => link.say(line.textContent));
  listed.addEventListener("click", () => {
    table.hidden = !table.hidden;
    listed.setAttribute("aria-expanded", String(!table.hidden));
    if (!table.hidden) list();
  });
  link.drawn(["payloads", "header"], draw);
  link.drawn(["threshold"], keep);
  const row = ({ name: edge, score, low, high }) => [edge, score, low, high, data.places[edge] ?? ""];
  return {
    name: "circuit",
    title: () => data?.name ?? circuitTitle,
    rows: () => [["edge", "score", "low", "high", "at"], ...graph.edges.filter((_, j) => drawing.isKept(j)).map(row)],
  };
}
