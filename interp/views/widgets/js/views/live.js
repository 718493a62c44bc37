// Live: a prompt to edit and an intervention on the selected heads; the next token and the metric before and after.

import { headName, number } from "../core.js";
import { make } from "../base.js";

export const liveTitle = "Live";

const SVG_NAME = "http://www.w3.org/2000/svg";
const TYPED = 350;
const CLICKED = 40;
const LOST = 30000;
const HEADS = 12;
const LABEL = 96;
const VALUE = 190;
const LINE = 26;
const NOT_HERE = "Effects are computed while one looks, and no Python is behind this view: open it in a notebook whose kernel runs, "
  + "as interp.views.workbench(model, batch).";

export function livePanel(link, root) {
  const group = make("div", { class: "iw-live-group", role: "radiogroup", "aria-label": "intervention on the selected heads" });
  const factor = make("input", { type: "number", step: "0.25", value: "0.5", class: "iw-live-factor", "aria-label": "factor of the scale" });
  const times = make("label", { class: "iw-choice", hidden: true }, make("span", {}, "×"), factor);
  const title = make("div", { class: "iw-title" });
  const area = make("textarea", { rows: "3", spellcheck: "false", dir: "auto", class: "iw-live-text", "aria-label": "prompt, to be edited" });
  const reset = make("button", { type: "button", onclick: () => back() }, "Original prompt");
  const [answer, wrong] = ["answer", "against"].map((label) => make("input", { type: "text", size: "10", "aria-label": `${label}, one token` }));
  const waiting = make("span", { class: "iw-fine", hidden: true }, "computing …");
  const note = make("p", { class: "iw-note", hidden: true });
  const warning = make("p", { class: "iw-live-warning", role: "alert", hidden: true });
  const told = make("div", { class: "iw-live-told" });
  const picture = document.createElementNS(SVG_NAME, "svg");
  const table = make("table", { class: "iw-live-tokens" });
  const edit = make("div", { class: "iw-live-edit" }, area, make("div", { class: "iw-live-answers" },
    make("label", { class: "iw-choice" }, make("span", {}, "Answer"), answer),
    make("label", { class: "iw-choice" }, make("span", {}, "against"), wrong), reset, waiting));
  const effect = make("div", { class: "iw-live-effect", "aria-live": "off" }, told, picture);
  const both = make("div", { class: "iw-live-both" }, make("div", {}, edit, warning, effect), make("div", { class: "iw-scroll" }, table));
  root.append(make("div", { class: "iw-tools" }, group, times), title, note, both);

  let kind = "none";
  let shown = -1;
  let base = 0;
  let found = null;
  let refused = "";
  let asked = "";
  let due = "";
  let timer = 0;
  let busy = 0;
  let buttons = new Map();

  const data = () => link.payload("live");
  const chosen = () => (link.get("sel") ?? []).filter((head) => head[1] < (link.header.heads[head[0]] ?? 0));
  const name = (head) => headName(link.header.layers[head[0]], head[1], link.header.attention);
  const names = () => chosen().slice(0, HEADS).map(name).join(", ") + (chosen().length > HEADS ? ` and ${chosen().length - HEADS} more` : "");
  const own = (which) => data().interventions.find((one) => one.name === which);

  function build() {
    if (buttons.size || !data()) return;
    for (const { name: id, label, what, marks } of data().interventions) {
      const about = `${what}${marks.length ? `: ${marks.join(", ")}` : ""}`;
      const button = make("button", { type: "button", role: "radio", title: about, onclick: () => pick(id) }, label);
      buttons.set(id, button);
      group.append(button);
    }
  }

  function pick(id) {
    kind = id;
    draw();
    wish(CLICKED);
  }

  group.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const all = [...buttons.keys()];
    pick(all[(all.indexOf(kind) + by + all.length) % all.length]);
    buttons.get(kind).focus();
  });
  for (const field of [area, answer, wrong, factor]) field.addEventListener("input", () => wish(TYPED));

  function back() {
    area.value = data().texts[base] ?? "";
    shown = -1;
    link.set({ prompt: base });
    wish(0);
  }

  /** Follow the prompt that is looked at, unless it is the one that is being typed. */
  function follow() {
    const at = link.get("prompt");
    if (at === shown || !data()) return;
    shown = at;
    const { texts, edits } = data();
    const edited = edits[at - texts.length];
    const to = edited ? edited.base : Math.min(at, texts.length - 1);
    const root = area.getRootNode();
    if (edited && to === base && root.activeElement === area) return;
    if (to !== base) answer.value = wrong.value = "";
    base = to;
    area.value = edited ? edited.text : texts[base] ?? "";
  }

  function question() {
    const { texts } = data();
    const text = texts[base] === null || area.value === texts[base] ? null : area.value;
    const asks = { base, text, do: kind, answer: answer.value, wrong: wrong.value };
    if (kind !== "none") asks.heads = chosen();
    if (kind === "scale") asks.factor = Number(factor.value) || 0;
    if (kind === "row") Object.assign(asks, { query: link.get("query"), key: link.get("key") });
    return asks;
  }

  function wish(wait) {
    if (!link.live("live") || root.hidden) return;
    reset.disabled = area.value === (data().texts[base] ?? "");
    due = JSON.stringify(question());
    clearTimeout(timer);
    if (due !== asked) timer = setTimeout(send, wait);
    waiting.hidden = due === asked && !busy;
  }

  /** One question at a time; what changed meanwhile is asked after its answer, and only the newest. */
  function send() {
    if (busy || due === asked) return;
    asked = due;
    busy = setTimeout(() => hear({ error: "Python has not answered: is the kernel running, or busy with a cell?" }), LOST);
    const mine = busy;
    link.ask("live", JSON.parse(asked)).then((given) => {
      if (mine === busy) hear(given);
    });
  }

  function hear(given) {
    clearTimeout(busy);
    busy = 0;
    refused = given.error ?? "";
    if (!refused) found = given;
    tell();
    wish(0);
    if (!refused) link.say(sentence());
  }

  const ends = (low, high) => (low === null || high === null ? "" : ` [${number(low)}, ${number(high)}]`);
  const value = ([mean, low, high]) => `${number(mean ?? NaN)}${ends(low, high)}`;
  const percent = (share) => (share === null ? "–" : share < 0.0005 ? "<0.1 %" : `${(100 * share).toFixed(1)} %`);

  function metricText() {
    const { name: metric, unit, n, of, task, before, after, change } = found.batch;
    const which = n < of ? `first ${n} of ${of} prompts` : `${n} ${n === 1 ? "prompt" : "prompts"}`;
    return `${metric} of ${which} of ${task}${found.batch.said ? ` (in each ${found.batch.said})` : ""}: ${value(before)} → ${value(after)} ${unit}, change ${value(change)}`;
  }

  /** The answers in this prompt: their logits' difference, and what the first of them gets of the probability. */
  function differenceText() {
    const [right, others] = ["answer", "wrong"].map((role) => found.tokens.filter((one) => one.role === role).map((one) => one.label));
    const some = (all) => all.slice(0, 2).join(", ") + (all.length > 2 ? " …" : "");
    const first = found.tokens.find((one) => one.role === "answer");
    const each = (values, write) => values.map(write).join(" → ");
    const share = first ? `; probability of ${first.label} ${each(first.values, (one) => percent(one[1]))}` : "";
    if (!found.difference) return `this prompt${share}`.replace("; ", ": ");
    return `this prompt: logit difference of ${some(right)} and ${some(others)} ${each(found.difference, (one) => number(one ?? NaN))}${share}`;
  }

  const answered = () => found.tokens.some((one) => one.role === "answer");

  function sentence() {
    const parts = [found.said || (found.columns.length > 1 ? "edited prompt" : "the model as it is")];
    if (found.batch) parts.push(metricText());
    else if (answered()) parts.push(differenceText());
    const first = found.tokens[0];
    if (first) parts.push(`likeliest next token ${first.label}, ${percent(first.values[first.values.length - 1][1])}`);
    return parts.join("; ");
  }

  function draw() {
    const there = !!data() && link.live("live");
    note.hidden = there;
    note.textContent = there ? "" : NOT_HERE;
    for (const part of [group, both]) part.hidden = !there;
    times.hidden = !there || kind !== "scale";
    title.hidden = !there;
    if (!there) return;
    build();
    follow();
    for (const [id, button] of buttons) {
      button.setAttribute("aria-checked", String(id === kind));
      button.tabIndex = id === kind ? 0 : -1;
    }
    const texts = data().texts;
    area.disabled = texts[base] === null && area.value === "";
    area.placeholder = area.disabled ? "This prompt is too long to be edited here." : "";
    [answer, wrong].forEach((field, i) => { field.placeholder = data().answers[base][i] || "none"; });
    head();
    tell();
    wish(CLICKED);
  }

  function head() {
    const what = own(kind);
    const row = kind === "row" && link.header.prompt;
    const label = (side, i) => (i >= 0 && i < side.labels.length ? `${side.labels[i]} (${i})` : "none chosen");
    const words = kind === "none" ? "the model as it is; choose heads in the grid, then an intervention"
      : row ? `query ${label(link.header.prompt.queries, link.get("query"))} attends to key ${label(link.header.prompt.keys, link.get("key"))} alone` : what.what;
    title.replaceChildren(make("strong", {}, kind === "none" ? "No intervention" : `${what.label}: ${names() || "no head"}`),
      make("span", {}, words), ...what.marks.map((mark) => make("span", { class: "iw-badge iw-warn" }, mark)));
  }

  function tell() {
    warning.hidden = !refused;
    warning.textContent = refused;
    told.replaceChildren();
    table.replaceChildren();
    picture.replaceChildren();
    picture.setAttribute("height", 0);
    if (!found || refused) return;
    const lines = [];
    if (found.said && !found.acted) lines.push(["iw-live-warning", "This changes nothing in this prompt: the heads already do so here."]);
    if (answered()) lines.push(["", differenceText()]);
    if (found.batch) lines.push(["", `${metricText()} (larger: ${found.batch.sense})`]);
    if (found.why) lines.push(["iw-fine", found.why]);
    lines.push(["iw-fine", `${found.said ? `${found.said}. ` : ""}Intervals: 95 %, over prompts. Took ${number(found.seconds, 2)} s.`]);
    told.append(...lines.map(([kind_, text]) => make("p", { class: kind_ }, text)));
    if (found.batch) plot();
    list();
  }

  /** The metric of the batch before and after, with intervals, on one axis with zero on it. */
  function plot() {
    const { before, after, columns } = found.batch;
    const width = Math.max(260, Math.min(both.firstElementChild.clientWidth || 420, 620));
    const all = [0, ...before, ...after].filter((one) => one !== null);
    const [low, high] = [Math.min(...all), Math.max(...all)];
    const x = (one) => LABEL + ((one - low) / (high - low || 1)) * (width - LABEL - VALUE);
    const put = (tag, attributes, text) => {
      const part = document.createElementNS(SVG_NAME, tag);
      for (const [key, one] of Object.entries(attributes)) part.setAttribute(key, one);
      if (text) part.textContent = text;
      picture.append(part);
    };
    for (const [key, one] of Object.entries({ width, height: 2 * LINE + 6, viewBox: `0 0 ${width} ${2 * LINE + 6}`, "aria-hidden": "true" })) {
      picture.setAttribute(key, one);
    }
    put("path", { d: `M${x(0)} 2V${2 * LINE + 4}`, class: "iw-live-zero" });
    [before, after].forEach(([mean, from, to], i) => {
      const y = LINE * i + LINE / 2 + 3;
      put("text", { x: 0, y: y + 4, class: "iw-live-word" }, columns[i]);
      if (mean === null) return put("text", { x: LABEL, y: y + 4, class: "iw-live-word" }, "not a number");
      put("path", { d: `M${x(0)} ${y}H${x(mean)}`, class: `iw-live-bar iw-live-bar${i}` });
      if (from !== null && to !== null) put("path", { d: `M${x(from)} ${y}H${x(to)}M${x(from)} ${y - 4}v8M${x(to)} ${y - 4}v8`, class: "iw-live-end" });
      put("text", { x: width - VALUE + 12, y: y + 4, class: "iw-live-word" }, value([mean, from, to]));
    });
  }

  function list() {
    const twice = found.columns.length > 1;
    const heads = (texts, span) => make("tr", {}, ...texts.map((text) => make("th", { scope: span ? "colgroup" : "col", colspan: text && span }, text)));
    table.append(make("caption", {}, `next token after ${found.last}`), make("thead", {}, heads(["", "", ...found.columns], 3),
      heads(["token", "", ...found.columns.flatMap(() => ["logit", "probability", "rank"])])),
      make("tbody", {}, ...found.tokens.map(({ label, title: full, role, values }) => make("tr", { class: role ? `iw-live-${role}` : null },
        make("th", { scope: "row", title: full }, make("bdi", { class: "iw-chip" }, label)), make("td", {}, role),
        ...values.flatMap(([logit, share, rank], i) => {
          const cell = make("td", { class: "iw-live-share" }, percent(share));
          cell.style.setProperty("--share", `${100 * (share ?? 0)}%`);
          if (!twice || i) cell.classList.add("iw-live-now");
          return [make("td", {}, number(logit ?? NaN)), cell, make("td", {}, String(rank))];
        })))));
  }

  function rows() {
    if (!found) return [];
    const heads = found.columns.flatMap((column) => ["logit", "probability", "rank"].map((what) => `${column} ${what}`));
    const out = [["token", "role", ...heads], ...found.tokens.map(({ label, role, values }) => [label, role, ...values.flat()])];
    if (!found.batch) return out;
    const { name: metric, n, before, after, change } = found.batch;
    return [...out, [], [`${metric}, ${n} prompts`, "", "mean", "low", "high"], ["before", "", ...before], ["after", "", ...after], ["change", "", ...change]];
  }

  link.drawn(["header", "payloads", "prompt", "sel", "query", "key"], draw);
  return { name: "live", rows, title: () => found?.said || "next token" };
}
