// The patching map: rows are heads or layers, columns tokens (clean above corrupted); or rows are layers and columns heads.

import { css, inkOn, metricColour, number } from "../core.js";
import { fit, hatch, make } from "../base.js";
import { cellName, cellNumber, cellRows, cellSentence, columnHeads, columnText, columnTokens, includesZero, labelledColumns,
  readPatching, rowOptions, rowOrder, scattered } from "../patched.js";

export const patchingTitle = "Patching";

const ROW = 24;
const TALLEST = 14000;
const WIDEST = 30000;
const LISTED = 300;
const LETTER = 6.9;
const LINE = 12;
const CUT = 14;
const MARKED = 4;

function drawn(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function patchingPanel(link, root) {
  const title = make("div", { class: "iw-title" });
  const tokens = make("div", { class: "iw-patching-tokens", "aria-hidden": "true" });
  const corner = make("div", { class: "iw-patching-corner", "aria-hidden": "true" });
  const names = make("canvas");
  const side = make("div", { class: "iw-patching-names" }, names);
  const base = make("canvas");
  const rings = make("div", { class: "iw-patching-rings" });
  const cell = make("div", { role: "gridcell", id: `${link.id}-patching-cell` });
  const stage = make("div", { class: "iw-stage", role: "grid", tabindex: "0", "aria-label": "effects of patching",
    "aria-activedescendant": cell.id }, base, rings, make("div", { role: "row", class: "iw-hidden" }, cell));
  const scroll = make("div", { class: "iw-scroll iw-patching-scroll" },
    make("div", { class: "iw-patching-top" }, corner, tokens),
    make("div", { class: "iw-patching-body" }, side, stage));
  const rows = make("select", { "aria-label": "Rows" });
  const prompts = make("select", { "aria-label": "Tokens of prompt" });
  const rowsBox = make("label", { class: "iw-choice" }, make("span", {}, "Rows"), rows);
  const promptsBox = make("label", { class: "iw-choice" }, make("span", {}, "Tokens of prompt"), prompts);
  const listed = make("button", { type: "button", "aria-expanded": "false" }, "Table");
  const legend = make("div", { class: "iw-legend" });
  const note = make("p", { class: "iw-note" });
  const table = make("div", { class: "iw-table", hidden: true });
  root.append(make("div", { class: "iw-tools" }, rowsBox, promptsBox, listed), title, note, scroll, legend, table);

  let data = null;
  let made = null;
  let order = [];
  let layout = null;
  let cursor = null;
  let asked = "";
  let options = [];

  /** The payload with its numbers as arrays; made anew only where the payload is another one. */
  function read() {
    const payload = link.payload("patching");
    if (payload === made) return;
    made = payload;
    data = payload && readPatching(payload);
    cursor = null;
    if (!data) return;
    options = rowOptions(data);
    if (!options.some(([value]) => value === asked)) asked = options[0]?.[0] ?? "";
    rows.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
    rows.value = asked;
    rowsBox.hidden = options.length < 2;
  }

  const chosen = () => link.get("sel") ?? [];
  const isChosen = (members) => members.some((one) => chosen().some((head) => head.join() === one.join()));
  const membersOf = (i, j) => data.members[data.grid ? i * data.across + j : i];

  /** The prompt whose tokens stand above: one that came with the scores, else the state's own. */
  function promptShown() {
    const number = link.get("prompt") ?? 0;
    const own = link.header.prompt;
    if (data.prompts[number]) return { ...data.prompts[number], number };
    if (own && data.axis === "position") return { clean: own.queries, corrupt: null, differ: [], spans: own.spans ?? {}, number };
    return data.prompts[0] ? { ...data.prompts[0], number: 0 } : null;
  }

  const preview = (row) => row.labels.filter((_, t) => !row.special.includes(t)).join("").replaceAll("·", " ").trim().slice(0, 40);
  const spanOf = (j) => columnTokens(data, promptShown(), j);
  const sentence = (i, j) => cellSentence(data, promptShown(), i, j);
  const tokenText = (j) => columnText(data, promptShown(), j);

  function draw() {
    read();
    const empty = !data || !data.mean.some(Number.isFinite);
    for (const part of [scroll, legend, title, listed]) part.hidden = empty;
    rowsBox.hidden = empty || options.length < 2;
    promptsBox.hidden = empty || !!link.header.prompt || data.prompts.length < 2;
    note.hidden = false;
    if (empty) {
      layout = null;
      table.hidden = true;
      note.textContent = data ? "Nothing to draw: no cell has a value." : "No effects of patching were given.";
      return;
    }
    order = rowOrder(data, asked, isChosen);
    prompts.replaceChildren(...data.prompts.map((one, i) => make("option", { value: i },
      `${i}: ${preview(one.clean)}`)));
    prompts.value = String(promptShown()?.number ?? 0);
    paint();
    describe();
    drawRings();
    remark();
    if (!table.hidden) list();
  }

  function paint() {
    const styles = getComputedStyle(link.root);
    const ratio = Math.min(globalThis.devicePixelRatio || 1, 3);
    const longest = Math.max(...data.rows.map((name) => name.length));
    const heads = columnHeads(data, promptShown());
    const left = Math.max(longest * 7.2 + 16, heads.some((one) => one.corrupt !== undefined && one.corrupt !== null) ? 78 : 52);
    const room = Math.max(180, Math.min(root.clientWidth || 620, 1140) - left - 10);
    const wide = Math.max(...heads.map((one) => Math.max(cut(one.clean).length, cut(one.corrupt ?? "").length))) * LETTER + 4;
    const flat = Math.max(10, Math.min(data.grid ? 64 : Math.max(40, Math.min(wide, 140)), Math.floor(room / data.across)));
    const pitch = Math.min(data.across > room / 10 ? Math.max(4, Math.min(flat, room / data.across)) : flat,
      WIDEST / ratio / data.across);
    const high = data.grid ? Math.max(ROW, Math.min(40, pitch)) : Math.max(4, Math.min(ROW, TALLEST / Math.max(1, order.length)));
    layout = { left, pitch, high, width: pitch * data.across, height: high * order.length };
    const pen = fit(base, layout.width + 1, layout.height + 1);
    stage.style.width = `${layout.width + 1}px`;
    stage.style.height = `${layout.height + 1}px`;
    stage.setAttribute("aria-rowcount", order.length);
    stage.setAttribute("aria-colcount", data.across);
    const stripes = hatch(pen, styles.getPropertyValue("--iw-hatch"));
    order.forEach((i, r) => {
      for (let j = 0; j < data.across; j++) paintCell(pen, i * data.across + j, j * pitch, r * high, stripes, styles);
    });
    writeNames(styles);
    writeTokens(heads);
  }

  /** Cells whose interval includes zero are drawn small, in a frame, so that nothing depends on the hue alone. */
  function paintCell(pen, at, x, y, stripes, styles) {
    const value = data.mean[at];
    const gap = layout.pitch > 6 && layout.high > 6 ? 1 : 0;
    const [w, h] = [layout.pitch - gap, layout.high - gap];
    if (!Number.isFinite(value)) {
      pen.fillStyle = stripes;
      pen.fillRect(x, y, w, h);
      return;
    }
    const colour = metricColour(value, data.limit, true, link.palette);
    const unsure = includesZero(data, at);
    const inset = unsure ? [Math.max(1, Math.min(5, w / 5)), Math.max(1, Math.min(4, h / 5))] : [0, 0];
    if (unsure) {
      pen.fillStyle = styles.getPropertyValue("--iw-faint");
      pen.fillRect(x, y, w, h);
    }
    pen.fillStyle = css(colour);
    pen.fillRect(x + inset[0], y + inset[1], w - 2 * inset[0], h - 2 * inset[1]);
    const text = cellNumber(data, at);
    if (!text || h < 13 || text.length * 6.4 + 2 > w) return;
    pen.fillStyle = inkOn(colour);
    pen.font = "11px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.fillText(text, x + w / 2, y + h / 2 + 0.5);
  }

  function writeNames(styles) {
    const pen = fit(names, layout.left, layout.height + 1);
    side.style.width = `${layout.left}px`;
    const step = Math.max(1, Math.ceil(13 / layout.high));
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    order.forEach((i, r) => {
      const picked = !data.grid && isChosen(data.members[i]);
      if (picked) {
        pen.fillStyle = link.palette.ring;
        pen.fillRect(layout.left - 4, r * layout.high, 3, Math.max(1, layout.high - 1));
      }
      if (r % step && !picked) return;
      pen.font = `${picked ? "650 " : ""}12px system-ui, sans-serif`;
      pen.fillStyle = styles.getPropertyValue(picked ? "--iw-text" : "--iw-muted");
      pen.fillText(data.rows[i], layout.left - 8, r * layout.high + layout.high / 2);
    });
  }

  const cut = (label) => {
    const letters = [...label];
    return letters.length > CUT ? `${letters.slice(0, 7).join("")}…${letters.slice(-6).join("")}` : label;
  };

  /** The tokens as text: side by side where they fit, else turned; where there are too many, some and those that differ. */
  function writeTokens(heads) {
    const labels = (name) => heads.map((one) => cut(one[name] ?? ""));
    const lengths = (list) => Math.max(0, ...list.map((label) => [...label].length));
    const both = heads.some((one) => one.corrupt !== null && one.corrupt !== undefined);
    const turned = Math.max(lengths(labels("clean")), lengths(labels("corrupt"))) * LETTER + 2 > layout.pitch;
    const shown = labelledColumns(heads, layout.pitch, turned ? LINE + 1 : layout.pitch);
    const bands = both ? ["clean", "corrupt"] : ["clean"];
    const tall = (name) => {
      const written = shown.filter((j) => name === "clean" || heads[j].differs).map((j) => cut(heads[j][name] ?? ""));
      return turned ? lengths(written) * LETTER + 8 : 20;
    };
    tokens.style.width = `${layout.width}px`;
    corner.style.width = `${layout.left}px`;
    const alone = data.grid ? "" : data.places ? "token" : data.axis;
    const called = (name) => (!both ? alone : name === "clean" ? "clean" : "corrupted");
    corner.replaceChildren(...bands.map((name) => make("div", { style: `height:${tall(name)}px` }, make("span", {}, called(name)))));
    tokens.replaceChildren(...bands.map((name) => {
      const high = tall(name);
      const band = drawn("svg", { width: layout.width, height: high, style: "display:block" });
      for (const j of shown) {
        const one = heads[j];
        const text = cut(one[name] ?? "");
        if (!text || (name === "corrupt" && !one.differs && turned)) continue;
        const classes = ["iw-patching-token", one.differs && "iw-patching-differs", one.special && "iw-patching-special",
          both && !one.differs && "iw-patching-same"].filter(Boolean).join(" ");
        const middle = (j + 0.5) * layout.pitch;
        const wide = turned ? LINE + 2 : layout.pitch;
        const place = turned ? { transform: `translate(${Math.max(9, middle + 4)} ${high - 4}) rotate(-90)` }
          : { x: middle, y: high - 6, "text-anchor": "middle" };
        band.append(drawn("g", { class: classes, "data-j": j },
          drawn("rect", { x: middle - wide / 2, y: 0, width: wide, height: high - 1, rx: 3 }),
          drawn("text", { ...place, "text-decoration": one.differs ? "underline" : "none" }, text)));
      }
      return band;
    }));
  }

  function describe() {
    const shown = promptShown();
    const several = data.prompts.length > 1 && shown;
    title.replaceChildren(make("strong", {}, data.name),
      ...(data.direction ? [make("span", { class: "iw-badge" }, data.direction)] : []),
      ...(data.n ? [make("span", { class: "iw-badge" }, `${data.n} prompt${data.n === 1 ? "" : "s"}`)] : []),
      ...(scattered(data) && data.n > 1 ? [make("span", { class: "iw-badge iw-warn", title: "measure at named spans instead" },
        "a position is another word in other prompts: named spans compare like with like")] : []));
    const across = data.grid ? "heads" : data.places ? "tokens" : data.axis;
    stage.setAttribute("aria-label", `${data.name}, rows are ${data.ofHeads && !data.grid ? "heads" : "layers"}, columns ${across}`);
    const stops = [...link.palette.negative].reverse().concat(link.palette.positive);
    const bar = make("i", { class: "iw-bar iw-patching-bar", style: `background:linear-gradient(90deg,${stops.join(",")})` });
    const parts = [make("span", {}, number(-data.limit), bar, number(data.limit), data.unit ? ` ${data.unit}` : "",
      ", centred at 0"), make("span", {}, data.reads || "blue is positive, red negative")];
    if (data.sure) {
      parts.push(make("span", {}, make("i", { class: "iw-patching-small" }, make("b")), "small: the 95 % interval includes zero"));
    } else parts.push(make("span", {}, data.n === 1 ? "no intervals: one prompt" : "no intervals: plain numbers"));
    if (data.missing) parts.push(make("span", {}, make("i", { class: "iw-bar iw-hatched" }), "not measured"));
    if (shown?.differ.length) parts.push(make("span", {}, make("u", {}, "underlined"), ": clean and corrupted token differ"));
    if (shown?.unaligned) parts.push(make("span", {}, "the corrupted prompt has another number of tokens and is not shown"));
    if (several && data.n > 1) {
      parts.push(make("span", {}, `tokens of prompt ${shown.number}, effects are means over ${data.n} prompts`));
    }
    if (data.note) parts.push(make("span", {}, data.note));
    if (data.leftOut) parts.push(make("span", {}, `${data.leftOut} heads of smaller effects are left out here`));
    if (data.empty) parts.push(make("span", {}, `${data.empty} rows without any value are left out`));
    legend.replaceChildren(...parts);
  }

  /** What is selected and not among the rows. */
  function remark() {
    if (!data || !layout) return;
    const seen = new Set(order.flatMap((i) => data.grid ? [] : data.members[i].map((head) => head.join())));
    const known = new Map(data.members.flatMap((list, i) => (data.grid ? [] : list.map((head) => [head.join(), data.rows[i]]))));
    const hidden = data.ofHeads && !data.grid ? chosen().filter((head) => !seen.has(head.join())) : [];
    const there = hidden.filter((head) => known.has(head.join()));
    const parts = [];
    if (!order.length) parts.push("No selected head has a row here: select some, or choose other rows.");
    if (there.length) {
      const more = there.length > 4 ? ` and ${there.length - 4} more` : "";
      const text = there.slice(0, 4).map((head) => known.get(head.join())).join(", ");
      parts.push(`${text}${more} selected, not among these rows. `,
        make("button", { type: "button", onclick: () => show("sel") }, "Show the selected heads"));
    }
    note.replaceChildren(...parts);
    note.hidden = !parts.length;
  }

  function show(which) {
    asked = which;
    rows.value = which;
    cursor = null;
    scroll.scrollTop = 0;
    draw();
  }

  function columnsAt(token, byKey) {
    if (token < 0 || data.grid) return [];
    return data.columns.map((_, j) => j).filter((j) => {
      const span = spanOf(j);
      return span && token >= span[0] && token < span[1];
    }).map((j) => [j, byKey ? link.palette.key : link.palette.query]);
  }

  function drawRings() {
    if (!layout || !data) return;
    const styles = getComputedStyle(link.root);
    const box = (x, y, w, h, colour, line) => make("i", { style: `left:${x - line}px;top:${y - line}px;`
      + `width:${w + 2 * line - 1}px;height:${h + 2 * line - 1}px;border:${line}px solid ${colour}` });
    const { pitch, high, width, height } = layout;
    const columns = [...columnsAt(link.get("key"), true), ...columnsAt(link.get("query"), false)];
    const parts = columns.map(([j, colour]) => box(j * pitch, 0, pitch, height, colour, 1.5));
    const marked = new Set(columns.map(([j]) => j));
    for (const one of tokens.querySelectorAll("[data-j]")) {
      one.classList.toggle("iw-patching-here", marked.has(Number(one.dataset.j)));
    }
    const hover = link.get("hover");
    const over = hover?.length === 2 ? hover.join() : "";
    const few = data.grid || order.filter((i) => isChosen(data.members[i])).length <= MARKED;
    order.forEach((i, r) => {
      if (!data.grid) {
        if (few && isChosen(data.members[i])) parts.push(box(0, r * high, width, high, link.palette.ring, 2));
        else if (data.members[i].some((one) => one.join() === over)) {
          parts.push(box(0, r * high, width, high, styles.getPropertyValue("--iw-muted"), 1));
        }
        return;
      }
      for (let j = 0; j < data.across; j++) {
        if (isChosen(membersOf(i, j))) parts.push(box(j * pitch, r * high, pitch, high, link.palette.ring, 2));
        else if (membersOf(i, j).some((one) => one.join() === over)) {
          parts.push(box(j * pitch, r * high, pitch, high, styles.getPropertyValue("--iw-text"), 1));
        }
      }
    });
    if (cursor && cursor[0] < order.length) {
      parts.push(box(cursor[1] * pitch, cursor[0] * high, pitch, high, styles.getPropertyValue("--iw-text"), 2));
    }
    rings.replaceChildren(...parts);
  }

  /** The token of a column in the state's terms: as the key where keys or values were patched, else as the query. */
  function place(j) {
    const span = spanOf(j);
    const most = link.header.prompt?.queries.labels.length ?? Infinity;
    if (!span || span[0] >= most) return {};
    return data.key ? { key: span[0], query: -1 } : { query: span[0], key: -1 };
  }

  function pick(i, j, add) {
    const members = membersOf(i, j);
    const same = (a, b) => a.join() === b.join();
    let heads = members;
    if (add) {
      const rest = chosen().filter((one) => !members.some((other) => same(one, other)));
      heads = isChosen(members) ? rest : [...rest, ...members];
    }
    link.set({ ...(members.length ? { sel: heads.map((one) => [...one]) } : {}), ...place(j) });
    link.say(`${sentence(i, j)}; ${members.length ? (isChosen(members) ? "selected" : "no longer selected") : "token selected"}`);
  }

  function look(to) {
    cursor = to;
    const members = to ? membersOf(order[to[0]], to[1]) : [];
    link.set({ hover: members.length ? [...members[0]] : [] }, true);
    drawRings();
    if (!to) return;
    cell.textContent = sentence(order[to[0]], to[1]);
    cell.setAttribute("aria-rowindex", to[0] + 1);
    cell.setAttribute("aria-colindex", to[1] + 1);
    cell.setAttribute("aria-selected", String(isChosen(members)));
  }

  function list() {
    const kept = new Set(order);
    const cells = data.ranked.filter((at) => kept.has(Math.floor(at / data.across)));
    const heads = [data.ofHeads ? "head" : "layer", ...(data.grid ? [] : [data.places ? "token" : data.axis]),
      data.unit || "effect", "95 % interval", "prompts"];
    const body = cells.slice(0, LISTED).map((at) => {
      const [i, j] = [Math.floor(at / data.across), at % data.across];
      const n = data.counts?.[j] ?? data.n;
      return make("tr", {},
        make("th", { scope: "row" }, make("button", { type: "button", onclick: () => pick(i, j, false) },
          cellName(data, i, j))),
        ...(data.grid ? [] : [make("td", { class: "iw-patching-where" }, tokenText(j))]),
        make("td", {}, number(data.mean[at])),
        make("td", {}, Number.isFinite(data.low[at]) ? `${number(data.low[at])} to ${number(data.high[at])}` : "–"),
        make("td", {}, n ? `${n}` : "–"));
    });
    const more = cells.length > LISTED ? `, the first ${LISTED} of ${cells.length} by size` : ", largest first";
    table.replaceChildren(make("table", {}, make("caption", {}, `${data.name}${more}`),
      make("thead", {}, make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text)))), make("tbody", {}, ...body)));
  }

  const under = (event) => {
    if (!layout) return null;
    const box = stage.getBoundingClientRect();
    const [j, r] = [Math.floor((event.clientX - box.left) / layout.pitch), Math.floor((event.clientY - box.top) / layout.high)];
    return j >= 0 && j < data.across && r >= 0 && r < order.length ? [r, j] : null;
  };
  stage.addEventListener("pointermove", (event) => {
    const to = under(event);
    if (to?.join() !== cursor?.join()) look(to);
    link.point(event, to ? sentence(order[to[0]], to[1]) : "");
  });
  stage.addEventListener("pointerleave", (event) => {
    look(null);
    link.point(event, "");
  });
  stage.addEventListener("click", (event) => {
    const to = under(event);
    if (!to) return;
    pick(order[to[0]], to[1], event.ctrlKey || event.metaKey || event.shiftKey);
    look(to);
  });
  stage.addEventListener("blur", () => look(null));
  stage.addEventListener("keydown", (event) => {
    if (!layout || !order.length || event.ctrlKey || event.metaKey || event.altKey) return;
    let [r, j] = cursor ?? start();
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], PageUp: [-10, 0],
      PageDown: [10, 0], Home: [0, -Infinity], End: [0, Infinity] }[event.key];
    if (step) {
      r = Math.max(0, Math.min(order.length - 1, r + (cursor ? step[0] : 0)));
      j = Math.max(0, Math.min(data.across - 1, j + (cursor || !Number.isFinite(step[1]) ? step[1] : 0)));
      look([r, j]);
      reveal(r, j);
      link.say(sentence(order[r], j));
    } else if (event.key === "Enter" || event.key === " ") {
      pick(order[r], j, event.key === " ");
      look([r, j]);
    } else if (event.key === "Escape") {
      look(null);
      link.set({ sel: [], key: -1 });
      link.say("nothing selected");
    } else return;
    event.preventDefault();
  });

  /** Where the keyboard begins: the selected row and token, else the largest effect. */
  function start() {
    const r = order.findIndex((i) => !data.grid && isChosen(data.members[i]));
    const columns = [...columnsAt(link.get("query"), false), ...columnsAt(link.get("key"), true)];
    if (r >= 0 && columns.length) return [r, columns[0][0]];
    const best = data.ranked.find((at) => order.includes(Math.floor(at / data.across))) ?? 0;
    return [Math.max(0, order.indexOf(Math.floor(best / data.across))), best % data.across];
  }

  function reveal(r, j) {
    const top = tokens.offsetHeight;
    const [y, x] = [r * layout.high + top, j * layout.pitch + layout.left];
    if (y - top < scroll.scrollTop) scroll.scrollTop = Math.max(0, y - top - 2);
    if (y + layout.high > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = y + layout.high - scroll.clientHeight + 6;
    if (x - layout.left < scroll.scrollLeft) scroll.scrollLeft = x - layout.left;
    if (x + layout.pitch > scroll.scrollLeft + scroll.clientWidth) scroll.scrollLeft = x + layout.pitch - scroll.clientWidth + 6;
  }

  tokens.addEventListener("click", (event) => {
    const j = Number(event.target.closest?.("[data-j]")?.dataset.j ?? -1);
    if (j < 0) return;
    link.set(place(j));
    link.say(tokenText(j));
  });
  tokens.addEventListener("pointermove", (event) => {
    const j = Number(event.target.closest?.("[data-j]")?.dataset.j ?? -1);
    link.point(event, j >= 0 ? tokenText(j) : "");
  });
  tokens.addEventListener("pointerleave", (event) => link.point(event, ""));
  side.addEventListener("click", (event) => {
    const r = Math.floor((event.clientY - names.getBoundingClientRect().top) / (layout?.high ?? 1));
    const members = !data?.grid && data?.members[order[r]];
    if (members?.length) link.set({ sel: members.map((one) => [...one]) });
  });
  rows.addEventListener("change", () => show(rows.value));
  prompts.addEventListener("change", () => link.set({ prompt: Number(prompts.value) }));
  listed.addEventListener("click", () => {
    table.hidden = !table.hidden;
    listed.setAttribute("aria-expanded", String(!table.hidden));
    if (!table.hidden && data) list();
  });
  link.drawn(["payloads", "header", "prompt"], draw);
  link.drawn(["sel"], () => {
    if (!layout) return;
    if (asked === "sel") draw();
    else {
      writeNames(getComputedStyle(link.root));
      drawRings();
      remark();
    }
  });
  link.drawn(["hover", "query", "key"], drawRings);

  /** For export: what it shows, and every cell as a row. */
  return {
    name: "patching",
    title: () => (data ? data.name : patchingTitle),
    rows: () => (data ? cellRows(data, promptShown()) : []),
  };
}
