// The head scatter: a dot for each head by two metrics; a drawn rectangle, or arrows and Space, select heads everywhere.

import { css, headName, metricColour, metricLimit, mix, number } from "../core.js";
import { fit, make } from "../base.js";
import { axisScale, divided, nearestPoint, neighbour, outermost, placedNames, spearman, typicalSize,
  withinBox } from "../plane.js";

export const scatterTitle = "Scatter";

const LEFT = 62;
const BELOW = 44;
const ABOVE = 12;
const RIGHT = 14;
const NEAR = 30;
const LISTED = 300;
const NAMED = 14;
const CROSSES = 60;
const LAYER = "layer";
const ORDERED = {
  light: ["#440154", "#414487", "#2A788E", "#22A884", "#7AD151"],
  dark: ["#7E6BD0", "#4C86C6", "#2BA8A0", "#73D055", "#FDE725"],
};

export function scatterPanel(link, root) {
  const base = make("canvas");
  const over = make("canvas", { class: "iw-over" });
  const stage = make("div", { class: "iw-stage iw-scatter-stage", role: "application", tabindex: "0",
    "aria-roledescription": "head scatter", "aria-label": "heads by two metrics" }, base, over);
  const found = make("div", { class: "iw-scatter-found" });
  const groups = make("div", { class: "iw-scatter-groups" });
  const legend = make("div", { class: "iw-legend iw-scatter-legend" });
  const chosenLine = make("p", { class: "iw-fine" });
  const bench = make("div", { class: "iw-scatter-bench" }, make("div", { class: "iw-scatter-plot" }, stage, legend),
    make("div", { class: "iw-scatter-aside" }, found, groups, chosenLine));
  const note = make("p", { class: "iw-note", hidden: true });
  const table = make("div", { class: "iw-table", hidden: true });
  const listed = make("button", { type: "button", "aria-expanded": "false" }, "Table");
  const picks = Object.fromEntries(["x", "y", "colour"].map((name) => [name, make("select", { "aria-label": name })]));
  const crosses = make("select", { "aria-label": "Intervals" }, make("option", { value: "sel" }, "of selected heads"),
    make("option", { value: "all" }, "of all heads"));
  const labelled = (text, select) => make("label", { class: "iw-choice" }, make("span", {}, text), select);
  const crossBox = labelled("Intervals", crosses);
  const swap = make("button", { type: "button", title: "exchange x and y" }, "Swap x and y");
  root.append(make("div", { class: "iw-tools" }, labelled("x", picks.x), labelled("y", picks.y), labelled("Colour", picks.colour),
    crossBox, swap, listed), note, bench, table);

  let seen = null;
  let asked = { x: null, y: null, colour: null };
  let plot = null;
  let cursor = -1;
  let brush = null;
  let preview = null;

  const heads = () => link.header.heads;
  const key = (head) => `${head[0]}.${head[1]}`;
  const chosen = () => link.get("sel") ?? [];
  const nameOf = (dot) => headName(link.header.layers[dot.head[0]], dot.head[1], link.header.attention);

  /** The state's metrics and those that came with the scatter; of one name the state's. */
  function metrics() {
    const floats = (list) => Float64Array.from(list, (value) => (value === null ? NaN : value));
    const known = new Set(link.metrics.map((one) => one.name));
    const own = (link.payload("scatter")?.metrics ?? []).filter((one) => !known.has(one.name));
    const read = (one) => ({ ...one, mean: floats(one.mean), low: floats(one.low), high: floats(one.high) });
    return [...link.metrics, ...own.map(read)];
  }

  /** The layers as a metric, for an axis or the colours. */
  function depth() {
    const size = heads().length * link.header.across;
    const nothing = new Float32Array(size).fill(NaN);
    const mean = Float32Array.from({ length: size }, (_, at) => link.header.layers[Math.floor(at / link.header.across)]);
    return { name: LAYER, unit: "", note: "", signed: false, mean, low: nothing, high: nothing, whole: true };
  }

  function choose() {
    const all = metrics();
    const payload = link.payload("scatter") ?? {};
    if (payload !== seen) {
      seen = payload;
      asked = { x: payload.x, y: payload.y, colour: payload.colour };
    }
    const names = [...all.map((one) => one.name), LAYER];
    if (!names.includes(asked.x)) asked.x = names.length > 2 ? names[0] : LAYER;
    if (!names.includes(asked.y)) asked.y = names.find((name) => name !== asked.x) ?? LAYER;
    if (!names.includes(asked.colour)) asked.colour = LAYER;
    for (const [axis, select] of Object.entries(picks)) {
      select.replaceChildren(...names.map((name) => make("option", { value: name }, name)));
      select.value = asked[axis];
    }
    const metric = (name) => all.find((one) => one.name === name) ?? depth();
    return { all, x: metric(asked.x), y: metric(asked.y), colour: metric(asked.colour) };
  }

  function draw() {
    const { all, x, y, colour } = choose();
    const dots = [];
    let without = 0;
    heads().forEach((count, layer) => {
      for (let head = 0; head < count; head++) {
        const at = layer * link.header.across + head;
        const [vx, vy] = [x.mean[at], y.mean[at]];
        if (Number.isFinite(vx) && Number.isFinite(vy)) dots.push({ head: [layer, head], at, vx, vy });
        else without += 1;
      }
    });
    const empty = !all.length ? "No metric was given: a scatter needs scores of heads."
      : !dots.length ? "No head has both values." : "";
    note.hidden = !empty;
    note.textContent = empty;
    bench.hidden = !!empty;
    listed.hidden = !!empty;
    if (empty) {
      plot = null;
      table.hidden = true;
      return;
    }
    const room = root.clientWidth || 640;
    const beside = room >= 800;
    bench.classList.toggle("iw-scatter-wide", beside);
    const width = Math.max(240, Math.min(beside ? room - 320 : room - 6, 820));
    const height = Math.max(260, Math.min(480, Math.round(width * 0.66)));
    plot = { x, y, colour, dots, without, width, height, right: width - RIGHT, bottom: height - BELOW,
      sx: axisScale(x, dots.map((dot) => dot.vx), LEFT, width - RIGHT),
      sy: axisScale(y, dots.map((dot) => dot.vy), height - BELOW, ABOVE),
      size: dots.length <= 240 ? 5 : dots.length <= 1200 ? 3.5 : 2.5, limit: metricLimit(colour.mean) };
    for (const dot of dots) [dot.px, dot.py] = [plot.sx.to(dot.vx), plot.sy.to(dot.vy)];
    plot.known = new Map(dots.map((dot, i) => [key(dot.head), i]));
    if (cursor >= dots.length) cursor = -1;
    crossBox.hidden = ![...x.low, ...y.low].some(Number.isFinite);
    paint();
    divide();
    tell();
    explain();
    place();
    drawOver();
    if (!table.hidden) list();
  }

  const colourOf = (dot) => {
    const value = plot.colour.mean[dot.at];
    if (!Number.isFinite(value)) return null;
    if (plot.colour.whole) return mix(ORDERED[link.theme], dot.head[0] / Math.max(1, heads().length - 1));
    return metricColour(value, plot.limit, plot.colour.signed, link.palette);
  };

  function paint() {
    const styles = getComputedStyle(link.root);
    const pen = fit(base, plot.width, plot.height);
    stage.style.width = `${plot.width}px`;
    const { sx, sy, right, bottom } = plot;
    const line = (x0, y0, x1, y1) => {
      pen.beginPath();
      pen.moveTo(x0, y0);
      pen.lineTo(x1, y1);
      pen.stroke();
    };
    pen.lineWidth = 1;
    pen.font = "11px system-ui, sans-serif";
    pen.fillStyle = styles.getPropertyValue("--iw-muted");
    const zero = (value, metric) => value === 0 && metric.signed;
    pen.textAlign = "center";
    pen.textBaseline = "top";
    for (const value of sx.ticks) {
      const at = Math.round(sx.to(value)) + 0.5;
      pen.strokeStyle = styles.getPropertyValue(zero(value, plot.x) ? "--iw-hatch" : "--iw-faint");
      line(at, ABOVE, at, bottom);
      pen.fillText(sx.text(value), at, bottom + 6);
    }
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (const value of sy.ticks) {
      const at = Math.round(sy.to(value)) + 0.5;
      pen.strokeStyle = styles.getPropertyValue(zero(value, plot.y) ? "--iw-hatch" : "--iw-faint");
      line(LEFT, at, right, at);
      pen.fillText(sy.text(value), LEFT - 7, at);
    }
    pen.strokeStyle = styles.getPropertyValue("--iw-rule");
    pen.strokeRect(LEFT + 0.5, ABOVE + 0.5, right - LEFT - 1, bottom - ABOVE - 1);
    pen.setLineDash([4, 4]);
    pen.strokeStyle = styles.getPropertyValue("--iw-muted");
    for (const value of bounds(plot.x, "vx")) line(Math.round(sx.to(value)) + 0.5, ABOVE, Math.round(sx.to(value)) + 0.5, bottom);
    for (const value of bounds(plot.y, "vy")) line(LEFT, Math.round(sy.to(value)) + 0.5, right, Math.round(sy.to(value)) + 0.5);
    pen.setLineDash([]);
    pen.fillStyle = styles.getPropertyValue("--iw-text");
    pen.font = "12px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.textBaseline = "alphabetic";
    const called = (metric, most) => cut(metric.name + (metric.unit ? ` (${metric.unit})` : ""), most / 6.3);
    pen.fillText(called(plot.x, right - LEFT), (LEFT + right) / 2, plot.height - 8);
    pen.save();
    pen.translate(14, (ABOVE + bottom) / 2);
    pen.rotate(-Math.PI / 2);
    pen.fillText(called(plot.y, bottom - ABOVE), 0, 0);
    pen.restore();
    const rim = styles.getPropertyValue("--iw-muted");
    for (const dot of plot.dots) {
      const colour = colourOf(dot);
      pen.beginPath();
      pen.arc(dot.px, dot.py, plot.size, 0, 7);
      pen.fillStyle = colour ? css(colour) : styles.getPropertyValue("--iw-paper");
      pen.fill();
      pen.lineWidth = 0.8;
      pen.strokeStyle = rim;
      pen.stroke();
    }
  }

  const cut = (text, most) => (text.length > most ? `${text.slice(0, Math.max(1, most - 1))}…` : text);

  /** The lines between small and large: the mean magnitude, on both sides of zero where a metric has both signs. */
  function bounds(metric, name) {
    if (metric.whole || plot.dots.length < 3) return [];
    const large = typicalSize(plot.dots.map((dot) => dot[name]));
    const below = plot.dots.some((dot) => dot[name] < -large);
    return [...(plot.dots.some((dot) => dot[name] > large) ? [large] : []), ...(below ? [-large] : [])];
  }

  /** Heads that are large in both metrics, or in one alone: how many, and a click selects them. */
  function divide() {
    groups.replaceChildren();
    const { x, y, dots } = plot;
    if (x.whole || y.whole || x === y || dots.length < 3) return;
    const parts = divided(dots);
    const zero = (metric) => (dot) => metric.signed && metric.low[dot.at] <= 0 && metric.high[dot.at] >= 0;
    const row = (list, text, unsure, metric) => {
      const crossing = metric?.signed && metric.low.some(Number.isFinite) ? list.filter(unsure).length : null;
      const detail = crossing === null || !list.length ? "" : `; for ${crossing} of them the interval there includes zero`;
      const button = make("button", { type: "button", disabled: !list.length, title: "select these heads everywhere" },
        make("strong", {}, `${list.length}`), ` ${text}${detail}`);
      button.addEventListener("click", () => pick(list, false));
      for (const [event, shown] of [["pointerenter", list], ["focus", list], ["pointerleave", null], ["blur", null]]) {
        button.addEventListener(event, () => {
          preview = shown;
          drawOver();
        });
      }
      return button;
    };
    const [nx, ny] = [cut(x.name, 40), cut(y.name, 40)];
    groups.append(
      make("p", { class: "iw-fine" }, "Large: beyond the dashed lines, the mean magnitude over heads. A head that attends but does "
        + "not matter is large in the attention and small in the effect."),
      row(parts.both, "large in both", zero(y), null),
      row(parts.x, `large in ${nx}, small in ${ny}`, zero(y), y),
      row(parts.y, `large in ${ny}, small in ${nx}`, zero(x), x));
  }

  function tell() {
    const { x, y, dots, without } = plot;
    const rho = spearman(dots.map((dot) => dot.vx), dots.map((dot) => dot.vy));
    const pairs = link.payload("scatter")?.pairs ?? [];
    const pair = pairs.find(({ names }) => names.includes(x.name) && names.includes(y.name) && x.name !== y.name);
    const n = `${dots.length} head${dots.length === 1 ? "" : "s"}`;
    const known = pair && Number.isFinite(pair.low ?? NaN);
    const fixed = (value) => (Object.is(Number(value.toFixed(2)), -0) ? "0.00" : value.toFixed(2).replace("-", "−"));
    const parts = Number.isFinite(rho)
      ? [make("strong", {}, `Spearman ρ = ${fixed(rho)}`), known ? ` [${fixed(pair.low)}, ${fixed(pair.high)}]` : "", ` over ${n}`]
      : [make("strong", {}, n), dots.length > 2 ? "; all of one value: no rank correlation" : "; too few for a rank correlation"];
    const why = !Number.isFinite(rho) ? "" : known ? `95 % interval over prompts${pair.paired ? "" : ", resampled apart"}`
      : pair?.why ? `no interval: ${pair.why}` : "over heads; no interval over prompts is known for this pair";
    found.replaceChildren(make("p", { class: "iw-scatter-rho" }, ...parts),
      make("p", { class: "iw-fine" }, [why, without ? `${without} heads lack a value` : ""].filter(Boolean).join("; ")));
    stage.setAttribute("aria-label", `${n} by ${x.name} (x) and ${y.name} (y); arrows go to the nearest head, Space adds it`);
  }

  function explain() {
    const { colour } = plot;
    const parts = [];
    const ramp = (stops) => `background:linear-gradient(90deg,${stops.join(",")})`;
    const bar = (stops) => make("i", { class: "iw-bar iw-scatter-bar", style: ramp(stops) });
    const layers = link.header.layers;
    if (colour.whole && heads().length === 1) parts.push(make("span", {}, `layer ${layers[0]}`));
    else if (colour.whole) {
      parts.push(make("span", {}, `colour: layer ${layers[0]}`, bar(ORDERED[link.theme]), `${layers[layers.length - 1]}`));
    } else {
      const stops = colour.signed ? [...link.palette.negative].reverse().concat(link.palette.positive) : link.palette.attention;
      parts.push(make("span", {}, `colour: ${colour.name} `, colour.signed ? number(-plot.limit) : "0", bar(stops),
        number(plot.limit), colour.unit ? ` ${colour.unit}` : "", colour.signed ? ", blue is positive" : ""));
      if (plot.dots.some((dot) => !Number.isFinite(colour.mean[dot.at]))) parts.push(make("span", {}, "hollow: no value"));
    }
    const notes = new Map();
    for (const [axis, { note: text }] of [["x", plot.x], ["y", plot.y]]) {
      if (text) notes.set(text, [...(notes.get(text) ?? []), axis]);
    }
    for (const [text, axes] of notes) parts.push(make("span", {}, `${axes.join(" and ")}: ${text}`));
    if (!crossBox.hidden) parts.push(make("span", {}, "crosses: 95 % intervals"));
    parts.push(make("span", {}, "drag to select, Shift adds"));
    legend.replaceChildren(...parts);
  }

  /** Names of the selected and the outermost heads, where there is room for them. */
  function place() {
    if (!plot) return;
    const { dots, size, right, bottom } = plot;
    const picked = new Set(chosen().map(key));
    const pen = over.getContext("2d");
    pen.font = "11px system-ui, sans-serif";
    const wanted = outermost(dots, (dot) => picked.has(key(dot.head))).slice(0, 60 + picked.size)
      .filter(({ own, far }) => own || far >= 1.5 || dots.length <= 20)
      .map(({ point, own }) => ({ point, own, text: nameOf(point), wide: pen.measureText(nameOf(point)).width + (own ? 5 : 0) }));
    const frame = { left: LEFT, top: ABOVE, right, bottom };
    plot.names = placedNames(wanted, dots, size, frame, Math.max(NAMED, Math.min(picked.size, 30)));
  }

  function drawOver() {
    if (!plot) return;
    const pen = fit(over, plot.width, plot.height);
    const styles = getComputedStyle(link.root);
    const [text, halo] = ["--iw-text", "--iw-halo"].map((name) => styles.getPropertyValue(name));
    const picked = chosen().map((head) => plot.known.get(key(head))).filter((i) => i !== undefined);
    const hover = link.get("hover");
    const hovered = hover?.length === 2 ? plot.known.get(key(hover)) ?? -1 : -1;
    pen.save();
    pen.beginPath();
    pen.rect(LEFT, ABOVE, plot.right - LEFT, plot.bottom - ABOVE);
    pen.clip();
    const crossed = crosses.value === "all" && !crossBox.hidden ? plot.dots.map((_, i) => i) : picked.slice(-CROSSES);
    pen.globalAlpha = crosses.value === "all" && crossed.length > 40 ? 0.45 : 1;
    for (const i of crossed) cross(pen, plot.dots[i], text);
    pen.globalAlpha = 1;
    if (hovered >= 0) cross(pen, plot.dots[hovered], text);
    pen.restore();
    const ring = (i, colour, width) => {
      const { px, py } = plot.dots[i];
      for (const [w, c] of [[width + 2, halo], [width, colour]]) {
        pen.beginPath();
        pen.arc(px, py, plot.size + 2, 0, 7);
        pen.lineWidth = w;
        pen.strokeStyle = c;
        pen.stroke();
      }
    };
    const inside = brush?.on ? within(brush) : preview ?? [];
    for (const dot of inside) ring(plot.known.get(key(dot.head)), text, 1);
    for (const i of picked) ring(i, link.palette.ring, 2);
    if (hovered >= 0) ring(hovered, text, 1.5);
    pen.textAlign = "left";
    pen.textBaseline = "middle";
    pen.lineJoin = "round";
    for (const one of plot.names ?? []) write(pen, one.text, one.x, one.y + 6, one.own, styles);
    if (hovered >= 0 && !(plot.names ?? []).some((one) => one.point === plot.dots[hovered])) {
      const dot = plot.dots[hovered];
      const wide = pen.measureText(nameOf(dot)).width;
      const x = dot.px + plot.size + 5 + wide > plot.right ? dot.px - plot.size - 5 - wide : dot.px + plot.size + 5;
      write(pen, nameOf(dot), x, dot.py, true, styles);
    }
    if (brush?.on) {
      const [x, y] = [Math.min(brush.x0, brush.x1), Math.min(brush.y0, brush.y1)];
      const [w, h] = [Math.abs(brush.x1 - brush.x0), Math.abs(brush.y1 - brush.y0)];
      pen.fillStyle = styles.getPropertyValue("--iw-focus");
      pen.globalAlpha = 0.12;
      pen.fillRect(x, y, w, h);
      pen.globalAlpha = 1;
      pen.strokeStyle = styles.getPropertyValue("--iw-focus");
      pen.lineWidth = 1;
      pen.strokeRect(x + 0.5, y + 0.5, w, h);
    }
    const called = chosen().slice(0, 24).map((head) => nameOf({ head })).join(", ");
    const more = chosen().length > 24 ? ` and ${chosen().length - 24} more` : "";
    chosenLine.textContent = called ? `Selected: ${called}${more}` : "No head is selected.";
  }

  function write(pen, text, x, y, strong, styles) {
    pen.font = `${strong ? "650 " : ""}11px system-ui, sans-serif`;
    pen.lineWidth = 3;
    pen.strokeStyle = styles.getPropertyValue("--iw-paper");
    pen.strokeText(text, x, y);
    pen.fillStyle = styles.getPropertyValue("--iw-text");
    pen.fillText(text, x, y);
  }

  function cross(pen, dot, colour) {
    const { x, y, sx, sy } = plot;
    pen.strokeStyle = colour;
    pen.lineWidth = 1;
    pen.beginPath();
    if (Number.isFinite(x.low[dot.at])) {
      pen.moveTo(sx.to(x.low[dot.at]), dot.py);
      pen.lineTo(sx.to(x.high[dot.at]), dot.py);
    }
    if (Number.isFinite(y.low[dot.at])) {
      pen.moveTo(dot.px, sy.to(y.low[dot.at]));
      pen.lineTo(dot.px, sy.to(y.high[dot.at]));
    }
    pen.stroke();
  }

  const told = (metric, at) => {
    const interval = Number.isFinite(metric.low[at]) ? ` (${number(metric.low[at])} to ${number(metric.high[at])})` : "";
    return `${metric.name} ${number(metric.mean[at])}${interval}`;
  };

  function sentence(dot) {
    const third = plot.colour !== plot.x && plot.colour !== plot.y && !plot.colour.whole ? [told(plot.colour, dot.at)] : [];
    return [nameOf(dot), told(plot.x, dot.at), told(plot.y, dot.at), ...third].join("; ");
  }

  function pick(list, add) {
    const now = add ? chosen().map((head) => [...head]) : [];
    const taken = new Set(now.map(key));
    link.set({ sel: [...now, ...list.map((dot) => [...dot.head]).filter((head) => !taken.has(key(head)))] });
    link.say(`${chosen().length} head${chosen().length === 1 ? "" : "s"} selected`);
  }

  const within = (box) => withinBox(plot.dots, box);

  function look(i) {
    cursor = i;
    link.set({ hover: i >= 0 ? [...plot.dots[i].head] : [] }, true);
    drawOver();
  }

  const point = (event) => {
    const box = stage.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  stage.addEventListener("pointerdown", (event) => {
    if (!plot || event.button !== 0 || event.pointerType === "touch") return;
    const [x, y] = point(event);
    brush = { x0: x, y0: y, x1: x, y1: y, on: false };
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    if (!plot) return;
    const [x, y] = point(event);
    if (brush) {
      [brush.x1, brush.y1] = [Math.max(LEFT, Math.min(plot.right, x)), Math.max(ABOVE, Math.min(plot.bottom, y))];
      brush.on = brush.on || Math.hypot(x - brush.x0, y - brush.y0) > 5;
      if (brush.on) {
        link.point(event, `${within(brush).length} heads`);
        drawOver();
        return;
      }
    }
    const i = nearestPoint(plot.dots, x, y, NEAR);
    if (i !== cursor) look(i);
    link.point(event, i >= 0 ? sentence(plot.dots[i]) : "");
  });
  stage.addEventListener("pointerup", (event) => {
    const done = brush;
    brush = null;
    if (!plot || event.button !== 0) return;
    const add = event.shiftKey || event.ctrlKey || event.metaKey;
    link.point(event, "");
    if (done?.on) {
      pick(within(done), add);
      drawOver();
      return;
    }
    const i = nearestPoint(plot.dots, ...point(event), NEAR);
    if (i < 0) return;
    link.choose([...plot.dots[i].head], add);
    link.say(`${sentence(plot.dots[i])}; ${isChosen(i) ? "selected" : "no longer selected"}`);
  });
  stage.addEventListener("pointercancel", () => {
    brush = null;
    drawOver();
  });
  stage.addEventListener("pointerleave", (event) => {
    if (brush || !plot) return;
    look(-1);
    link.point(event, "");
  });
  stage.addEventListener("blur", () => plot && look(-1));

  const isChosen = (i) => chosen().some((head) => key(head) === key(plot.dots[i].head));
  stage.addEventListener("keydown", (event) => {
    if (!plot || event.ctrlKey || event.metaKey || event.altKey) return;
    const last = chosen().map((head) => plot.known.get(key(head))).filter((i) => i !== undefined).pop();
    const sorted = () => plot.dots.map((_, i) => i).sort((a, b) => plot.dots[a].vx - plot.dots[b].vx || a - b);
    const from = cursor >= 0 ? cursor : last ?? sorted().at(-1);
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const by = { "[": -1, "]": 1, Home: -Infinity, End: Infinity }[event.key];
    if (way || by) {
      const order = by ? sorted() : [];
      const next = Math.max(0, Math.min(order.length - 1, order.indexOf(from) + by));
      const to = by ? order[next] : cursor < 0 ? from : neighbour(plot.dots, from, way);
      look(to);
      link.say(sentence(plot.dots[to]));
    } else if (event.key === "Enter" || event.key === " ") {
      link.choose([...plot.dots[from].head], event.key === " ");
      look(from);
      link.say(`${sentence(plot.dots[from])}; ${isChosen(from) ? "selected" : "no longer selected"}`);
    } else if (event.key === "Escape") {
      brush = null;
      look(-1);
      link.set({ sel: [] });
      link.say("nothing selected");
    } else return;
    event.preventDefault();
  });

  function list() {
    const { x, y, colour } = plot;
    const shown = [x, y, ...(colour.whole || colour === x || colour === y ? [] : [colour])];
    const sorted = [...plot.dots].sort((a, b) => Math.abs(b.vy) - Math.abs(a.vy));
    const ends = ({ low, high }, at) => (Number.isFinite(low[at]) ? `${number(low[at])} to ${number(high[at])}` : "–");
    const body = sorted.slice(0, LISTED).map((dot) => make("tr", {},
      make("th", { scope: "row" }, make("button", { type: "button", onclick: () => link.choose([...dot.head]) }, nameOf(dot))),
      ...shown.flatMap((metric) => [make("td", {}, number(metric.mean[dot.at])), make("td", {}, ends(metric, dot.at))])));
    const more = sorted.length > LISTED ? `, the first ${LISTED} of ${sorted.length}` : "";
    table.replaceChildren(make("table", {}, make("caption", {}, `heads by the magnitude of ${y.name}${more}`),
      make("thead", {}, make("tr", {}, ...["head", ...shown.flatMap((metric) => [metric.name, "95 % interval"])]
        .map((text) => make("th", { scope: "col" }, text)))), make("tbody", {}, ...body)));
  }

  for (const [axis, select] of Object.entries(picks)) {
    select.addEventListener("change", () => {
      asked[axis] = select.value;
      draw();
      link.say(`${axis}: ${select.value}`);
    });
  }
  swap.addEventListener("click", () => {
    [asked.x, asked.y] = [asked.y, asked.x];
    draw();
  });
  crosses.addEventListener("change", drawOver);
  listed.addEventListener("click", () => {
    table.hidden = !table.hidden;
    listed.setAttribute("aria-expanded", String(!table.hidden));
    if (!table.hidden && plot) list();
  });
  link.drawn(["header", "table", "payloads"], draw);
  link.drawn(["sel"], () => {
    place();
    drawOver();
  });
  link.drawn(["hover"], drawOver);

  /** For export: what it shows, and every head as a row. */
  return {
    name: "scatter",
    title: () => (plot ? `${plot.y.name} by ${plot.x.name}` : scatterTitle),
    rows: () => {
      const all = plot ? choose().all : [];
      return [["head", ...all.flatMap((one) => [one.name, `${one.name} low`, `${one.name} high`])],
        ...(plot?.dots ?? []).map((dot) => [nameOf(dot), ...all.flatMap((one) => [one.mean, one.low, one.high].map((part) => part[dot.at]))])];
    },
  };
}
