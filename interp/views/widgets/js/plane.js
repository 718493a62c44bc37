// Pure functions of a plane with points: axes, rank correlation, which names fit, the neighbour in a direction. No DOM.

/** An axis from `from` to `to` pixels: zero is on it where values are signed or begin near it. */
export function axisScale(metric, values, from, to) {
  let low = values.reduce((a, b) => Math.min(a, b), Infinity);
  let high = values.reduce((a, b) => Math.max(a, b), -Infinity);
  if (metric.signed || (low > 0 && low < 0.4 * high)) [low, high] = [Math.min(low, 0), Math.max(high, 0)];
  if (low === high) [low, high] = [low - (Math.abs(low) * 0.1 || 0.5), high + (Math.abs(high) * 0.1 || 0.5)];
  const start = low - (high - low) * 0.06;
  const span = (high - low) * 1.12;
  const rough = span / Math.max(2, Math.abs(to - from) / 64);
  const size = 10 ** Math.floor(Math.log10(rough));
  let step = [1, 2, 5, 10].map((n) => n * size).find((one) => one >= rough) ?? 10 * size;
  if (metric.whole) step = Math.max(1, Math.round(step));
  const places = Math.max(0, Math.min(8, -Math.floor(Math.log10(step) + 1e-9)));
  const ticks = [];
  for (let n = Math.ceil(start / step); n * step <= start + span; n++) ticks.push(n * step);
  return {
    ticks,
    to: (value) => from + ((value - start) / span) * (to - from),
    text: (value) => (Math.abs(value) < step / 2 ? "0" : value.toFixed(places).replace("-", "−")),
  };
}

/** Ranks from 0, equal values sharing the mean of theirs. */
function midRanks(values) {
  const order = values.map((_, i) => i).sort((a, b) => values[a] - values[b]);
  const out = new Float64Array(order.length);
  for (let i = 0; i < order.length;) {
    let j = i;
    while (j + 1 < order.length && values[order[j + 1]] === values[order[i]]) j += 1;
    for (let k = i; k <= j; k++) out[order[k]] = (i + j) / 2;
    i = j + 1;
  }
  return out;
}

/** Spearman's rank correlation; NaN where all values of one side are the same, or there are fewer than three. */
export function spearman(one, other) {
  if (one.length < 3) return NaN;
  const [a, b] = [midRanks(one), midRanks(other)];
  const middle = (one.length - 1) / 2;
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    ab += (a[i] - middle) * (b[i] - middle);
    aa += (a[i] - middle) ** 2;
    bb += (b[i] - middle) ** 2;
  }
  return aa && bb ? ab / Math.sqrt(aa * bb) : NaN;
}

/** Mean magnitude: what is beyond it is called large. */
export const typicalSize = (values) => values.reduce((sum, value) => sum + Math.abs(value), 0) / (values.length || 1);

/** Points {vx, vy} by whether they are large in x and in y: both, x alone, y alone, neither. */
export function divided(points) {
  const [tx, ty] = ["vx", "vy"].map((name) => typicalSize(points.map((point) => point[name])));
  const out = { both: [], x: [], y: [], neither: [] };
  for (const point of points) {
    const [large, matters] = [Math.abs(point.vx) > tx, Math.abs(point.vy) > ty];
    out[large && matters ? "both" : large ? "x" : matters ? "y" : "neither"].push(point);
  }
  return out;
}

/** Points, the chosen ones first, then those farthest from the middle of all; each with `far` in standard deviations. */
export function outermost(points, isOwn) {
  const spread = (name) => {
    const middle = points.reduce((sum, point) => sum + point[name], 0) / points.length;
    const sd = Math.sqrt(points.reduce((sum, point) => sum + (point[name] - middle) ** 2, 0) / points.length) || 1;
    return (point) => (point[name] - middle) / sd;
  };
  const [zx, zy] = [spread("px"), spread("py")];
  const order = points.map((point) => ({ point, own: isOwn(point), far: Math.hypot(zx(point), zy(point)) }));
  return order.sort((a, b) => b.own - a.own || b.far - a.far);
}

/** Where names {point, text, wide} can stand beside their points without touching another, a point or the frame. */
export function placedNames(wanted, points, radius, frame, most) {
  const gap = radius + 4;
  const placed = [];
  for (const { point, text, wide, own } of wanted) {
    if (placed.length >= most) break;
    const { px, py } = point;
    const spots = [[px + gap, py - 6], [px - gap - wide, py - 6], [px - wide / 2, py - gap - 12], [px - wide / 2, py + gap]];
    const spot = spots.find(([x, y]) => x >= frame.left + 2 && x + wide <= frame.right - 2 && y >= frame.top + 1
      && y + 12 <= frame.bottom - 1
      && placed.every((one) => x > one.x + one.wide + 3 || x + wide + 3 < one.x || y > one.y + 13 || y + 13 < one.y)
      && points.every((one) => one === point || one.px + radius < x || one.px - radius > x + wide || one.py + radius < y
        || one.py - radius > y + 12));
    if (spot) placed.push({ point, text, wide, own, x: spot[0], y: spot[1] });
  }
  return placed;
}

/** The nearest point in a direction [dx, dy]: ahead, and rather ahead than aside; the point itself where there is none. */
export function neighbour(points, from, [dx, dy]) {
  const at = points[from];
  let best = from;
  let least = Infinity;
  points.forEach((point, i) => {
    const ahead = (point.px - at.px) * dx + (point.py - at.py) * dy;
    const aside = Math.abs((point.px - at.px) * dy + (point.py - at.py) * dx);
    const cost = ahead + 2 * aside;
    if (i !== from && ahead > 0.5 && aside <= 2 * ahead && cost < least) [best, least] = [i, cost];
  });
  return best;
}

/** The point nearest to a place, -1 where none is within `reach`. */
export function nearestPoint(points, x, y, reach) {
  let best = -1;
  let least = reach ** 2;
  points.forEach((point, i) => {
    const far = (point.px - x) ** 2 + (point.py - y) ** 2;
    if (far < least) [best, least] = [i, far];
  });
  return best;
}

/** Points inside the rectangle between two corners. */
export const withinBox = (points, { x0, y0, x1, y1 }) => points.filter((point) => point.px >= Math.min(x0, x1)
  && point.px <= Math.max(x0, x1) && point.py >= Math.min(y0, y1) && point.py <= Math.max(y0, y1));
