// Checks of graph.js: each is a name and whether it holds. Run by node.
import * as graph from "./graph.mjs";

const near = (a, b, slack = 1e-6) => Math.abs(a - b) <= slack;
const node = (kind, layer, head, row) => ({ kind, layer, head, row, slot: kind === "head" ? head : null, attention: "self" });
const nodes = [node("embed", null, null, -1), node("head", 0, 1, 0), node("mlp", 0, null, 0.5), node("head", 1, 0, 1),
  node("head", 1, 2, 1), node("mlp", 1, null, 1.5), node("logits", null, null, 2)];
const layout = graph.graphLayout(nodes, [3, 3], 700);
const wide = graph.graphLayout(Array.from({ length: 64 }, (_, i) => node("head", 0, i, 0)), [64], 500);
const curve = (from, to, input) => graph.graphCurve(layout, nodes, from, to, input);
const line = graph.along([0, 0, 1, 0, 2, 0, 3, 0]);
const checks = {
  "edges have one name": ["L0H5->L2H1.k", "L0H5->L2H1<k>", "embed->mlp3.mlp", "L9H9->logits.out", "L9H9->logits"].map(graph.edgeKey).join(" ")
    === "L0H5->L2H1<k> L0H5->L2H1<k> embed->mlp3 L9H9->logits L9H9->logits",
  "short names": nodes.map(graph.shortName).join(" ") === "embed 0.1 m0 1.0 1.2 m1 logits",
  "initials": ["name mover", "S-inhibition", "induction", "multiple choice"].map(graph.initials).join(" ") === "NM SI In MC",
  "nodes of a row keep apart and within": graph.spread([0, 1, 2, 50], 10, 40).join() === "0,10,20,40"
    && graph.spread([38, 39, 40], 10, 40).join() === "20,30,40" && graph.spread([], 10, 40).length === 0,
  "layers go upwards, an MLP above its heads": layout.ys[0] > layout.ys[1] && layout.ys[1] > layout.ys[2] && layout.ys[2] > layout.ys[3]
    && layout.ys[3] === layout.ys[4] && layout.ys[5] > layout.ys[6],
  "heads have slots, MLPs a column of their own": near(layout.xs[1] - layout.xs[3], layout.xs[4] - layout.xs[1])
    && layout.xs[2] === layout.xs[5] && layout.xs[2] > layout.xs[4],
  "a full row does not overlap": [...wide.xs].every((x, i) => i === 0 || x - wide.xs[i - 1] >= 36.9) && wide.width > 500,
  "queries from the left, values from the right": curve(0, 4, "q")[6] < layout.xs[4] && curve(0, 4, "v")[6] > layout.xs[4]
    && curve(0, 4, "k")[6] === layout.xs[4],
  "an edge ends below its target": curve(1, 4, "k")[7] > layout.ys[4] && curve(1, 2, "")[7] > layout.ys[2] && curve(1, 2, "")[1] < layout.ys[1],
  "an edge along a column bends outwards": curve(2, 5, "")[2] === layout.xs[2] || curve(2, 5, "")[2] > layout.xs[2],
  "points lie along": line.length === 24 && near(line[0], 0) && near(line[22], 3) && near(graph.distance(line, 1.5, 2), 4)
    && near(graph.distance(line, -1, 0), 1),
};
const failed = Object.entries(checks).filter(([, holds]) => !holds).map(([name]) => name);
if (failed.length) {
  console.error(failed.join("\n"));
  process.exit(1);
}
