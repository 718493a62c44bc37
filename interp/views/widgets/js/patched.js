// Pure functions of the patching map: its numbers, which rows in which order, what stands over a column, sentences. No DOM.

import { metricLimit, number } from "./core.js";

export const FEW_ROWS = 24;

/** A payload with its numbers as arrays, the limit of the colours, the size of each row and the rank of each cell. */
export function readPatching(payload) {
  const floats = (list) => Float64Array.from(list, (value) => (value === null ? NaN : value));
  const data = { ...payload, mean: floats(payload.mean), low: floats(payload.low), high: floats(payload.high),
    across: payload.columns.length };
  const largest = (list) => list.reduce((most, value) => Math.max(most, Math.abs(value) || 0), 0);
  const ranked = [...data.mean.keys()].filter((at) => Number.isFinite(data.mean[at]));
  ranked.sort((a, b) => Math.abs(data.mean[b]) - Math.abs(data.mean[a]));
  data.limit = metricLimit(data.mean);
  data.size = data.rows.map((_, i) => largest(data.mean.subarray(i * data.across, (i + 1) * data.across)));
  data.missing = data.mean.some(Number.isNaN);
  data.sure = data.low.some(Number.isFinite);
  data.ranked = ranked;
  data.rank = new Map(ranked.map((at, i) => [at, i + 1]));
  data.ofHeads = data.grid || data.members.some((list) => list.length > 0);
  return data;
}

/** What rows can be chosen, as [value, text]; the first is shown at first. */
export function rowOptions(data) {
  if (data.grid || !data.ofHeads) return [];
  const layers = [...new Set(data.layers)].sort((a, b) => a - b);
  return [
    ...(data.rows.length > FEW_ROWS ? [["few", `the ${FEW_ROWS} heads of largest effect`]] : []),
    ["all", "all heads, largest effect first"], ["model", "all heads, layer by layer"], ["sel", "selected heads"],
    ...(layers.length > 1 ? layers.map((layer) => [`${layer}`, `heads of layer ${layer}`]) : []),
  ];
}

/** The rows that are shown, in order. */
export function rowOrder(data, asked, isChosen) {
  const all = data.rows.map((_, i) => i);
  const bySize = () => all.sort((a, b) => data.size[b] - data.size[a] || a - b);
  if (asked === "few") return bySize().slice(0, FEW_ROWS);
  if (asked === "all") return bySize();
  if (asked === "sel") return bySize().filter((i) => isChosen(data.members[i]));
  if (asked === "" || asked === "model") return all;
  return all.filter((i) => String(data.layers[i]) === asked);
}

/** Where a column's token is in a prompt as [first, one after the last], or null. */
export function columnTokens(data, prompt, j) {
  if (data.grid) return null;
  if (!prompt) return data.places ? [data.places[j], data.places[j] + 1] : null;
  const count = prompt.clean.labels.length;
  const span = data.places ? [data.places[j], data.places[j] + 1]
    : prompt.spans[data.columns[j]] ?? (data.columns[j] === "end" ? [count - 1, count] : null);
  return span && span[0] >= 0 && span[0] < count ? span : null;
}

const someTokens = (row, [from, to]) => row.labels.slice(from, Math.min(to, from + 3)).join("") + (to - from > 3 ? "…" : "");
const differsIn = (prompt, [from, to]) => prompt.differ.some((at) => at >= from && at < to);

/** Whether prompts differ from their corrupted ones at other positions: a position is then another word in each. */
export function scattered(data) {
  const places = new Set(data.prompts.filter((one) => one.corrupt).map((one) => one.differ.join()));
  return !!data.places && places.size > 1;
}

/** What stands over each column: the clean label, the corrupted one, whether they differ. */
export function columnHeads(data, prompt) {
  return data.columns.map((column, j) => {
    const span = columnTokens(data, prompt, j);
    if (!prompt || !span) return { clean: column };
    const label = someTokens(prompt.clean, span);
    return {
      clean: data.places ? label : `${column}: ${label}`,
      corrupt: prompt.corrupt ? someTokens(prompt.corrupt, span) : null,
      differs: differsIn(prompt, span),
      special: prompt.clean.special.includes(span[0]),
    };
  });
}

/** A column in words: its token with its place, and the corrupted one where it differs. */
export function columnText(data, prompt, j) {
  const span = columnTokens(data, prompt, j);
  if (!prompt || !span) return data.places ? `position ${data.columns[j]}` : data.columns[j];
  const at = span[1] - span[0] > 1 ? `${span[0]}–${span[1] - 1}` : `${span[0]}`;
  const label = `${data.places ? "" : `${data.columns[j]}, `}${someTokens(prompt.clean, span)} (${at})`;
  return differsIn(prompt, span) ? `${label}, corrupted ${someTokens(prompt.corrupt, span)}` : label;
}

/** The number in a cell, of as many decimals as the largest effect has with three digits; none where it is below 1/20 of that. */
export function cellNumber(data, at) {
  const value = data.mean[at];
  if (includesZero(data, at) || Math.abs(value) < data.limit / 20) return "";
  if (data.limit < 0.001 || data.limit >= 1e5) return number(value, 2);
  return value.toFixed(Math.max(0, 2 - Math.floor(Math.log10(data.limit)))).replace("-", "−");
}

export const cellName = (data, i, j) => (data.grid ? `L${data.layers[i]}${data.columns[j]}` : data.rows[i]);
export const includesZero = (data, at) => data.low[at] <= 0 && data.high[at] >= 0;

/** What is said of a cell: head, token, effect, interval, prompts, place in the order of sizes. */
export function cellSentence(data, prompt, i, j) {
  const at = i * data.across + j;
  const where = data.grid ? cellName(data, i, j) : `${cellName(data, i, j)} at ${columnText(data, prompt, j)}`;
  if (!Number.isFinite(data.mean[at])) return `${where}: not measured`;
  const n = data.counts?.[j] ?? data.n;
  const parts = [`${where}: ${number(data.mean[at])}${data.unit ? ` ${data.unit}` : ""}`];
  if (Number.isFinite(data.low[at])) parts.push(`95 % interval ${number(data.low[at])} to ${number(data.high[at])}`);
  if (includesZero(data, at)) parts.push("includes zero");
  if (n) parts.push(`${n} prompt${n === 1 ? "" : "s"}`);
  return `${parts.join(", ")}, ${data.rank.get(at)} of ${data.ranked.length} by size`;
}

/** Every cell of every row as a table, with a heading: names, effect, interval, prompts. */
export function cellRows(data, prompt) {
  const where = data.grid ? [] : [data.places ? "token" : data.axis];
  const cells = data.rows.flatMap((_, i) => data.columns.map((column, j) => [i, j]));
  return [[data.ofHeads ? "head" : "layer", ...where, data.unit || "effect", "low", "high", "prompts"],
    ...cells.map(([i, j]) => {
      const at = i * data.across + j;
      return [cellName(data, i, j), ...(data.grid ? [] : [columnText(data, prompt, j)]), data.mean[at], data.low[at], data.high[at],
        data.counts?.[j] ?? data.n];
    })];
}

/** Which columns can be labelled when a label needs `room` pixels: every so many, and those that differ before others. */
export function labelledColumns(heads, pitch, room) {
  const shown = [];
  let free = -Infinity;
  heads.forEach((one, j) => {
    const near = heads.slice(j + 1, j + Math.ceil(room / pitch - 0.001));
    if (j * pitch - free < room - 0.01 || (!one.differs && near.some((other) => other.differs))) return;
    shown.push(j);
    free = j * pitch;
  });
  return shown;
}
