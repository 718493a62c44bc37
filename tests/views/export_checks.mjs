// Checks of the pure functions of export.js and of those of core.js that further views share. Run by node.
import { csvCell, csvText, fileName, sound } from "./export.mjs";
import { known, nearestStep, stepMetrics } from "./core.mjs";

const steps = [0, 100, 3000];
const payload = { steps, metrics: [{ name: "m over training", unit: "u", signed: false, limit: 2, note: "mean of 3 prompts",
  mean: [[1, null], [0.5, 0], [2, 1]], low: [[0, null], [0, 0], [1, 0]], high: [[2, null], [1, 1], [3, 2]] }] };
const [metric] = stepMetrics(payload, 100);
const checks = {
  "numbers are written in full, missing ones not at all": [0.1, -2.5, 1e-9, 0, NaN, Infinity, null, undefined].map(csvCell).join("|")
    === "0.1|-2.5|1e-9|0||||",
  "seven digits are what a float of four bytes holds": csvCell(Math.fround(0.1)) === "0.1" && csvCell(Math.fround(1 / 3)) === "0.3333333",
  "text is quoted where it must be": csvCell('a"b') === '"a""b"' && csvCell("a,b") === '"a,b"' && csvCell("a\nb") === '"a\nb"'
    && csvCell(" a") === " a",
  "no text is a formula": ["=1+1", "+1", "-1", "@x", "\tx"].every((text) => csvCell(text).replace(/^"/, "").startsWith("'")),
  "half a character is none": csvCell("\ud83d") === "\ufffd" && sound("a\ud83db\u0000\ud83d\ude00") === "a\ufffdb\ufffd\ud83d\ude00",
  "rows end as in RFC 4180": csvText([["a", 1], [], ["b"]]) === "a,1\r\n\r\nb\r\n",
  "file names hold letters and digits alone": fileName(["heads", "../<b>effect</b> é"], "csv") === "interp-heads-..-b-effect-b-e.csv"
    && fileName(["\u202e", "العربية"], "png") === "interp-view.png",
  "the nearest step, the last where none is asked for": [-1, 0, 40, 60, 1e9].map((step) => nearestStep(steps, step)).join() === "2,0,0,1,2",
  "a step's metric on the scale of all": metric.mean.join() === "0.5,0" && metric.limit === 2
    && metric.note === "at step 100, scale of all steps; mean of 3 prompts" && Number.isNaN(stepMetrics(payload, 0)[0].mean[1]),
  "no checkpoints, no metrics": stepMetrics(null, 3).length === 0,
  "a weight as far as it is known": known(0, 8)[0] === null && known(1, 8)[1] === null && known(65535, 16)[0] === 1
    && known(242, 8)[0] === 0.9 && known(242, 8)[1] > 0.0037 && known(242, 8)[1] < 0.004 && known(65535, 16)[1] < 2e-5,
};
const failed = Object.entries(checks).filter(([, holds]) => !holds).map(([name]) => name);
if (failed.length) {
  console.error(failed.join("\n"));
  process.exit(1);
}
