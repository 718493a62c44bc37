// Export of what a panel shows: SVG as it is laid out (canvases at twice the screen's size), PNG of the same, CSV of its table.

import { make } from "./base.js";

const SVG_NAME = "http://www.w3.org/2000/svg";
const SHARP = 2;
const EDGE = 14;
const LEFT_OUT = ".iw-tools, .iw-table, .iw-hidden, .iw-voice, .iw-tip, .iw-menu, input, select, noscript, script, style";
const INLINED = ("fill fill-opacity stroke stroke-width stroke-dasharray stroke-linecap stroke-linejoin stroke-opacity opacity "
  + "font-family font-size font-weight font-style text-anchor dominant-baseline paint-order visibility display").split(" ");
const LARGEST_SIDE = 16000;

/** Text that XML can hold: no control characters, no half of a pair. */
export const sound = (text) => text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]|[\ud800-\udfff]/gu, "\ufffd");

/** A cell of CSV: numbers in full, text quoted where needed and never a formula of a spreadsheet. */
export function csvCell(value) {
  if (value === null || value === undefined || (typeof value === "number" && !Number.isFinite(value))) return "";
  if (typeof value === "number") return String(Number(value.toPrecision(7)));
  const text = String(value).toWellFormed?.() ?? String(value);
  const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

export const csvText = (rows) => rows.map((row) => row.map(csvCell).join(",") + "\r\n").join("");

/** The file's name: words of what it shows. */
export function fileName(parts, kind) {
  const words = parts.join(" ").normalize("NFKD").replace(/[^A-Za-z0-9.]+/g, "-").replace(/^[-.]+|[-.]+$/g, "").slice(0, 80);
  return `interp-${words || "view"}.${kind}`;
}

function element(tag, attributes, ...children) {
  const made = document.createElementNS(SVG_NAME, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const shown = (style) => style.display !== "none" && style.visibility !== "hidden";
const seen = (colour) => colour && !/^(transparent|rgba\(.*,\s*0\)|rgb\(.*\/\s*0%?\))$/.test(colour);

/** What a panel shows as one SVG, laid out as on the screen. */
class Sheet {
  constructor(root) {
    this.root = root;
    this.box = root.getBoundingClientRect();
    this.parts = [];
    this.right = this.bottom = 0;
    this.top = this.left = Infinity;
    this.fills = 0;
  }

  put(part, x, y, width, height) {
    this.parts.push(part);
    this.right = Math.max(this.right, x + width);
    this.bottom = Math.max(this.bottom, y + height);
    this.top = Math.min(this.top, y);
    this.left = Math.min(this.left, x);
  }

  place(rect) {
    return [rect.left - this.box.left + this.root.scrollLeft, rect.top - this.box.top + this.root.scrollTop];
  }

  walk(node) {
    if (node.matches(LEFT_OUT)) return;
    const style = getComputedStyle(node);
    if (node.hidden || !shown(style)) return;
    if (node.tagName === "CANVAS") return void this.canvas(node);
    if (node.tagName.toLowerCase() === "svg") return void this.svg(node);
    if (node !== this.root) this.backing(node, style);
    for (const child of node.childNodes) {
      if (child.nodeType === 3) this.words(child, style);
      else if (child.nodeType === 1) this.walk(child);
    }
  }

  canvas(node) {
    const rect = node.getBoundingClientRect();
    if (!rect.width || !rect.height || !node.width || !node.height) return;
    const [x, y] = this.place(rect);
    this.put(element("image", { x, y, width: rect.width, height: rect.height, href: node.toDataURL("image/png") }),
      x, y, rect.width, rect.height);
  }

  svg(node) {
    const rect = node.getBoundingClientRect();
    if (!rect.width || !rect.height) return;
    const [x, y] = this.place(rect);
    const copy = node.cloneNode(true);
    const from = [node, ...node.querySelectorAll("*")];
    const to = [copy, ...copy.querySelectorAll("*")];
    from.forEach((one, i) => {
      const style = getComputedStyle(one);
      const inline = INLINED.map((name) => [name, style.getPropertyValue(name)]).filter(([, value]) => value);
      to[i].setAttribute("style", inline.map(([name, value]) => `${name}:${value}`).join(";"));
      to[i].removeAttribute("class");
      for (const { name } of [...to[i].attributes]) if (name.startsWith("on") || name.startsWith("aria")) to[i].removeAttribute(name);
    });
    for (const [name, value] of Object.entries({ x, y, width: rect.width, height: rect.height, overflow: "visible" })) copy.setAttribute(name, value);
    this.put(copy, x, y, rect.width, rect.height);
  }

  /** The background and border of a chip, a badge or a colour bar. */
  backing(node, style) {
    const rect = node.getBoundingClientRect();
    if (!rect.width || !rect.height) return;
    const [x, y] = this.place(rect);
    const box = (attributes, ...before) => this.put(element("g", {}, ...before, element("rect", { x, y, width: rect.width,
      height: rect.height, rx: parseFloat(style.borderTopLeftRadius) || 0, ...attributes })), x, y, rect.width, rect.height);
    const colours = style.backgroundImage.match(/rgba?\([^)]*\)/g);
    if (colours) {
      const id = `fill-${++this.fills}`;
      box({ fill: `url(#${id})` }, style.backgroundImage.startsWith("repeating")
        ? element("pattern", { id, width: 4, height: 4, patternUnits: "userSpaceOnUse" }, element("path", { d: "M0 4L4 0", stroke: colours[0] }))
        : element("linearGradient", { id }, ...colours.map((colour, i) => element("stop", {
          offset: i / Math.max(1, colours.length - 1), "stop-color": colour }))));
    } else if (seen(style.backgroundColor)) box({ fill: style.backgroundColor });
    const [around, under] = [style.borderTopWidth, style.borderBottomWidth].map(parseFloat);
    if (around && seen(style.borderTopColor)) box({ fill: "none", stroke: style.borderTopColor, "stroke-width": around });
    else if (under && seen(style.borderBottomColor)) box({ y: y + rect.height - under, height: under, rx: 0, fill: style.borderBottomColor });
  }

  /** Text where the page has it, word by word; a word broken over lines letter by letter. */
  words(node, style) {
    const text = node.nodeValue;
    const range = document.createRange();
    const size = parseFloat(style.fontSize);
    const font = { "font-family": style.fontFamily, "font-size": style.fontSize, "font-weight": style.fontWeight, fill: style.color };
    const write = (from, to, rect) => {
      const [x, y] = this.place(rect);
      this.put(element("text", { x, y: y + rect.height / 2 + size * 0.35, ...font }, sound(text.slice(from, to))), x, y, rect.width, rect.height);
    };
    for (const match of text.matchAll(/\S+/g)) {
      const [from, to] = [match.index, match.index + match[0].length];
      range.setStart(node, from);
      range.setEnd(node, to);
      const rects = [...range.getClientRects()].filter((rect) => rect.width);
      if (rects.length === 1) write(from, to, rects[0]);
      for (let i = from; rects.length > 1 && i < to; i++) {
        range.setStart(node, i);
        range.setEnd(node, i + 1);
        const rect = range.getBoundingClientRect();
        if (rect.width) write(i, i + 1, rect);
      }
    }
  }
}

/** Lines of a text no longer than `most` characters each. */
function lines(text, most) {
  const out = [""];
  for (const word of text.split(" ")) {
    if (out[out.length - 1].length + word.length > most && out[out.length - 1]) out.push("");
    out[out.length - 1] += (out[out.length - 1] ? " " : "") + word;
  }
  return out.filter(Boolean);
}

/** The panel as SVG text with heading and footer, and its size in pixels. */
export function sheet(link, root, heading, footer) {
  const styles = getComputedStyle(link.root);
  const [paper, ink, muted] = ["--iw-paper", "--iw-text", "--iw-muted"].map((name) => styles.getPropertyValue(name).trim());
  link.root.dataset.sharp = SHARP;
  root.classList.add("iw-exporting");
  const drawn = new Sheet(root);
  try {
    for (const draw of link.draws) draw();
    drawn.box = root.getBoundingClientRect();
    drawn.walk(root);
  } finally {
    delete link.root.dataset.sharp;
    root.classList.remove("iw-exporting");
    for (const draw of link.draws) draw();
  }
  if (!drawn.parts.length) throw new Error("nothing is drawn");
  const width = Math.max(320, Math.ceil(drawn.right - drawn.left)) + 2 * EDGE;
  const font = { "font-family": styles.fontFamily };
  const most = Math.floor((width - 2 * EDGE) / 6);
  const head = heading ? lines(heading, Math.floor(most * 0.85)) : [];
  const foot = footer ? lines(footer, most) : [];
  const top = EDGE + head.length * 20;
  const bottom = top + drawn.bottom - drawn.top;
  const height = Math.ceil(bottom + 8 + foot.length * 15 + EDGE);
  const whole = element("svg", { xmlns: SVG_NAME, width, height, viewBox: `0 0 ${width} ${height}` },
    element("title", {}, sound(heading || root.getAttribute("aria-label") || "interp")),
    element("rect", { width, height, fill: paper }),
    ...head.map((line, i) => element("text", { x: EDGE, y: EDGE + 14 + i * 20, ...font, "font-size": "14px", "font-weight": 650, fill: ink }, sound(line))),
    element("g", { transform: `translate(${EDGE - drawn.left} ${top - drawn.top})` }, ...drawn.parts),
    ...foot.map((line, i) => element("text", { x: EDGE, y: bottom + 20 + i * 15, ...font, "font-size": "11px", fill: muted }, sound(line))));
  return { text: new XMLSerializer().serializeToString(whole), width, height };
}

/** The same as a PNG at twice the size (less where a canvas could not be so large). */
async function raster({ text, width, height }) {
  const ratio = Math.min(SHARP, LARGEST_SIDE / Math.max(width, height));
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("the picture is too large for this browser"))), "image/png");
  });
}

function save(blob, name) {
  const url = URL.createObjectURL(blob);
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 30000);
}

// What a panel's function returns: its name (of the files), title() and rows() (a head and then one row after the other).
/** Give a panel its export: a button with a menu, and the key e; and let the keyboard into what scrolls. */
export function exportable(link, root, given = {}) {
  const name = given?.name ?? root.getAttribute("aria-label") ?? "view";
  for (const box of root.querySelectorAll(".iw-table, .iw-scroll")) {
    if (box.classList.contains("iw-scroll") && box.querySelector("[tabindex='0']")) continue;
    for (const [key, value] of Object.entries({ tabindex: "0", role: "region", "aria-label": `table of ${name}` })) box.setAttribute(key, value);
  }
  const there = root.querySelector(".iw-tools");
  const tools = there ?? make("div", { class: "iw-tools" });
  if (!there) root.prepend(tools);
  const open = make("button", { type: "button", "aria-haspopup": "menu", "aria-expanded": "false", "aria-keyshortcuts": "e" }, "Export");
  const menu = make("div", { class: "iw-menu", role: "menu", "aria-label": "export as", hidden: true });
  const title = () => (given?.title ? given.title() : root.querySelector(".iw-title strong")?.textContent) || name;
  const footer = () => [link.header.source, given?.source?.() ?? link.payload(name)?.source, link.header.made].filter(Boolean)
    .filter((part, i, all) => all.indexOf(part) === i).join(" · ");
  const rows = () => given?.rows?.() ?? [];
  const kinds = {
    PNG: async () => raster(sheet(link, root, root.querySelector(".iw-title") ? "" : title(), footer())),
    SVG: async () => new Blob([sheet(link, root, root.querySelector(".iw-title") ? "" : title(), footer()).text], { type: "image/svg+xml" }),
    CSV: async () => {
      const found = rows();
      if (found.length < 2) throw new Error("there are no numbers to write");
      return new Blob([csvText(found)], { type: "text/csv;charset=utf-8" });
    },
  };
  const show = (wanted) => {
    menu.hidden = !wanted;
    open.setAttribute("aria-expanded", String(wanted));
    if (wanted) menu.firstElementChild.focus();
  };
  const items = Object.entries(kinds).map(([kind, write]) => make("button", { type: "button", role: "menuitem", tabindex: "-1",
    onclick: async () => {
      show(false);
      open.focus();
      try {
        const blob = await write();
        const file = fileName([name, title().slice(0, 50)], kind.toLowerCase());
        save(blob, file);
        link.say(`saved ${file}`);
      } catch (error) {
        link.say(`cannot export: ${error.message}`);
      }
    } }, kind));
  menu.append(...items);
  open.addEventListener("click", () => show(menu.hidden));
  menu.addEventListener("keydown", (event) => {
    const turn = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (turn) items[(items.indexOf(document.activeElement) + turn + items.length) % items.length].focus();
    else if (event.key === "Escape") {
      show(false);
      open.focus();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });
  menu.addEventListener("focusout", (event) => {
    if (!menu.contains(event.relatedTarget) && event.relatedTarget !== open) show(false);
  });
  root.addEventListener("keydown", (event) => {
    if (event.key !== "e" || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
    event.preventDefault();
    show(true);
  });
  tools.append(make("span", { class: "iw-export" }, open, menu));
}
