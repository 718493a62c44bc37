// What every view shares: its root element, theme, the link to the shared state, one head's data on demand, tooltip, voice.

import { stepMetrics, unpack } from "./core.js";
import { exportable } from "./export.js";

const KEPT = 16;
let serial = 0;

/** An element with text children only: whatever a token holds, it stays text. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** The theme that the host shows: its own hints first, then the system's preference. */
export function hostTheme() {
  const body = document.body;
  const html = document.documentElement;
  const hints = [
    [body.dataset.jpThemeLight, { false: "dark", true: "light" }],
    [body.dataset.theme ?? html.dataset.theme ?? html.getAttribute("theme"), { dark: "dark", light: "light" }],
  ];
  for (const [hint, names] of hints) if (hint !== undefined && hint !== null && names[hint]) return names[hint];
  if (body.classList.contains("dark") || body.classList.contains("vscode-dark")) return "dark";
  if (body.classList.contains("light") || body.classList.contains("vscode-light")) return "light";
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

function floats(view) {
  if (!view || !view.byteLength) return new Float32Array(0);
  const copy = view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
  return new Float32Array(copy);
}

/** What the panels of one view work with. */
class Link {
  constructor(state, root, signal) {
    this.state = state;
    this.root = root;
    this.signal = signal;
    this.id = `iw${++serial}`;
    this.heads = new Map();
    this.asked = "";
    this.waiting = null;
    this.draws = [];
    this.questions = new Map();
    this.dirty = new Set();
    this.read();
    this.listen("header", () => this.read());
    for (const name of ["payloads", "step"]) this.listen(name, () => this.reread());
    this.listen("full_key", () => this.receive());
    this.receive();
  }

  listen(name, act) {
    const event = `change:${name}`;
    this.state.on(event, act);
    this.signal?.addEventListener("abort", () => this.state.off(event, act));
  }

  /** Call `draw` now, and once after any of the named traits changed; `full_key`: after a head that was asked for has come. */
  drawn(names, draw) {
    for (const name of names) {
      this.listen(name, () => {
        if (name !== "full_key" || this.drawing !== draw) this.soon(draw);
      });
    }
    this.draws.push(draw);
    this.perform(draw);
  }

  perform(draw) {
    this.drawing = draw;
    try {
      draw();
    } finally {
      this.drawing = null;
    }
  }

  soon(draw) {
    if (!this.dirty.size) queueMicrotask(() => this.flush());
    this.dirty.add(draw);
  }

  flush() {
    const due = [...this.dirty];
    this.dirty.clear();
    if (!this.signal?.aborted) for (const draw of due) this.perform(draw);
  }

  redraw() {
    for (const draw of this.draws) this.soon(draw);
  }

  get(name) {
    return this.state.get(name);
  }

  /** Change the shared state; `quiet` does so for the page alone, not for Python. */
  set(values, quiet = false) {
    for (const [name, value] of Object.entries(values)) this.state.set(name, value);
    if (!quiet) this.state.save_changes();
  }

  read() {
    const header = this.state.get("header") ?? {};
    if (header.id !== this.header?.id) {
      this.heads.clear();
      this.asked = "";
    }
    this.header = header;
    const table = floats(this.state.get("table"));
    const size = header.heads ? header.heads.length * header.across : 0;
    this.sinks = floats(this.state.get("sinks"));
    this.metrics = (header.metrics ?? []).map((metric, i) => ({
      ...metric,
      mean: table.subarray(3 * i * size, (3 * i + 1) * size),
      low: table.subarray((3 * i + 1) * size, (3 * i + 2) * size),
      high: table.subarray((3 * i + 2) * size, (3 * i + 3) * size),
    }));
    this.metrics.push(...stepMetrics(this.payload("training"), this.get("step")));
  }

  /** Checkpoints bring metrics of their own: read these anew. */
  reread() {
    if (!this.payload("training")) return;
    this.read();
    this.redraw();
  }

  /** What one kind of view was given to draw, or null. */
  payload(kind) {
    return this.get("payloads")?.[kind] ?? null;
  }

  /** Whether Python is there to answer `ask` for a kind of view. */
  live(kind) {
    return !this.header.still && (this.header.answers ?? []).includes(kind);
  }

  /** Ask Python; resolves to its answer, an object with `error` where it refused. A newer question of a kind drops the older. */
  ask(kind, question) {
    const n = (this.questions.get(kind) ?? 0) + 1 + Math.floor(performance.now() * 1000);
    this.questions.set(kind, n);
    return new Promise((resolve) => {
      const hear = () => {
        const reply = this.get("reply");
        if (reply?.kind !== kind || reply.n < n) return;
        this.state.off("change:reply", hear);
        if (reply.n === n && this.questions.get(kind) === n) resolve(reply.answer);
      };
      this.state.on("change:reply", hear);
      this.signal?.addEventListener("abort", () => this.state.off("change:reply", hear));
      this.set({ ask: { kind, n, question } });
    });
  }

  get metric() {
    return this.metrics.find((metric) => metric.name === this.get("metric")) ?? this.metrics[0] ?? null;
  }

  get palette() {
    return this.header.palette[this.theme];
  }

  /** The head that is looked at: the one under pointer or cursor, else the last selected, or null. */
  get looked() {
    const hover = this.get("hover");
    const chosen = this.get("sel") ?? [];
    const head = hover?.length === 2 ? hover : chosen[chosen.length - 1];
    return head && head[1] < (this.header.heads?.[head[0]] ?? 0) ? head : null;
  }

  /** One head in full, or null: it is then asked for (after a moment, if the pointer only passes). */
  full([layer, head]) {
    const prompt = this.get("prompt");
    const name = `${prompt}.${layer}.${head}`;
    const found = this.heads.get(name);
    if (found) {
      this.heads.delete(name);
      this.heads.set(name, found);
      return found;
    }
    if (name !== this.asked) {
      this.asked = name;
      clearTimeout(this.waiting);
      const ask = () => this.set({ request: [prompt, layer, head, Math.floor(performance.now() * 1000)] });
      if (this.get("hover")?.length === 2 && !this.header.still) this.waiting = setTimeout(ask, 90);
      else ask();
    }
    return this.heads.get(name) ?? null;
  }

  receive() {
    const key = this.state.get("full_key");
    const view = this.state.get("full");
    if (!key || key.id !== this.header.id || !view) return;
    this.heads.set(`${key.prompt}.${key.layer}.${key.head}`, key.absent ? { absent: key.absent } : unpack(view, key));
    while (this.heads.size > KEPT) this.heads.delete(this.heads.keys().next().value);
    this.asked = "";
  }

  choose(head, add = false) {
    const chosen = (this.get("sel") ?? []).map((one) => [...one]);
    const at = chosen.findIndex((one) => one[0] === head[0] && one[1] === head[1]);
    if (!add) this.set({ sel: [head] });
    else if (at >= 0) this.set({ sel: chosen.filter((_, i) => i !== at) });
    else this.set({ sel: [...chosen, head] });
  }

  /** The next of a trait's values. */
  next(name, values) {
    this.set({ [name]: values[(values.indexOf(this.get(name)) + 1) % values.length] });
  }

  say(text) {
    this.voice.textContent = text;
  }

  point(event, text) {
    const box = this.root.getBoundingClientRect();
    this.tip.textContent = text;
    this.tip.hidden = !text;
    if (!text) return;
    const x = Math.min(event.clientX - box.left + 14, box.width - this.tip.offsetWidth - 4);
    this.tip.style.left = `${Math.max(0, x)}px`;
    this.tip.style.top = `${event.clientY - box.top + 18}px`;
  }
}

/** A canvas of a size in CSS pixels, sharp on the screen at hand; cleared. */
export function fit(canvas, width, height) {
  const ratio = Number(canvas.closest("[data-sharp]")?.dataset.sharp) || Math.min(globalThis.devicePixelRatio || 1, 3);
  const [w, h] = [Math.max(1, Math.ceil(width * ratio)), Math.max(1, Math.ceil(height * ratio))];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return pen;
}

const tiles = new Map();

/** Diagonal lines, for what has no value. */
export function hatch(pen, colour) {
  if (!tiles.has(colour)) tiles.set(colour, hatchTile(colour));
  return pen.createPattern(tiles.get(colour), "repeat");
}

function hatchTile(colour) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const brush = tile.getContext("2d");
  brush.strokeStyle = colour;
  brush.lineWidth = 1;
  for (const shift of [-6, 0, 6]) {
    brush.beginPath();
    brush.moveTo(shift, 6);
    brush.lineTo(shift + 6, 0);
    brush.stroke();
  }
  return tile;
}

/** A row of choices for a trait. */
export function choice(link, label, name, options) {
  let values = [];
  const select = make("select", { "aria-label": label, onchange: () => link.set({ [name]: values[select.selectedIndex][0] }) });
  const show = () => {
    values = typeof options === "function" ? options() : options;
    select.replaceChildren(...values.map(([value, text]) => make("option", { value }, text)));
    select.value = link.get(name);
    if (select.selectedIndex < 0) select.selectedIndex = 0;
    box.hidden = values.length < 2;
  };
  const box = make("label", { class: "iw-choice" }, make("span", {}, label), select);
  link.drawn([name, "header"], show);
  return box;
}

/** A view made of panels, whose function returns what it tells of itself (`exportable`), or null: resolves the shared state, keeps the host's shortcuts out, follows its theme. */
export function view(panels) {
  return {
    async render({ model, el, host, signal }) {
      const state = await host.getModel(model.get("state"));
      const root = make("div", { class: "iw", "data-lm-suppress-shortcuts": "true" });
      const link = new Link(state, root, signal);
      link.voice = make("div", { class: "iw-voice", role: "status", "aria-live": "polite" });
      link.tip = make("div", { class: "iw-tip", hidden: true, "aria-hidden": "true" });
      root.addEventListener("keydown", (event) => event.stopPropagation());
      const dress = () => {
        const asked = state.get("theme");
        const theme = asked === "light" || asked === "dark" ? asked : hostTheme();
        if (theme === link.theme) return;
        link.theme = theme;
        root.classList.toggle("dark", theme === "dark");
        link.redraw();
      };
      dress();
      link.listen("theme", dress);
      const watch = new MutationObserver(dress);
      for (const part of [document.body, document.documentElement]) watch.observe(part, { attributes: true });
      const media = matchMedia("(prefers-color-scheme: dark)");
      media.addEventListener("change", dress);
      el.append(root);
      if (!link.header.palette) root.append(make("p", { class: "iw-note" }, "Nothing to show: the state holds no heads."));
      else {
        const given = panels(link, root);
        if (given !== null) exportable(link, root, given);
      }
      root.append(link.voice, link.tip);
      const resize = new ResizeObserver(() => {
        if (root.clientWidth !== link.seen) {
          link.seen = root.clientWidth;
          link.redraw();
        }
      });
      resize.observe(root);
      const end = () => {
        watch.disconnect();
        resize.disconnect();
        media.removeEventListener("change", dress);
      };
      signal?.addEventListener("abort", end);
      return end;
    },
  };
}
