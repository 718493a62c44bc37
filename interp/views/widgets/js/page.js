// A saved page: a model of plain values in place of the notebook's, answering from the data in the page. Nothing is fetched.

import { unpack } from "./core.js";

export class StillModel {
  constructor(values, answer = () => null) {
    this.values = values;
    this.answer = answer;
    this.listeners = new Map();
  }

  get(name) {
    return this.values[name];
  }

  set(name, value) {
    this.update({ [name]: value });
  }

  update(values) {
    const changed = Object.keys(values).filter((name) => values[name] instanceof DataView
      || JSON.stringify(values[name]) !== JSON.stringify(this.values[name]));
    Object.assign(this.values, values);
    for (const name of changed) for (const act of [...(this.listeners.get(`change:${name}`) ?? [])]) act();
    if (changed.includes("request")) {
      const found = this.answer(this.values.request);
      if (found) this.update(found);
    }
  }

  on(event, act) {
    if (!this.listeners.has(event)) this.listeners.set(event, new Set());
    this.listeners.get(event).add(act);
  }

  off(event, act) {
    this.listeners.get(event)?.delete(act);
  }

  save_changes() {}
}

/** Thumbnails of all heads, pooled as Python pools them, from the heads in full. */
function thumbnailsOf(heads, places, header) {
  const { rows, columns, block } = header.thumb;
  const out = new Uint8Array(header.heads.length * header.across * rows * columns);
  for (const { start, size, key } of places.values()) {
    const full = unpack(new DataView(heads.buffer, start, size), key);
    const from = (key.layer * header.across + key.head) * rows * columns;
    for (let i = 0; i < full.rows; i++) {
      for (let j = 1; j < full.columns; j++) {
        let code = full.codes[i * full.columns + j];
        if (full.bits === 16 && code > 1) code = 2 + Math.round(((code - 2) / 65533) * 253);
        const at = from + Math.floor(i / block) * columns + Math.floor(j / block);
        if (code > out[at]) out[at] = code;
      }
    }
  }
  return new DataView(out.buffer);
}

/** Where each head lies, by its name: runs of heads that are packed alike, one after the other. */
function placesOf(runs, prompt) {
  const places = new Map();
  let start = 0;
  for (const { size, key, heads } of runs) {
    for (const [layer, head] of heads) {
      places.set(`${layer}.${head}`, { start, size, key: { ...key, prompt, layer, head } });
      start += size;
    }
  }
  return places;
}

const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%:()*+-;,=.?@^_`{|}~";

/** Bytes of text in base 85, five letters for four bytes, unzipped. */
async function bytesOf(text) {
  const digit = new Uint8Array(128);
  for (let i = 0; i < 85; i++) digit[DIGITS.charCodeAt(i)] = i;
  const missing = (5 - (text.length % 5)) % 5;
  const whole = text + "~".repeat(missing);
  const raw = new DataView(new ArrayBuffer((whole.length / 5) * 4));
  for (let i = 0, at = 0; i < whole.length; i += 5, at += 4) {
    let value = 0;
    for (let j = i; j < i + 5; j++) value = value * 85 + digit[whole.charCodeAt(j)];
    raw.setUint32(at, value);
  }
  const zipped = new Uint8Array(raw.buffer, 0, raw.byteLength - missing);
  const stream = new Blob([zipped]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new DataView(await new Response(stream).arrayBuffer());
}

/** Show a page's widget: `content` holds the traits, the buffers and where each head lies in them. */
export async function showPage(widget, content, el) {
  const names = Object.keys(content.buffers);
  const parts = await Promise.all(names.map((name) => bytesOf(content.buffers[name])));
  const buffers = Object.fromEntries(names.map((name, i) => [name, parts[i]]));
  const { heads, ...own } = buffers;
  const places = placesOf(content.heads, content.traits.prompt);
  if (!own.thumbnails && content.traits.header.thumb) own.thumbnails = thumbnailsOf(heads, places, content.traits.header);
  const answer = ([prompt, layer, head]) => {
    const found = places.get(`${layer}.${head}`);
    const key = { id: content.traits.header.id, prompt, layer, head };
    if (!found) return { full_key: { ...key, absent: "Not kept in this page; open it in a notebook to see this head." } };
    return { full: new DataView(heads.buffer, found.start, found.size), full_key: { ...key, ...found.key } };
  };
  const state = new StillModel({ ...content.traits, ...own, full: new DataView(new ArrayBuffer(0)), full_key: null }, answer);
  const model = new StillModel({ state: "state" });
  await widget.render({ model, el, host: { getModel: async () => state } });
  return state;
}
