// A chart of points: the runs by rate and distortion, and the ELBO at each sigma that was tried.

import { pageColours, sharp } from "./painting.js";

const LEFT = 62;
const BOTTOM = 34;
const TOP = 10;

// Points { x, y, chosen }, with the names of both axes, or some words where there is no point.
// `scale` changes x before it is placed.
export function drawChart(canvas, points, [nameX, nameY], words, scale = (x) => x) {
  const { context, width, height } = sharp(canvas);
  const colours = pageColours();
  context.clearRect(0, 0, width, height);
  context.fillStyle = colours.muted;
  if (!points.length) {
    context.textAlign = "left";
    context.fillText(words, 0, height / 2);
    return;
  }
  const xs = rangeOf(points.map((point) => scale(point.x)));
  const ys = rangeOf(points.map((point) => point.y));
  const place = ({ x, y }) => [
    LEFT + (scale(x) - xs[0]) / (xs[1] - xs[0]) * (width - LEFT - 12),
    height - BOTTOM - (y - ys[0]) / (ys[1] - ys[0]) * (height - BOTTOM - TOP),
  ];
  context.strokeStyle = colours.line;
  context.strokeRect(LEFT - 6, TOP - 6, width - LEFT, height - BOTTOM - TOP + 12);
  context.textAlign = "center";
  context.fillText(nameX, (LEFT + width) / 2, height - 4);
  for (const point of ends(points, (one) => scale(one.x))) {
    context.textAlign = place(point)[0] < width / 2 ? "left" : "right";
    context.fillText(shown(point.x), place(point)[0], height - BOTTOM + 18);
  }
  context.textAlign = "right";
  for (const point of ends(points, (one) => one.y)) {
    context.fillText(shown(point.y), LEFT - 10, place(point)[1] + 4);
  }
  context.save();
  context.translate(12, (height - BOTTOM) / 2);
  context.rotate(-Math.PI / 2);
  context.textAlign = "center";
  context.fillText(nameY, 0, 0);
  context.restore();
  for (const point of points) {
    const [x, y] = place(point);
    context.fillStyle = point.chosen ? "#c1121f" : colours.link;
    context.beginPath();
    context.arc(x, y, point.chosen ? 6 : 3.5, 0, 2 * Math.PI);
    context.fill();
  }
}

// The points with the least and the largest value, or one if these are the same.
function ends(points, valueOf) {
  const sorted = [...points].sort((one, other) => valueOf(one) - valueOf(other));
  const [first, last] = [sorted[0], sorted[sorted.length - 1]];
  return valueOf(first) === valueOf(last) ? [first] : [first, last];
}

function rangeOf(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const margin = high > low ? 0.06 * (high - low) : 1;
  return [low - margin, high + margin];
}

export const minus = (text) => text.replace("-", "−");

// A number with three digits, or as many as it has before the point.
export function shown(value) {
  if (!Number.isFinite(value)) return "–";
  if (Math.abs(value) >= 1000) return nats(Math.round(value));
  return minus(String(Number(value.toPrecision(3))));
}

// A number of nats, with one digit behind the point.
export function nats(value) {
  if (!Number.isFinite(value)) return "–";
  if (Math.abs(value) >= 1e7) return minus(value.toExponential(2));
  return minus(value.toLocaleString("en-US", { maximumFractionDigits: 1 }));
}

// The first numbers of a vector.
export function vector(values) {
  const first = Array.from(values.slice(0, 8), (value) => minus(value.toFixed(2)));
  return [...first, ...(values.length > 8 ? ["…"] : [])].join(", ");
}

export const percent = (share) => (share > 0 && share < 0.0005 ? "< 0.1 %"
  : `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`);
