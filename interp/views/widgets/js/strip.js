// The token strip: the prompt as text, shaded by what the chosen query attends to, or by who attends to the chosen key.

import { column, columnOf, css, headName, inkOn, known, mix, row, rowOf, weightText } from "./core.js";
import { choice, make } from "./base.js";

const MOST = 2000;

export function stripPanel(link, root) {
  const line = make("div", { class: "iw-strip", role: "listbox", tabindex: "0", "aria-label": "tokens of the prompt" });
  const title = make("div", { class: "iw-title" });
  const note = make("p", { class: "iw-note", hidden: true });
  const prompts = choice(link, "Prompt", "prompt", () => (link.header.prompts ?? []).map((text, i) => [i, text]));
  root.append(make("div", { class: "iw-head" }, title, make("div", { class: "iw-tools" }, prompts)), note, line);
  let chips = [];
  let first = 0;
  let shown = "";
  let cursor = -1;

  const byKey = () => link.get("key") >= 0 && link.get("query") < 0;
  const tokens = () => (byKey() ? link.header.prompt.queries : link.header.prompt.keys);

  function draw() {
    const prompt = link.header.prompt;
    line.hidden = !prompt;
    note.hidden = !!prompt;
    if (!prompt) {
      note.textContent = "No prompt here: scores alone were given.";
      title.replaceChildren();
      return;
    }
    write();
    shade();
  }

  /** One chip for each token; of very long prompts only those around the one that is looked at. */
  function write() {
    const { labels, special, breaks, titles } = tokens();
    const focus = Math.max(0, cursor >= 0 ? cursor : byKey() ? link.get("key") : link.get("query"));
    first = labels.length > MOST ? Math.max(0, Math.min(labels.length - MOST, focus - MOST / 2)) : 0;
    const name = `${link.header.id}.${link.get("prompt")}.${byKey()}.${first}`;
    if (name === shown) return;
    shown = name;
    const last = Math.min(labels.length, first + MOST);
    chips = [];
    line.replaceChildren();
    const beyond = (count) => make("span", { class: "iw-more", role: "presentation" }, `… ${count} tokens …`);
    if (first) line.append(beyond(first));
    for (let i = first; i < last; i++) {
      const chip = make("span", { class: special.includes(i) ? "iw-chip iw-special" : "iw-chip", role: "option",
        id: `${link.id}-t${i}`, "aria-selected": "false", "data-i": i, title: titles?.[i] ?? null, dir: "auto" }, labels[i]);
      chip.plain = chip.className;
      chips.push(chip);
      line.append(chip, document.createElement("wbr"));
      if (breaks.includes(i)) line.append(document.createElement("br"));
    }
    if (last < labels.length) line.append(beyond(labels.length - last));
  }

  function shade() {
    const head = link.looked;
    const full = head ? link.full(head) : null;
    const ready = full && !full.absent;
    const [query, key] = [link.get("query"), link.get("key")];
    const back = byKey();
    const stops = back ? link.palette.fromKey : link.palette.fromQuery;
    let weights = null;
    let code = () => 0;
    let place = (i) => i;
    if (ready && back && columnOf(key, full.block) < full.columns) {
      const j = columnOf(key, full.block);
      weights = column(full, j);
      place = (i) => rowOf(i, full.block);
      code = (i) => full.codes[place(i) * full.columns + j];
    } else if (ready && query >= 0 && rowOf(query, full.block) < full.rows) {
      const i = rowOf(query, full.block);
      weights = row(full, i);
      place = (k) => columnOf(k, full.block);
      code = (k) => full.codes[i * full.columns + place(k)];
    }
    let most = 0;
    if (weights) for (let i = back ? 0 : 1; i < weights.length; i++) if (weights[i] > most) most = weights[i];
    const labels = tokens().labels;
    const chosen = back ? key : query;
    chips.forEach((chip, n) => {
      const i = first + n;
      const weight = weights ? weights[place(i)] : NaN;
      const apart = !back && i === 0;
      const hidden = apart && link.get("sink") !== "show";
      const colour = Number.isFinite(weight) && !hidden ? mix(apart ? link.palette.sink : stops, weight / (apart ? 1 : most || 1)) : null;
      const shade_ = colour ? css(colour) : "";
      if (chip.shade !== shade_) {
        chip.shade = shade_;
        chip.style.background = shade_;
        chip.style.color = colour ? inkOn(colour) : "";
      }
      const seen = weights ? code(i) : 2;
      const said = `${chip.plain}${seen === 0 ? " iw-out" : seen === 1 ? " iw-bad" : ""}${i === chosen ? " iw-from" : ""}`
        + `${!back && i === key ? " iw-to" : ""}${i === cursor ? " iw-cursor" : ""}`;
      if (chip.said === said) return;
      chip.said = said;
      chip.className = said;
      chip.setAttribute("aria-selected", String(i === chosen));
    });
    if (cursor >= 0) line.setAttribute("aria-activedescendant", `${link.id}-t${cursor}`);
    else line.removeAttribute("aria-activedescendant");
    const who = head ? headName(link.header.layers[head[0]], head[1], link.header.attention) : "no head";
    const what = chosen < 0 || chosen >= labels.length ? "click a token: what does it attend to?"
      : back ? `which queries attend to ${labels[chosen]} (${chosen})` : `what ${link.header.prompt.queries.labels[chosen]} (${chosen}) attends to`;
    title.replaceChildren(make("strong", {}, who), ` ${what}`,
      ...(weights && !back && Number.isFinite(weights[0])
        ? [make("span", { class: "iw-badge" }, `first key ${weightText(code(0), full.bits)}`)] : []),
      make("span", { class: "iw-fine" }, ready && full.block > 1 ? `largest of ${full.block} tokens` : "",
        back ? "" : " shift-click: who attends to it?"));
    line.ready = { code, full, back, weights };
  }

  function sentence(i) {
    const { code, full, back, weights } = line.ready ?? {};
    const label = `${tokens().labels[i]} (${i})`;
    return weights ? `${label}: ${back ? "gives" : "gets"} ${weightText(code(i), full.bits)}` : label;
  }

  function pick(i, backwards) {
    cursor = i;
    link.set(backwards ? { key: i, query: -1 } : { query: i, key: -1 });
    shade();
    link.say(backwards ? `who attends to ${link.header.prompt.keys.labels[i]} (${i})` : `query ${link.header.prompt.queries.labels[i]} (${i})`);
  }

  const chipOf = (event) => {
    const chip = event.target.closest?.(".iw-chip");
    return chip ? Number(chip.dataset.i) : -1;
  };
  line.addEventListener("click", (event) => {
    const i = chipOf(event);
    if (i >= 0) pick(i, event.shiftKey);
  });
  line.addEventListener("pointermove", (event) => {
    const i = chipOf(event);
    link.point(event, i >= 0 ? sentence(i) : "");
  });
  line.addEventListener("pointerleave", (event) => link.point(event, ""));
  line.addEventListener("blur", () => {
    cursor = -1;
    shade();
  });
  line.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const count = tokens().labels.length;
    const from = cursor >= 0 ? cursor : Math.max(0, byKey() ? link.get("key") : link.get("query"));
    const to = { ArrowLeft: from - 1, ArrowRight: from + 1, ArrowUp: from - 10, ArrowDown: from + 10, Home: 0, End: count - 1 }[event.key];
    if (to !== undefined) {
      cursor = Math.max(0, Math.min(count - 1, to));
      write();
      shade();
      chips[cursor - first]?.scrollIntoView({ block: "nearest" });
      link.say(sentence(cursor));
    } else if (event.key === "Enter" || event.key === " ") pick(from, event.shiftKey);
    else if (event.key === "Escape") link.set({ key: -1 });
    else return;
    event.preventDefault();
  });
  link.drawn(["header", "prompt", "sel", "hover", "query", "key", "sink", "full_key"], draw);

  function rows() {
    const { code, full, weights } = line.ready ?? {};
    return [["token", "index", "weight", "off by at most"], ...(link.header.prompt ? tokens().labels : []).map((label, i) => [label, i,
      ...(weights ? known(code(i), full.bits) : [null, null])])];
  }
  return { name: "tokens", rows };
}
