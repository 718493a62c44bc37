// Graphs of heads and MLPs in SVG: layers upwards, heads in slots, MLPs beside them; layout, drawing, hits, walks by keys.

import { make } from "./base.js";

const NODE = 17;
const APART = 40;
const PORTS = { q: [-0.8, 0.6], k: [0, 1], v: [0.8, 0.6] };
const BENDS = 12;
const NEAR = 12;
const SVG = "http://www.w3.org/2000/svg";

/** The name of an edge however it is written: `L0H5->L2H1<k>`; of `L0H5->L2H1.k` as well. */
export function edgeKey(text) {
  const bare = String(text).trim().replace(/\.(?:mlp|out)$/, "");
  return bare.replace(/\.([qkv])$/, "<$1>");
}

/** A node's name as it stands in a graph: 9.9 for L9H9, m3 for mlp3. */
export function shortName(node) {
  if (node.kind === "head") return `${node.layer}.${node.head}`;
  return node.kind === "mlp" ? `m${node.layer}` : node.kind;
}

/** Initials of a role: NM for "name mover"; two letters of a single word. */
export function initials(role) {
  const words = role.split(/[^\p{L}\p{N}]+/u).filter(Boolean);
  return words.length > 1 ? words.slice(0, 3).map((word) => word[0].toUpperCase()).join("")
    : role.slice(0, 1).toUpperCase() + role.slice(1, 2);
}

/** x of the nodes of a row: as near to what they want as `gap` between them allows, none beyond `most`. */
export function spread(wanted, gap, most) {
  const out = [...wanted];
  for (let i = 1; i < out.length; i++) out[i] = Math.max(out[i], out[i - 1] + gap);
  for (let i = out.length - 1, limit = most; i >= 0 && out[i] > limit; i--, limit -= gap) out[i] = limit;
  return out;
}

/** Where nodes lie: x and y of each, the y of each row of heads, the slots' x; all in pixels. */
export function graphLayout(nodes, heads, width) {
  const slots = Math.max(1, ...heads, ...nodes.map((node) => (node.slot ?? 0) + 1));
  const rows = new Map();
  for (const [i, node] of nodes.entries()) {
    if (!rows.has(node.row)) rows.set(node.row, []);
    rows.get(node.row).push(i);
  }
  const fullest = Math.max(1, ...[...rows.values()].map((some) => some.filter((i) => nodes[i].slot !== null).length));
  const mlps = nodes.some((node) => node.kind === "mlp");
  const left = 46;
  const right = mlps ? 118 : 24;
  const area = Math.max(Math.min(slots * 92, width - left - right), fullest * APART, 2 * APART);
  const start = left + Math.max(0, (width - left - right - area) / 2);
  const slotX = (slot) => start + ((slot + 0.5) * area) / slots;
  const top = Math.max(heads.length, ...nodes.map((node) => Math.ceil(node.row)));
  const bottom = Math.min(-1, ...nodes.map((node) => Math.floor(node.row)));
  const busy = (row) => rows.has(row) || rows.has(row + 0.5);
  const count = Array.from({ length: top - bottom + 1 }, (_, i) => bottom + i).filter(busy).length;
  const tall = Math.max(64, Math.min(92, 620 / Math.max(1, count)));
  const rowY = new Map();
  let y = 26;
  for (let row = top; row >= bottom; row--) {
    if (row < top) y += !busy(row) ? 20 : busy(row + 1) || rows.has(row + 0.5) ? tall : 44;
    rowY.set(row, y);
  }
  const xs = new Float64Array(nodes.length);
  const ys = new Float64Array(nodes.length);
  for (const [row, some] of rows) {
    const level = Math.floor(row);
    const half = row - level;
    for (const i of some) {
      ys[i] = rowY.get(level) - half * tall;
      xs[i] = nodes[i].kind === "mlp" ? start + area + 34 : start + area / 2;
    }
    const mine = some.filter((i) => nodes[i].slot !== null).sort((a, b) => nodes[a].slot - nodes[b].slot);
    spread(mine.map((i) => slotX(nodes[i].slot)), APART, start + area - NODE).forEach((x, k) => { xs[mine[k]] = x; });
  }
  return { xs, ys, rowY, slotX, slots, start, area, roomy: area / slots >= APART,
    width: Math.max(width - 2, start + area + right), height: y + 34 };
}

/** Half the width and height of a node. */
const sizeOf = (node) => (node.kind === "head" ? [NODE, NODE] : node.kind === "mlp" ? [15, 12] : [34, 12]);

/** An edge as a cubic curve: [x, y] of its start, two handles and end. It enters q from the left, k below, v from the right. */
export function graphCurve(layout, nodes, from, to, input) {
  const [a, b] = [nodes[from], nodes[to]];
  const [dx, dy] = PORTS[input] ?? PORTS.k;
  const head = b.kind === "head";
  const lean = (at, other, node) => (node.slot === null && node.kind !== "mlp"
    ? Math.max(-26, Math.min(26, (layout.xs[other] - layout.xs[at]) * 0.12)) : 0);
  const x1 = layout.xs[from] + lean(from, to, a);
  const y1 = layout.ys[from] - sizeOf(a)[1];
  const x2 = layout.xs[to] + (head ? dx * (NODE + 1) : lean(to, from, b));
  const y2 = layout.ys[to] + (head ? dy * (NODE + 1) : sizeOf(b)[1] + 1);
  const rise = Math.max(12, y1 - y2);
  const same = Math.abs(layout.xs[from] - layout.xs[to]) < NODE;
  const far = same && Math.abs(a.row - b.row) > 1;
  const out = !far ? 0 : (a.kind === "mlp" ? 1 : dx < 0 ? -1 : 1) * Math.min(58, 18 + rise * 0.09);
  const pull = 0.42 * rise;
  return [x1, y1, x1 + out * 1.25, y1 - pull, x2 + (head && !far ? dx * Math.min(20, pull * 0.5) : 0) + out * 1.25, y2 + pull * (dy || 1), x2, y2];
}

/** Points along a curve, [x, y, x, y, …]. */
export function along(c, count = BENDS) {
  const out = new Float32Array(2 * count);
  for (let i = 0; i < count; i++) {
    const t = i / (count - 1);
    const u = 1 - t;
    const [p, q, r, s] = [u * u * u, 3 * u * u * t, 3 * u * t * t, t * t * t];
    out[2 * i] = p * c[0] + q * c[2] + r * c[4] + s * c[6];
    out[2 * i + 1] = p * c[1] + q * c[3] + r * c[5] + s * c[7];
  }
  return out;
}

/** Squared distance of a point to a line through points. */
export function distance(points, x, y) {
  let least = Infinity;
  for (let i = 0; i + 3 < points.length; i += 2) {
    const [ax, ay] = [points[i], points[i + 1]];
    const [vx, vy] = [points[i + 2] - ax, points[i + 3] - ay];
    const t = Math.max(0, Math.min(1, ((x - ax) * vx + (y - ay) * vy) / (vx * vx + vy * vy || 1)));
    least = Math.min(least, (ax + t * vx - x) ** 2 + (ay + t * vy - y) ** 2);
  }
  return least;
}

/** An element of SVG. */
export const svgMake = (tag, attributes = {}, ...children) => {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};

// A graph in `holder`. `acts` tells what the view makes of it: node(i) and edge(j) are sentences, pickNode(i, add) and
// pickEdge(j) are clicks, key(event) gets the keys that mean nothing here. Edges come strongest first:
// { name, from, to, input, width, tone }; nodes: { name, kind, row, slot, layer, head, fill, ink, under, always }.
export function graphDrawing(link, holder, label, acts) {
  const stage = make("div", { class: "iw-graph", role: "application", tabindex: "0", "aria-label": label,
    "aria-roledescription": "graph" });
  const scroll = make("div", { class: "iw-graph-scroll" }, stage);
  holder.append(scroll);
  let graph = { nodes: [], edges: [], heads: [1] };
  let layout = null;
  let curves = [];
  let points = [];
  let paths = [];
  let places = [];
  let kept = new Uint8Array(0);
  let svg = null;
  let rings = null;
  let picked = null;
  let cursor = null;
  let pointed = null;
  let lit = [];
  let degrees = [];

  /** Draw a graph anew: nodes and edges as said above, heads of each layer. */
  function show(next) {
    graph = next;
    const width = Math.max(300, (holder.clientWidth || 640) - 8);
    layout = graphLayout(graph.nodes, graph.heads, width);
    curves = graph.edges.map((edge) => graphCurve(layout, graph.nodes, edge.from, edge.to, edge.input));
    points = [];
    kept = new Uint8Array(graph.edges.length).fill(1);
    count();
    svg = svgMake("svg", { width: layout.width, height: layout.height, viewBox: `0 0 ${layout.width} ${layout.height}` });
    const lines = [];
    for (let j = graph.edges.length - 1; j >= 0; j--) {
      const [edge, c] = [graph.edges[j], curves[j]];
      lines.push(`<path class="iw-e iw-e-${edge.tone}${edge.input ? ` iw-e-${edge.input}` : ""}" stroke-width="${
        edge.width.toFixed(2)}" d="M${c[0].toFixed(1)} ${c[1].toFixed(1)}C${c[2].toFixed(1)} ${c[3].toFixed(1)} ${
        c[4].toFixed(1)} ${c[5].toFixed(1)} ${c[6].toFixed(1)} ${c[7].toFixed(1)}"${
        edge.tone === "neg" ? ` marker-end="url(#${link.id}-bar)"` : ""}/>`);
    }
    const dots = [];
    if (layout.roomy) {
      graph.heads.forEach((count, layer) => {
        const y = layout.rowY.get(layer + (graph.base ?? 0));
        if (y === undefined || !graph.nodes.some((node) => Math.floor(node.row) === layer + (graph.base ?? 0))) return;
        for (let head = 0; head < count; head++) dots.push(`<circle cx="${layout.slotX(head).toFixed(1)}" cy="${y.toFixed(1)}" r="2"/>`);
      });
    }
    svg.innerHTML = `<defs><marker id="${link.id}-bar" class="iw-bar-end" markerUnits="userSpaceOnUse" markerWidth="4" markerHeight="12" refX="2" refY="6" orient="auto"><path d="M2 0V12"/></marker></defs><g class="iw-dots">${dots.join("")}</g><path class="iw-e-picked"/><g class="iw-es">${lines.join("")}</g>`;
    picked = svg.querySelector(".iw-e-picked");
    paths = [...svg.querySelector(".iw-es").children].reverse();
    const names = svgMake("g", { class: "iw-rows", "aria-hidden": "true" });
    for (const [row, y] of layout.rowY) {
      const layer = row - (graph.base ?? 0);
      if (layer >= 0 && layer < graph.heads.length && graph.nodes.some((node) => Math.floor(node.row) === row)) {
        names.append(svgMake("text", { x: Math.max(6, layout.start - 40), y: y + 4 }, `L${layer}`));
      }
    }
    rings = svgMake("g", { class: "iw-rings" });
    const group = svgMake("g", {});
    places = graph.nodes.map((node, i) => {
      const part = svgMake("g", { class: `iw-n iw-n-${node.kind}`, id: `${link.id}-n${i}`, role: "img", "aria-label": acts.node(i),
        transform: `translate(${layout.xs[i].toFixed(1)} ${layout.ys[i].toFixed(1)})` });
      const [w, h] = sizeOf(node);
      const own = node.fill ? { style: `fill:${node.fill}` } : {};
      part.append(node.kind === "head" ? svgMake("circle", { r: NODE, ...own })
        : svgMake("rect", { x: -w, y: -h, width: 2 * w, height: 2 * h, rx: node.kind === "mlp" ? 2 : 12, ...own }));
      const short = shortName(node);
      part.append(svgMake("text", { y: 4, class: short.length > 4 ? "iw-tight" : "", ...(node.ink ? { style: `fill:${node.ink}` } : {}) }, short));
      if (node.under) part.append(svgMake("text", { class: "iw-under", y: NODE + 13 }, node.under));
      return part;
    });
    group.append(...places);
    svg.append(names, rings, group);
    stage.replaceChildren(svg);
    cursor = pointed = null;
    lit = [];
  }

  /** Show the edges that `test` accepts, and the nodes that they join; nodes marked `always` too. */
  function keep(test) {
    const seen = new Uint8Array(graph.nodes.length);
    graph.nodes.forEach((node, i) => {
      if (node.always) seen[i] = 1;
    });
    for (let j = 0; j < kept.length; j++) {
      const now = test(j) ? 1 : 0;
      if (now !== kept[j]) paths[j].style.display = now ? "" : "none";
      kept[j] = now;
      if (now) seen[graph.edges[j].from] = seen[graph.edges[j].to] = 1;
    }
    count();
    places.forEach((part, i) => {
      part.style.display = seen[i] ? "" : "none";
      graph.nodes[i].seen = !!seen[i];
    });
    if (cursor && !(cursor.edge === undefined ? seen[cursor.node] : kept[cursor.edge])) cursor = null;
    mark();
  }

  /** How many kept edges lead into and out of each node. */
  function count() {
    degrees = graph.nodes.map(() => [0, 0]);
    graph.edges.forEach((edge, j) => {
      if (!kept[j]) return;
      degrees[edge.to][0] += 1;
      degrees[edge.from][1] += 1;
    });
  }

  const around = (i, side) => {
    const out = [];
    for (let j = 0; j < kept.length; j++) if (kept[j] && graph.edges[j][side] === i) out.push(j);
    return out;
  };
  const nodeOf = (head) => graph.nodes.findIndex((node) => node.kind === "head" && node.layer === head[0] && node.head === head[1]
    && node.attention === (link.header.attention ?? "self"));

  /** Light what is pointed at, has the cursor or is looked at elsewhere, dim the rest; ring what is selected. */
  function mark() {
    if (!svg) return;
    const focused = stage === document.activeElement || stage.getRootNode().activeElement === stage;
    const hover = link.get("hover");
    const elsewhere = hover?.length === 2 ? nodeOf(hover) : -1;
    const at = pointed ?? (elsewhere >= 0 ? { node: elsewhere } : null) ?? (focused ? cursor : null);
    for (const part of lit) part.classList.remove("iw-lit");
    lit = [];
    svg.classList.toggle("iw-dim", !!at);
    const light = (part) => {
      part.classList.add("iw-lit");
      lit.push(part);
    };
    if (at) {
      const some = at.edge === undefined ? [...around(at.node, "from"), ...around(at.node, "to")] : [at.edge];
      if (at.edge === undefined) light(places[at.node]);
      for (const j of some) {
        light(paths[j]);
        for (const i of [graph.edges[j].from, graph.edges[j].to]) if (!places[i].classList.contains("iw-lit")) light(places[i]);
      }
    }
    const ring = (i, kind) => {
      const [w, h] = sizeOf(graph.nodes[i]).map((half) => half + 4);
      return svgMake("rect", { class: kind, x: layout.xs[i] - w, y: layout.ys[i] - h, width: 2 * w, height: 2 * h,
        rx: graph.nodes[i].kind === "mlp" ? 4 : h });
    };
    const chosen = (link.get("sel") ?? []).map(nodeOf).filter((i) => i >= 0 && graph.nodes[i].seen);
    const parts = chosen.flatMap((i) => [ring(i, "iw-halo-ring"), ring(i, "iw-chosen")]);
    if (focused && cursor && cursor.edge === undefined) parts.push(ring(cursor.node, "iw-cursor-ring"));
    rings.replaceChildren(...parts);
    const name = edgeKey(link.get("edge") ?? "");
    const j = name ? graph.edges.findIndex((edge) => edge.name === name) : -1;
    const line = j >= 0 && kept[j] ? paths[j] : null;
    picked.setAttribute("d", line?.getAttribute("d") ?? "");
    picked.setAttribute("stroke-width", line ? Number(line.getAttribute("stroke-width")) + 7 : 0);
  }

  function under(event) {
    const box = stage.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let best = null;
    let least = 18 ** 2;
    graph.nodes.forEach((node, i) => {
      if (!node.seen) return;
      const [w] = sizeOf(node);
      const dx = Math.max(0, Math.abs(x - layout.xs[i]) - (w - NODE));
      const far = dx ** 2 + (y - layout.ys[i]) ** 2;
      if (far < least) [least, best] = [far, { node: i }];
    });
    if (best) return best;
    least = NEAR ** 2;
    for (let j = 0; j < kept.length; j++) {
      if (!kept[j]) continue;
      points[j] ??= along(curves[j]);
      const far = distance(points[j], x, y);
      if (far < least) [least, best] = [far, { edge: j }];
    }
    return best;
  }

  const told = (at) => (at.edge === undefined ? acts.node(at.node) : acts.edge(at.edge));
  const headOf = (at) => {
    const node = at && at.edge === undefined ? graph.nodes[at.node] : null;
    return node?.kind === "head" && node.attention === (link.header.attention ?? "self") ? [node.layer, node.head] : [];
  };

  stage.addEventListener("pointermove", (event) => {
    const at = under(event);
    link.point(event, at ? told(at) : "");
    stage.style.cursor = at ? "pointer" : "";
    if (at?.node === pointed?.node && at?.edge === pointed?.edge) return;
    pointed = at;
    link.set({ hover: headOf(at) }, true);
    mark();
  });
  stage.addEventListener("pointerleave", (event) => {
    pointed = null;
    link.point(event, "");
    link.set({ hover: [] }, true);
    mark();
  });
  stage.addEventListener("click", (event) => {
    const at = under(event);
    if (!at) return;
    cursor = at;
    act(at, event.ctrlKey || event.metaKey || event.shiftKey);
  });
  stage.addEventListener("focus", mark);
  stage.addEventListener("blur", () => {
    link.set({ hover: [] }, true);
    mark();
  });

  function act(at, add) {
    if (at.edge === undefined) acts.pickNode(at.node, add);
    else acts.pickEdge(at.edge);
    link.say(`${told(at)}; selected`);
    mark();
  }

  function moveTo(at) {
    cursor = at;
    const part = at.edge === undefined ? places[at.node] : paths[at.edge];
    part.id ||= `${link.id}-e${at.edge}`;
    part.setAttribute("role", "img");
    part.setAttribute("aria-label", told(at));
    stage.setAttribute("aria-activedescendant", part.id);
    const place = at.edge === undefined ? at.node : at.up ? graph.edges[at.edge].to : graph.edges[at.edge].from;
    const [x, y] = [layout.xs[place], layout.ys[place]];
    if (y - 40 < scroll.scrollTop) scroll.scrollTop = y - 40;
    if (y + 40 > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = y + 40 - scroll.clientHeight;
    if (x - 60 < scroll.scrollLeft) scroll.scrollLeft = x - 60;
    if (x + 60 > scroll.scrollLeft + scroll.clientWidth) scroll.scrollLeft = x + 60 - scroll.clientWidth;
    const more = at.list ? `; ${at.list.indexOf(at.edge) + 1} of ${at.list.length} ${at.up ? "out of" : "into"} ${graph.nodes[at.from].name}` : "";
    link.say(told(at) + more);
    link.set({ hover: headOf(at) }, true);
    mark();
  }

  /** Where a key leads: along edges up and down, among a node's edges or a row's nodes left and right. */
  function walked(at, key) {
    const order = graph.nodes.map((_, i) => i).filter((i) => graph.nodes[i].seen);
    if (!order.length) return null;
    if (!at) return { node: order[0] };
    const turn = { ArrowLeft: -1, ArrowRight: 1 }[key];
    if (at.edge !== undefined) {
      const list = at.list ?? [at.edge];
      if (turn) return { ...at, list, edge: list[(list.indexOf(at.edge) + turn + list.length) % list.length] };
      if (key === "ArrowUp") return { node: graph.edges[at.edge].to };
      if (key === "ArrowDown") return { node: graph.edges[at.edge].from };
    } else if (key === "ArrowUp" || key === "ArrowDown") {
      const list = around(at.node, key === "ArrowUp" ? "from" : "to");
      return list.length ? { edge: list[0], list, from: at.node, up: key === "ArrowUp" } : at;
    } else if (turn) return { node: order[Math.max(0, Math.min(order.length - 1, order.indexOf(at.node) + turn))] };
    if (key === "Home") return { node: order[0] };
    if (key === "End") return { node: order[order.length - 1] };
    return null;
  }

  stage.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const to = walked(cursor, event.key);
    if (to && /^(Arrow|Home|End)/.test(event.key)) moveTo(to);
    else if ((event.key === "Enter" || event.key === " ") && cursor) act(cursor, event.key === " ");
    else if (event.key === "Escape") {
      cursor = null;
      link.set({ sel: [], edge: "" });
      link.say("nothing selected");
      mark();
    } else if (!acts.key?.(event)) return;
    event.preventDefault();
  });
  link.drawn(["sel", "hover", "edge"], mark);
  return { show, keep, mark, isKept: (j) => kept[j] === 1, degree: (i) => degrees[i], stage };
}

/** The head of a node, or null for what is none that the state knows. */
export const headAt = (link, node) => (node.kind === "head" && node.attention === (link.header.attention ?? "self")
  ? [node.layer, node.head] : null);

/** Select an edge everywhere: its name, and the heads at its ends. */
export function chooseEdge(link, graph, edge) {
  const ends = [edge.from, edge.to].map((i) => headAt(link, graph.nodes[i])).filter(Boolean);
  link.set({ edge: edge.name, ...(ends.length ? { sel: ends } : {}) });
}

/** Nodes and edges of a payload as objects, edges with their names. */
export function readGraph(data) {
  const nodes = data.nodes.map((node) => ({ ...node }));
  const edges = data.edges.map(([from, to, input, score, low, high]) => ({ from, to, input, score, low, high,
    name: `${nodes[from].name}->${nodes[to].name}${input ? `<${input}>` : ""}` }));
  const touched = new Set(edges.flatMap(({ from, to }) => [from, to]));
  nodes.forEach((node, i) => {
    node.always = !touched.has(i);
  });
  const first = nodes.find((node) => node.layer !== null && !["encoder", "vision"].includes(node.attention));
  return { nodes, edges, heads: data.heads, base: first ? Math.floor(first.row) - first.layer : 0 };
}

/** What an edge's line says of where it enters: a sample for the legend. */
export function inputSample(input) {
  const svg = svgMake("svg", { class: "iw-sample", width: 44, height: 26, "aria-hidden": "true" });
  const [dx, dy] = PORTS[input];
  const [x, y] = [30 + dx * 8, 9 + dy * 8];
  const path = svgMake("path", { class: `iw-e iw-e-${input} iw-e-none`, "stroke-width": 2,
    d: `M2 25C10 ${input === "q" ? 12 : 25} ${x + dx * 8} ${y + 9} ${x} ${y}` });
  svg.append(path, svgMake("circle", { cx: 30, cy: 9, r: 8 }));
  return svg;
}
