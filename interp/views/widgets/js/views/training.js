// Training: a slider over checkpoints that colours the head grid, the selected heads as lines with intervals, the behaviour above.

import { headName, nearestStep, number } from "../core.js";
import { choice, make } from "../base.js";

export const trainingTitle = "Training";

const SVG = "http://www.w3.org/2000/svg";
const COLOURS = { light: ["#0072B2", "#B84A00", "#00735A", "#9C4A78", "#6B5900", "#4A4A4A"],
  dark: ["#56B4E9", "#F0894A", "#3CC79A", "#E39AC4", "#E6B84A", "#D0D0D0"] };
const DASHES = ["", "6 3", "2 3", "8 3 2 3", "1 2", "10 4"];
const LEFT = 54;
const RIGHT = 62;
const TOP = 12;
const HIGH = 210;
const BEHAVIOUR = 64;
const GAP = 26;
const BELOW = 22;
const MOST = 6;
const FAINT = 600;
const BEAT = 700;
const NEAR = 12;

export function trainingPanel(link, root) {
  const svg = drawn("svg", { class: "iw-training-chart", "aria-hidden": "true" });
  const focus = make("div", { class: "iw-training-stage", role: "application", tabindex: "0",
    "aria-roledescription": "line chart",
    "aria-label": "heads over training, left and right move the checkpoint, up and down the head, Enter selects" }, svg);
  const title = make("div", { class: "iw-title" });
  const note = make("p", { class: "iw-note", hidden: true });
  const legend = make("div", { class: "iw-legend" });
  const table = make("div", { class: "iw-table", hidden: true });
  const listed = make("button", { type: "button", "aria-expanded": "false" }, "Table");
  const back = make("button", { type: "button", "aria-label": "previous checkpoint" }, "◀");
  const play = make("button", { type: "button" }, "Play");
  const on = make("button", { type: "button", "aria-label": "next checkpoint" }, "▶");
  const range = make("input", { type: "range", min: "0", max: "1000", step: "1", class: "iw-training-range", "aria-label": "checkpoint" });
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  let layout = null;
  let cursor = null;
  let timer = 0;

  const data = () => link.payload("training");
  const names = () => (data()?.metrics ?? []).map((metric) => [metric.name, metric.name]);
  const metrics = choice(link, "Measure", "metric", names);
  root.append(make("div", { class: "iw-tools" }, back, play, on, metrics, listed), title, note, focus, range, legend, table);

  const metric = () => data().metrics.find((one) => one.name === link.get("metric")) ?? data().metrics[0];
  const index = () => nearestStep(data().steps, link.get("step"));
  const flat = (head) => head[0] * link.header.across + head[1];
  const name = (head) => headName(link.header.layers[head[0]], head[1], link.header.attention);
  const chosen = () => (link.get("sel") ?? []).filter((head) => head[1] < (link.header.heads[head[0]] ?? 0)).slice(-MOST);
  const colour = (i) => COLOURS[link.theme][i % MOST];

  function go(i, spoken = true) {
    const { steps } = data();
    const to = Math.max(0, Math.min(steps.length - 1, i));
    const values = { step: steps[to] };
    if (!data().metrics.some((one) => one.name === link.get("metric"))) values.metric = data().metrics[0].name;
    link.set(values);
    if (spoken) link.say(sentence(to));
  }

  function sentence(i) {
    const parts = chosen().map((head) => `${name(head)} ${valueText(head, i)}`);
    const own = data().behaviour;
    if (own) parts.push(`${own.name} ${number(own.mean[i] ?? NaN)}`);
    return `step ${data().steps[i]}, checkpoint ${i + 1} of ${data().steps.length}${parts.length ? `: ${parts.join("; ")}` : ""}`;
  }

  function valueText(head, i) {
    const { mean, low, high } = metric();
    const at = flat(head);
    if (mean[i][at] === null) return "no value";
    return low[i][at] === null ? number(mean[i][at]) : `${number(mean[i][at])} [${number(low[i][at])}, ${number(high[i][at])}]`;
  }

  function place() {
    const { steps, behaviour } = data();
    const width = Math.max(300, Math.min(root.clientWidth || 640, 940));
    const positive = steps.filter((step) => step > 0);
    const from = positive[0] ?? 1;
    const curved = positive.length > 1 && positive[positive.length - 1] / from > 20;
    const warp = (step) => (curved ? Math.log10(step + from) : step);
    const [first, last] = [warp(steps[0]), warp(steps[steps.length - 1])];
    const share = (step) => (last > first ? (warp(step) - first) / (last - first) : 0.5);
    const top = behaviour ? TOP + BEHAVIOUR + GAP : TOP;
    const x = (i) => LEFT + share(steps[i]) * (width - LEFT - RIGHT);
    return { width, share, top, x, curved, height: top + HIGH + BELOW + 16 };
  }

  /** Lowest and highest of some values, zero within, and round ticks between. */
  function extent(values) {
    let [low, high] = [0, 0];
    for (const value of values) if (value !== null && Number.isFinite(value)) [low, high] = [Math.min(low, value), Math.max(high, value)];
    if (low === high) high = 1;
    const rough = (high - low) / 4;
    const size = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map((by) => by * size).find((by) => by >= rough);
    const ticks = [];
    for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-6; at += step) ticks.push(Math.abs(at) < step * 1e-6 ? 0 : at);
    return { low, high, ticks };
  }

  function draw() {
    const given = data();
    focus.hidden = range.hidden = !given;
    note.hidden = !!given && chosen().length > 0;
    note.textContent = given ? "No head is selected: click a line, or choose in the grid." : "No checkpoints here.";
    if (!given) return;
    metrics.hidden = given.metrics.length < 2;
    play.hidden = still.matches || given.steps.length < 2;
    layout = place();
    const { mean, low, high } = metric();
    const heads = chosen();
    const shown = [...mean.flat(), ...heads.flatMap((head) => [...low, ...high].map((row) => row[flat(head)]))];
    layout.main = { ...extent(shown), top: layout.top, high2: HIGH };
    svg.replaceChildren();
    for (const [key, value] of Object.entries({ width: layout.width, height: layout.height,
      viewBox: `0 0 ${layout.width} ${layout.height}` })) svg.setAttribute(key, value);
    if (given.behaviour) {
      const { behaviour } = given;
      layout.behaviour = { ...extent([...behaviour.low, ...behaviour.high, ...behaviour.mean]), top: TOP, high2: BEHAVIOUR };
      axis(layout.behaviour, behaviour.name);
      line(layout.behaviour, behaviour.mean, behaviour.low, behaviour.high, "var(--iw-text)", "", "", true);
    }
    axis(layout.main, metric().name.replace(/ over training.*$/, "") + (metric().unit ? ` (${metric().unit})` : ""));
    faint(mean);
    stepTicks();
    const ends = [];
    heads.forEach((head, i) => {
      const of = (rows) => rows.map((row) => row[flat(head)]);
      line(layout.main, of(mean), of(low), of(high), colour(i), DASHES[i], name(head), false, ends);
    });
    settle(ends);
    mark();
    describe(heads);
    drawOver();
    if (!table.hidden) list();
  }

  const level = (area, value) => area.top + area.high2 - ((value - area.low) / (area.high - area.low)) * area.high2;

  function axis(area, text) {
    const bottom = area.top + area.high2;
    for (const tick of area.ticks) {
      if (area.high2 < 100 && tick !== area.ticks[0] && tick !== area.ticks[area.ticks.length - 1]) continue;
      const y = level(area, tick);
      svg.append(drawn("line", { x1: LEFT, x2: layout.width - RIGHT, y1: y, y2: y, class: tick === 0 ? "iw-training-zero" : "iw-training-rule" }),
        drawn("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end", class: "iw-training-text" }, number(tick, 2)));
    }
    svg.append(drawn("line", { x1: LEFT, x2: LEFT, y1: area.top, y2: bottom, class: "iw-training-rule" }),
      drawn("text", { x: LEFT, y: area.top - 3, class: "iw-training-text iw-training-name" }, text));
  }

  function path(area, values) {
    let out = "";
    let going = false;
    values.forEach((value, i) => {
      if (value === null) going = false;
      else {
        out += `${going ? "L" : "M"}${layout.x(i).toFixed(1)} ${level(area, value).toFixed(1)}`;
        going = true;
      }
    });
    return out;
  }

  function band(area, low, high) {
    let out = "";
    let from = 0;
    const close = (to) => {
      if (to - from < 2) return;
      const there = Array.from({ length: to - from }, (_, k) => from + k);
      const points = [...there.map((i) => [i, high[i]]), ...there.reverse().map((i) => [i, low[i]])];
      out += `M${points.map(([i, value]) => `${layout.x(i).toFixed(1)} ${level(area, value).toFixed(1)}`).join("L")}Z`;
    };
    for (let i = 0; i <= low.length; i++) {
      if (i < low.length && low[i] !== null && high[i] !== null) continue;
      close(i);
      from = i + 1;
    }
    return out;
  }

  function line(area, mean, low, high, stroke, dash, label, plain, ends) {
    svg.append(drawn("path", { d: band(area, low, high), fill: stroke, class: "iw-training-band" }),
      drawn("path", { d: path(area, mean), stroke, "stroke-dasharray": dash, class: "iw-training-line" }));
    mean.forEach((value, i) => {
      if (value === null) return;
      const [x, y] = [layout.x(i), level(area, value)];
      if (low[i] !== null) svg.append(drawn("line", { x1: x, x2: x, y1: level(area, low[i]), y2: level(area, high[i]), stroke, class: "iw-training-whisker" }));
      svg.append(drawn("circle", { cx: x, cy: y, r: plain ? 2 : 2.5, fill: stroke }));
    });
    const last = mean.findLastIndex((value) => value !== null);
    if (label && last >= 0) ends.push({ y: level(area, mean[last]), label, stroke });
  }

  /** Names at the ends of the lines, moved apart where they would overlap. */
  function settle(ends) {
    ends.sort((a, b) => a.y - b.y);
    for (let i = 1; i < ends.length; i++) ends[i].y = Math.max(ends[i].y, ends[i - 1].y + 13);
    const over = ends.length ? ends[ends.length - 1].y - (layout.top + HIGH + 6) : 0;
    if (over > 0) for (const end of ends) end.y -= over;
    for (const { y, label, stroke } of ends) {
      svg.append(drawn("text", { x: layout.width - RIGHT + 8, y: y + 4, fill: stroke, class: "iw-training-end" }, label));
    }
  }

  /** Every head as a thin line behind the selected ones; of very many the largest at the last step. */
  function faint(mean) {
    const order = [];
    link.header.heads.forEach((count, layer) => {
      for (let head = 0; head < count; head++) order.push([layer, head]);
    });
    const last = mean[mean.length - 1];
    order.sort((a, b) => Math.abs(last[flat(b)] ?? 0) - Math.abs(last[flat(a)] ?? 0));
    layout.lines = order.slice(0, FAINT);
    layout.left = order.length - layout.lines.length;
    const d = layout.lines.map((head) => path(layout.main, mean.map((row) => row[flat(head)]))).join("");
    svg.append(drawn("path", { d, class: "iw-training-faint" }));
  }

  function stepTicks() {
    const { steps } = data();
    const bottom = layout.top + HIGH;
    let free = Infinity;
    const shown = steps.map((_, i) => i).reverse().filter((i) => {
      const half = stepLabel(steps[i]).length * 3.4 + 3;
      if (layout.x(i) + half > free) return false;
      free = layout.x(i) - half;
      return true;
    });
    steps.forEach((step, i) => {
      svg.append(drawn("line", { x1: layout.x(i), x2: layout.x(i), y1: bottom, y2: bottom + 4, class: "iw-training-zero" }));
      if (shown.includes(i)) {
        svg.append(drawn("text", { x: layout.x(i), y: bottom + 17, "text-anchor": "middle", class: "iw-training-text" }, stepLabel(step)));
      }
    });
    svg.append(drawn("text", { x: (LEFT + layout.width - RIGHT) / 2, y: bottom + 32, "text-anchor": "middle",
      class: "iw-training-text" }, layout.curved ? "training step (logarithmic)" : "training step"));
  }

  const stepLabel = (step) => (step >= 10000 ? `${Number((step / 1000).toPrecision(3))}k` : String(step));

  function mark() {
    const i = index();
    const x = layout.x(i);
    svg.append(drawn("line", { x1: x, x2: x, y1: TOP - 4, y2: layout.top + HIGH, class: "iw-training-now" }));
    const { steps } = data();
    range.value = String(Math.round(1000 * layout.share(steps[i])));
    range.setAttribute("aria-valuetext", `step ${steps[i]}, checkpoint ${i + 1} of ${steps.length}`);
    range.style.marginLeft = `${LEFT - 8}px`;
    range.style.width = `${layout.width - LEFT - RIGHT + 16}px`;
    title.replaceChildren(make("strong", {}, `step ${steps[i]}`),
      make("span", { class: "iw-badge" }, `checkpoint ${i + 1} of ${steps.length}`),
      make("span", { class: "iw-badge" }, `${data().n} ${data().n === 1 ? "prompt" : "prompts"}`),
      ...(data().source ? [make("span", { class: "iw-fine" }, data().source)] : []));
  }

  function describe(heads) {
    const parts = [];
    if (heads.length) parts.push(make("span", {}, "band and whiskers: 95 % interval over prompts"));
    parts.push(make("span", {}, layout.left ? `thin lines: the ${layout.lines.length} largest of ${layout.lines.length + layout.left} heads` : "thin lines: all other heads"));
    if (metric().fewer) parts.push(make("span", {}, `intervals are kept for the ${metric().fewer} largest heads`));
    if ((link.get("sel") ?? []).length > MOST) parts.push(make("span", {}, `the last ${MOST} selected heads are drawn`));
    if (data().metrics.some((one) => one.name === link.metric?.name)) {
      parts.push(make("span", {}, "the head grid is coloured by this step"));
    }
    legend.replaceChildren(...parts);
  }

  function drawOver() {
    svg.querySelector(".iw-training-over")?.remove();
    const hover = link.get("hover");
    if (!layout || !data() || hover?.length !== 2 || hover[1] >= (link.header.heads[hover[0]] ?? 0)) return;
    const values = metric().mean.map((row) => row[flat(hover)]);
    svg.append(drawn("path", { d: path(layout.main, values), class: "iw-training-over" }));
  }

  function rows() {
    const { steps, behaviour } = data();
    const { mean, low, high } = metric();
    const heads = chosen();
    const head = ["step", ...heads.flatMap((one) => [name(one), `${name(one)} low`, `${name(one)} high`])];
    if (behaviour) head.push(behaviour.name, `${behaviour.name} low`, `${behaviour.name} high`);
    const body = steps.map((step, i) => [step, ...heads.flatMap((one) => [mean, low, high].map((part) => part[i][flat(one)])),
      ...(behaviour ? [behaviour.mean[i], behaviour.low[i], behaviour.high[i]] : [])]);
    return [head, ...body];
  }

  function list() {
    const { steps, behaviour } = data();
    const heads = chosen();
    const cells = (i) => [...heads.map((head) => make("td", {}, valueText(head, i))),
      ...(behaviour ? [make("td", {}, behaviour.low[i] === null ? number(behaviour.mean[i] ?? NaN)
        : `${number(behaviour.mean[i])} [${number(behaviour.low[i])}, ${number(behaviour.high[i])}]`)] : [])];
    table.replaceChildren(make("table", {}, make("caption", {}, `${metric().name}, 95 % intervals in brackets`),
      make("thead", {}, make("tr", {}, ...["step", ...heads.map(name), ...(behaviour ? [behaviour.name] : [])]
        .map((text) => make("th", { scope: "col" }, text)))),
      make("tbody", {}, ...steps.map((step, i) => make("tr", {}, make("th", { scope: "row" },
        make("button", { type: "button", onclick: () => go(i) }, String(step))), ...cells(i))))));
  }

  /** The checkpoint and the nearest head's line under the pointer. */
  function under(event) {
    const box = svg.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    const { steps } = data();
    let i = 0;
    for (let k = 1; k < steps.length; k++) if (Math.abs(layout.x(k) - px) < Math.abs(layout.x(i) - px)) i = k;
    let head = null;
    let best = NEAR;
    const own = new Set(chosen().map((one) => one.join()));
    for (const one of layout.lines) {
      const value = metric().mean[i][flat(one)];
      if (value === null) continue;
      const far = Math.abs(level(layout.main, value) - py) - (own.has(one.join()) ? 2 : 0);
      if (far < best) [best, head] = [far, one];
    }
    return { i, head };
  }

  function stop() {
    clearInterval(timer);
    timer = 0;
    play.textContent = "Play";
  }

  function start() {
    if (index() === data().steps.length - 1) go(0, false);
    play.textContent = "Pause";
    timer = setInterval(() => {
      if (!root.isConnected || root.hidden || index() >= data().steps.length - 1) stop();
      else go(index() + 1, false);
    }, BEAT);
  }

  back.addEventListener("click", () => go(index() - 1));
  on.addEventListener("click", () => go(index() + 1));
  play.addEventListener("click", () => (timer ? stop() : start()));
  link.signal?.addEventListener("abort", stop);
  range.addEventListener("input", () => {
    const { steps } = data();
    const wanted = Number(range.value) / 1000;
    let best = 0;
    steps.forEach((step, i) => {
      if (Math.abs(layout.share(step) - wanted) < Math.abs(layout.share(steps[best]) - wanted)) best = i;
    });
    stop();
    go(best);
    range.value = String(Math.round(1000 * layout.share(steps[best])));
  });
  const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowDown: -1, ArrowUp: 1, PageDown: -3, PageUp: 3, Home: -Infinity, End: Infinity };
  range.addEventListener("keydown", (event) => {
    if (moves[event.key] === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    stop();
    go(index() + moves[event.key]);
  });
  focus.addEventListener("pointermove", (event) => {
    if (!layout) return;
    const { i, head } = under(event);
    const text = head ? `${name(head)} at step ${data().steps[i]}: ${valueText(head, i)}` : `step ${data().steps[i]}`;
    link.point(event, text);
    if ((head ?? []).join() !== (link.get("hover") ?? []).join()) link.set({ hover: head ?? [] }, true);
  });
  focus.addEventListener("pointerleave", (event) => {
    link.point(event, "");
    link.set({ hover: [] }, true);
  });
  focus.addEventListener("click", (event) => {
    const { i, head } = under(event);
    stop();
    go(i);
    if (head) link.choose(head, event.ctrlKey || event.metaKey || event.shiftKey);
  });
  focus.addEventListener("keydown", (event) => {
    if (!layout || event.ctrlKey || event.metaKey || event.altKey) return;
    const turn = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const shift = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (turn) go(index() + turn);
    else if (event.key === "Home") go(0);
    else if (event.key === "End") go(data().steps.length - 1);
    else if (event.key === "p" && !play.hidden) play.click();
    else if (shift) {
      const row = metric().mean[index()];
      const order = layout.lines.filter((head) => row[flat(head)] !== null).sort((a, b) => row[flat(b)] - row[flat(a)]);
      const from = order.findIndex((head) => head.join() === (cursor ?? chosen()[chosen().length - 1] ?? []).join());
      cursor = order[Math.max(0, Math.min(order.length - 1, from + shift))] ?? null;
      if (cursor) {
        link.set({ hover: cursor }, true);
        link.say(`${name(cursor)} at step ${data().steps[index()]}: ${valueText(cursor, index())}`);
      }
    } else if ((event.key === "Enter" || event.key === " ") && cursor) {
      link.choose(cursor, event.key === " ");
      link.say(`${name(cursor)} selected`);
    } else return;
    event.preventDefault();
  });
  focus.addEventListener("blur", () => {
    cursor = null;
    link.set({ hover: [] }, true);
  });
  listed.addEventListener("click", () => {
    table.hidden = !table.hidden;
    listed.setAttribute("aria-expanded", String(!table.hidden));
    if (!table.hidden && data()) list();
  });
  link.drawn(["header", "payloads", "metric", "sel", "step"], draw);
  link.drawn(["hover"], drawOver);
  return { name: "training", rows };
}

/** An element of SVG with text alone inside. */
function drawn(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) if (value !== "") element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}
