// Checks of core.js: each is a name and whether it holds. Run by node.
import * as core from "./core.mjs";

const near = (a, b, slack = 1e-6) => Math.abs(a - b) <= slack;
const bytes = new DataView(new Uint8Array([255, 2, 255, 1, 0, 130]).buffer);
const full = core.unpack(bytes, { rows: 3, columns: 3, bits: 8, lower: true, block: 1 });
const metric = { name: "effect", unit: "logit diff", mean: [1, -2, NaN, 0.5], low: [0.5, -3, NaN, -1], high: [1.5, -1, NaN, 1] };
const header = { across: 2, heads: [2, 1], layers: [0, 1], group: 1, attention: "self" };
const layout = core.gridLayout([3, 0, 3], 1, 400, 30, 20);
const map = core.mapLayout(4, 4, 100, 10, 5);
const checks = {
  "the lower half is unpacked, the rest masked": [...full.codes].join() === "255,0,0,2,255,0,1,0,130",
  "codes are weights": near(full.table[255], 1) && full.table[2] === 0 && near(full.table[130], (128 / 253) ** 2),
  "two bytes": core.unpack(new DataView(new Uint8Array([255, 255]).buffer), { rows: 1, columns: 1, bits: 16, lower: true, block: 1 })
    .codes[0] === 65535,
  "pooling keeps the largest": [...core.poolMax(new Uint8Array([9, 1, 1, 1, 1, 1, 1, 1, 8]), 3, 3, 1, 1)].join() === "9",
  "pooling leaves the first column out": [...core.poolMax(new Uint8Array([9, 1, 2, 3]), 2, 2, 1, 1, 1)].join() === "3",
  "numbers": ["1.23", "−0.0456", "0", "–", "1.20e-9"].join() ===
    [1.234, -0.0456, 0, NaN, 1.2e-9].map((x) => core.number(x)).join().replace("1.20e−9", "1.20e-9"),
  "weights say what they hide": core.weightText(0, 8) === "masked" && core.weightText(1, 8) === "not a number"
    && core.weightText(130, 8) === "0.256 ±0.002" && core.weightText(2, 8) === "<0.001" && core.weightText(65535, 16) === "1.000",
  "heads are read": ["L9H8", "9.8", "9:8", "a9.h8", "x"].map((t) => core.parseHead(t)?.join() ?? "no").join(" ") === "9,8 9,8 9,8 9,8 no",
  "layers without heads are passed over": core.moved([0, 1], "ArrowDown", [3, 0, 2]).join() === "2,1"
    && core.moved([0, 2], "ArrowDown", [3, 0, 2]).join() === "2,1" && core.moved([0, 0], "ArrowUp", [3]).join() === "0,0",
  "hits": layout.at(layout.x(2) + 1, layout.y(2) + 1).join() === "2,2" && layout.at(layout.x(1), layout.y(1) + 1) === null,
  "hits in a map": map.at(map.x(0) + 1, map.y(3) + 1).join() === "3,0" && map.at(map.x(2) + 1, map.y(0) + 1).join() === "0,2"
    && map.at(map.start - 1, map.y(0) + 1) === null,
  "spans": core.columnSpan(2, 4, 100).join() === "5,9" && core.columnOf(5, 4) === 2 && core.columnOf(8, 4) === 2,
  "ranks go by magnitude": core.rank(metric, 1).join() === "1,3" && core.rank(metric, 0).join() === "2,3",
  "sentence": core.headSentence(header, metric, null, 0, 1) === "L0H1; effect −2.00 logit diff, 95 % interval −3.00 to −1.00, 1 of 3",
  "a missing head is said": core.headSentence(header, metric, null, 1, 1) === "L1H1: no such head",
  "labels never overlap": core.thinned(100, 3, 12).join().startsWith("0,4,8"),
  "rows that are not numbers are counted": core.troubles(full).undefinedRows === 1,
  "sink share": near(core.sinkShare(core.unpack(new DataView(new Uint8Array([255, 255, 2]).buffer),
    { rows: 2, columns: 2, bits: 8, lower: true, block: 1 })), 1),
  "zero is the page": core.mix(["#FFFFFF", "#000000"], 0).join() === "255,255,255",
  "positive is blue": core.metricColour(1, 1, true, { positive: ["#FFFFFF", "#0000FF"], negative: ["#FFFFFF", "#FF0000"] }).join()
    === "0,0,255",
};
const failed = Object.entries(checks).filter(([, holds]) => !holds).map(([name]) => name);
console.log(failed.length ? failed.join("\n") : `${Object.keys(checks).length} checks hold`);
process.exit(failed.length ? 1 : 0);
