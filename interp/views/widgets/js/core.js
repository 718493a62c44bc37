// Pure functions of the widgets: codes, colours, labels, layout, hits, sentences. No DOM, so that they are tested alone.

export const MASKED = 0;
export const UNDEFINED = 1;

const tables = new Map();
const paints = new Map();

/** Weight of every code of 8 or 16 bits; NaN where masked or undefined. Made once. */
export function weightTable(bits) {
  if (tables.has(bits)) return tables.get(bits);
  const size = bits === 16 ? 65536 : 256;
  const table = new Float32Array(size).fill(NaN);
  for (let code = 2; code < size; code++) table[code] = ((code - 2) / (size - 3)) ** 2;
  tables.set(bits, table);
  return table;
}

/** Codes of one head as rows x columns, from its bytes (a DataView) and the key that says how they are packed. */
export function unpack(view, key) {
  const { rows, columns, bits, lower, block } = key;
  const step = bits / 8;
  const codes = bits === 16 ? new Uint16Array(rows * columns) : new Uint8Array(rows * columns);
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  let at = 0;
  for (let i = 0; i < rows; i++) {
    const count = lower ? i + 1 : columns;
    const start = i * columns;
    if (step === 1) codes.set(bytes.subarray(at, at + count), start);
    else for (let j = 0; j < count; j++) codes[start + j] = bytes[at + 2 * j] | (bytes[at + 2 * j + 1] << 8);
    at += count * step;
  }
  return { codes, rows, columns, bits, block, table: weightTable(bits) };
}

/** Largest code in each of height x width boxes of a matrix; `from` leaves out columns on the left. */
export function poolMax(codes, rows, columns, height, width, from = 0) {
  const out = new codes.constructor(height * width);
  const across = columns - from;
  const box = new Int32Array(across);
  for (let j = 0; j < across; j++) box[j] = Math.floor((j * width) / across);
  for (let i = 0; i < rows; i++) {
    const target = Math.floor((i * height) / rows) * width;
    const start = i * columns + from;
    for (let j = 0; j < across; j++) {
      const code = codes[start + j];
      if (code > out[target + box[j]]) out[target + box[j]] = code;
    }
  }
  return out;
}

const channel = (hex, at) => parseInt(hex.slice(at, at + 2), 16);

/** [r, g, b] at share (0 to 1) along evenly spaced stops. */
export function mix(stops, share) {
  const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const left = Math.min(Math.floor(at), stops.length - 2);
  return [1, 3, 5].map((c) => {
    const from = channel(stops[left], c);
    return Math.round(from + (channel(stops[left + 1], c) - from) * (at - left));
  });
}

export const css = (rgb) => `rgb(${rgb[0]} ${rgb[1]} ${rgb[2]})`;

/** Black or white, whichever reads better on a colour (WCAG 2). */
export function inkOn(rgb) {
  const [r, g, b] = rgb.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
}

/** Colour of every code as 32-bit RGBA: masked is transparent, undefined has `missing`, weights run to `limit`. The last are kept. */
export function lut(bits, limit, stops, missing) {
  const name = [bits, limit, missing, ...stops].join();
  if (paints.has(name)) return paints.get(name);
  const table = weightTable(bits);
  const colours = new Uint32Array(table.length);
  const steps = Array.from({ length: 256 }, (_, i) => pack(mix(stops, i / 255)));
  for (let code = 2; code < table.length; code++) {
    colours[code] = steps[Math.min(255, Math.round((table[code] * 255) / limit))];
  }
  colours[UNDEFINED] = pack(mix([missing, missing], 0));
  if (paints.size > 8) paints.delete(paints.keys().next().value);
  paints.set(name, colours);
  return colours;
}

const pack = ([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;

/** Colour of a metric: around zero if signed (stops from zero outwards), else from zero up. */
export function metricColour(value, limit, signed, palette) {
  if (!signed) return mix(palette.attention, value / limit);
  return mix(value < 0 ? palette.negative : palette.positive, Math.abs(value) / limit);
}

/** Three significant digits and a true minus sign; – where not finite. */
export function number(value, digits = 3) {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const [mantissa, power] = value.toExponential(digits - 1).split("e");
  const size = Number(power);
  if (size < -4 || size > 6) return `${mantissa}e${size}`.replaceAll("-", "−");
  return value.toFixed(Math.max(0, digits - 1 - size)).replace("-", "−");
}

/** A weight as it is known: three decimals from two bytes; from one byte with what rounding may hide. */
export function weightText(code, bits) {
  if (code === MASKED) return "masked";
  if (code === UNDEFINED) return "not a number";
  const top = bits === 16 ? 65533 : 253;
  const weight = ((code - 2) / top) ** 2;
  if (weight < 0.0005) return "<0.001";
  if (bits === 16) return weight.toFixed(3);
  const slack = Math.sqrt(weight) / top;
  return slack < 0.0005 ? weight.toFixed(3) : `${weight.toFixed(3)} ±${slack.toFixed(3)}`;
}

/** The weight of a code, rounded to what is known of it, and how far off it may be; null where there is none. */
export function known(code, bits) {
  if (code === MASKED || code === UNDEFINED) return [null, null];
  const top = bits === 16 ? 65533 : 253;
  const weight = ((code - 2) / top) ** 2;
  return [Number(weight.toFixed(bits === 16 ? 5 : 3)), Number((Math.sqrt(weight) / top + 0.25 / top ** 2).toPrecision(2))];
}

const PREFIX = { self: "", encoder: "enc.", cross: "cross.", vision: "vis." };

export const headName = (layer, head, attention = "self") => `${PREFIX[attention] ?? ""}L${layer}H${head}`;

/** [layer, head] of L9H9, 9.9, 9:9 or a9.h9; null for anything else. */
export function parseHead(text) {
  const bare = text.trim().toLowerCase().replace(/^(enc|cross|vis)\./, "");
  const match = bare.match(/^(?:l(\d+)h(\d+)|(\d+)[.:](\d+)|a(\d+)\.h(\d+))$/);
  return match ? match.slice(1).filter((part) => part !== undefined).map(Number) : null;
}

/** Indices whose labels fit at `pitch` pixels each when a label needs `room`. */
export function thinned(count, pitch, room) {
  const step = Math.max(1, Math.ceil(room / pitch));
  return Array.from({ length: Math.ceil(count / step) }, (_, i) => i * step);
}

/** Where the cells of a head grid lie; `at` answers with the head under a point, or null. */
export function gridLayout(heads, group, width, left, top, most = 64) {
  const across = Math.max(...heads);
  const gutters = group > 1 ? (Math.ceil(across / group) - 1) * 3 : 0;
  const cell = Math.max(8, Math.min(most, Math.floor((width - left - gutters) / across)));
  const x = (head) => left + head * cell + (group > 1 ? Math.floor(head / group) * 3 : 0);
  const y = (layer) => top + layer * cell;
  const at = (px, py) => {
    const layer = Math.floor((py - top) / cell);
    if (layer < 0 || layer >= heads.length) return null;
    for (let head = 0; head < heads[layer]; head++) if (px >= x(head) && px < x(head) + cell) return [layer, head];
    return null;
  };
  return { cell, x, y, at, width: x(across - 1) + cell, height: y(heads.length) };
}

/** Where the cells of an attention map lie: the first key has a strip of its own, the rest share what is left. */
export function mapLayout(rows, columns, room, left, top) {
  const rest = columns - 1;
  const pitch = Math.max(Math.min(room / Math.max(rows, columns), 28), 1e-6);
  const strip = Math.max(pitch, 8);
  const gap = rest > 0 ? 3 : 0;
  const start = left + strip + gap;
  const wide = rest * pitch;
  const high = rows * pitch;
  const at = (px, py) => {
    const row = Math.floor((py - top) / pitch);
    if (row < 0 || row >= rows) return null;
    if (px >= left && px < left + strip) return [row, 0];
    const column = 1 + Math.floor((px - start) / pitch);
    return px >= start && column < columns ? [row, column] : null;
  };
  return {
    pitch, strip, start, wide, high, left, top, at,
    x: (column) => (column === 0 ? left : start + (column - 1) * pitch),
    w: (column) => (column === 0 ? strip : pitch),
    y: (row) => top + row * pitch,
    width: start + wide, height: top + high,
  };
}

/** First key of a column and the one after its last; queries use `rowSpan`. */
export const columnSpan = (column, block, keys) =>
  column === 0 ? [0, 1] : [1 + (column - 1) * block, Math.min(keys, 1 + column * block)];
export const rowSpan = (row, block, queries) => [row * block, Math.min(queries, (row + 1) * block)];
export const columnOf = (key, block) => (key <= 0 ? 0 : 1 + Math.floor((key - 1) / block));
export const rowOf = (query, block) => Math.floor(query / block);

/** The head that a key of the keyboard leads to; layers without heads are passed over. */
export function moved(head, key, heads) {
  let [layer, index] = head;
  const vertical = { ArrowUp: -1, ArrowDown: 1, PageUp: -1, PageDown: 1 }[key];
  if (vertical) {
    let next = layer + vertical;
    while (next >= 0 && next < heads.length && heads[next] === 0) next += vertical;
    if (next >= 0 && next < heads.length) layer = next;
  } else if (key === "ArrowLeft") index -= 1;
  else if (key === "ArrowRight") index += 1;
  else if (key === "Home") index = 0;
  else if (key === "End") index = heads[layer] - 1;
  else return null;
  return [layer, Math.max(0, Math.min(index, heads[layer] - 1))];
}

/** Rank of a head by magnitude among those with a value, from 1; and how many there are. */
export function rank(metric, at) {
  const own = Math.abs(metric.mean[at]);
  if (!Number.isFinite(own)) return [NaN, 0];
  let above = 0;
  let count = 0;
  for (const value of metric.mean) {
    if (!Number.isFinite(value)) continue;
    count += 1;
    if (Math.abs(value) > own) above += 1;
  }
  return [above + 1, count];
}

/** What is said of a head: its name, its metric with interval and rank, how much goes to the first key. */
export function headSentence(header, metric, sinks, layer, head) {
  const at = layer * header.across + head;
  const parts = [headName(header.layers[layer], head, header.attention)];
  if (header.group > 1) parts[0] += ` (key-value head ${Math.floor(head / header.group)})`;
  if (!header.heads[layer] || head >= header.heads[layer]) return `${parts[0]}: no such head`;
  if (metric) {
    const value = metric.mean[at];
    if (!Number.isFinite(value)) parts.push(`${metric.name}: no value`);
    else {
      const interval = Number.isFinite(metric.low[at]) && Number.isFinite(metric.high[at])
        ? `, 95 % interval ${number(metric.low[at])} to ${number(metric.high[at])}` : "";
      const [place, count] = rank(metric, at);
      parts.push(`${metric.name} ${number(value)}${metric.unit ? " " + metric.unit : ""}${interval}, ${place} of ${count}`);
    }
  }
  if (sinks && Number.isFinite(sinks[at]) && !(metric && metric.sink)) parts.push(`first key's share ${number(sinks[at])}`);
  return parts.join("; ");
}

/** What is said of a span of tokens: label and index, or the first and last of several. */
export function tokenSentence(row, [from, to]) {
  if (to - from <= 1) return `${row.labels[from]} (${from})`;
  return `${row.labels[from]} … ${row.labels[to - 1]} (${from}–${to - 1})`;
}

/** The symmetric limit of a metric: its largest finite magnitude; 1 where there is none. */
export function metricLimit(values) {
  let most = 0;
  for (const value of values) if (Number.isFinite(value) && Math.abs(value) > most) most = Math.abs(value);
  return most || 1;
}

/** One row or column of a head as weights (NaN where masked): `renormalised` leaves the first key out of the sum. */
export function row(full, index, renormalised = false) {
  const out = new Float32Array(full.columns);
  for (let j = 0; j < full.columns; j++) out[j] = full.table[full.codes[index * full.columns + j]];
  if (renormalised && out[0] < 1) for (let j = 1; j < full.columns; j++) out[j] /= 1 - out[0];
  return out;
}

export function column(full, index) {
  const out = new Float32Array(full.rows);
  for (let i = 0; i < full.rows; i++) out[i] = full.table[full.codes[i * full.columns + index]];
  return out;
}

/** Counts of rows in which every cell that is not masked is undefined, and of rows with no cell at all. */
export function troubles(full) {
  let undefinedRows = 0;
  let empty = 0;
  for (let i = 0; i < full.rows; i++) {
    let seen = 0;
    let bad = 0;
    for (let j = 0; j < full.columns; j++) {
      const code = full.codes[i * full.columns + j];
      if (code !== MASKED) seen += 1;
      if (code === UNDEFINED) bad += 1;
    }
    if (bad > 0) undefinedRows += 1;
    if (!seen) empty += 1;
  }
  return { undefinedRows, empty };
}

/** Mean weight on the first key, over queries that see another one. */
export function sinkShare(full) {
  let total = 0;
  let count = 0;
  for (let i = 0; i < full.rows; i++) {
    let others = false;
    for (let j = 1; j < full.columns && !others; j++) others = full.codes[i * full.columns + j] !== MASKED;
    const weight = full.table[full.codes[i * full.columns]];
    if (others && Number.isFinite(weight)) {
      total += weight;
      count += 1;
    }
  }
  return count ? total / count : NaN;
}

/** Largest weight outside the first key; 1 where there is none. */
export function headLimit(full) {
  let most = 0;
  for (let i = 0; i < full.rows; i++) {
    for (let j = 1; j < full.columns; j++) if (full.codes[i * full.columns + j] > most) most = full.codes[i * full.columns + j];
  }
  return most > 2 ? full.table[most] : 1;
}

/** The index in ascending `steps` that lies nearest to `step`; the last for one below zero. */
export function nearestStep(steps, step) {
  if (step < 0) return steps.length - 1;
  let best = 0;
  for (let i = 1; i < steps.length; i++) if (Math.abs(steps[i] - step) < Math.abs(steps[best] - step)) best = i;
  return best;
}

/** The metrics that the training view adds: those of the checkpoint nearest to `step`, on one scale for all steps. */
export function stepMetrics(payload, step) {
  if (!payload) return [];
  const i = nearestStep(payload.steps, step);
  const values = (rows) => Float32Array.from(rows[i], (value) => value ?? NaN);
  return payload.metrics.map((metric) => ({
    ...metric, note: [`at step ${payload.steps[i]}, scale of all steps`, metric.note].filter(Boolean).join("; "), sink: false,
    mean: values(metric.mean), low: values(metric.low), high: values(metric.high),
  }));
}
