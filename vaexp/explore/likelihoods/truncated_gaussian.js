// N(m, sigma^2) restricted to [0, 1], pixel by pixel.
//
// With c the point of [0, 1] nearest to m, d = |m - c| / sigma, and v the distance from c in units
// of sigma, positive towards the interval, the density is e^(-v (d + v/2)) / (sigma I). I and the
// first two moments of v are sums of positive terms, by Gauss-Legendre quadrature over the part of
// the interval where the integrand is not negligible. So no digits cancel, however far m is outside.

import { sigmaOf } from "../model.js";
import { clamp, once } from "../numbers.js";

const DEPTH = 30; // e^-DEPTH of the integrand is left out at either end
const { points, weights } = legendre(32);

export function truncated_gaussian(head, map) {
  const location = map("mean");
  return truncated(location, sigmaOf(head, map, location.length));
}

function truncated(location, sigma) {
  // only when they are asked for, as ln p(x|z) needs none
  const moments = once(() => Array.from(location, (m, j) => momentsOf(aboutMode(m, sigma[j]))));
  const means = once(() => location.map((_, j) => {
    const { mode, inward } = aboutMode(location[j], sigma[j]);
    return clamp(mode + inward * sigma[j] * moments()[j].mean, 0, 1);
  }));
  const deviations = once(() => location.map((_, j) => sigma[j] * moments()[j].deviation));
  return {
    get mean() { return means(); },
    get deviation() { return deviations(); },
    draw: (random) => location.map((m, j) => drawFrom(aboutMode(m, sigma[j]), sigma[j], random)),
    logProb: (x) => {
      let sum = 0;
      for (let j = 0; j < x.length; j += 1) {
        const about = aboutMode(location[j], sigma[j]);
        const fromMode = (x[j] - about.mode) / sigma[j];
        sum -= fromMode * (fromMode / 2 + (about.mode - location[j]) / sigma[j]);
        sum -= Math.log(sigma[j] * integralOf(about));
      }
      return sum;
    },
    withSigma: (other) => truncated(location, new Float32Array(location.length).fill(other)),
  };
}

// The mode, and in units of sigma the ends of the interval and of the part of it that counts.
function aboutMode(location, sigma) {
  const mode = clamp(location, 0, 1);
  const inward = location > 1 ? -1 : 1;
  const distance = Math.abs(location - mode) / sigma;
  const near = (inward > 0 ? mode : 1 - mode) / sigma;
  const far = (inward > 0 ? 1 - mode : mode) / sigma;
  const reach = (2 * DEPTH) / (distance + Math.sqrt(distance ** 2 + 2 * DEPTH));
  const start = -Math.min(near, reach);
  return { mode, inward, distance, near, far, start, length: Math.min(far, reach) - start };
}

// I
function integralOf({ distance, start, length }) {
  let whole = 0;
  for (let i = 0; i < points.length; i += 1) {
    const v = start + length * points[i];
    whole += weights[i] * Math.exp(-v * (distance + v / 2));
  }
  return length * whole;
}

// The mean and the standard deviation of v.
function momentsOf({ distance, start, length }) {
  let [whole, first, second] = [0, 0, 0];
  for (let i = 0; i < points.length; i += 1) {
    const v = start + length * points[i];
    const term = weights[i] * Math.exp(-v * (distance + v / 2));
    whole += term;
    first += term * points[i];
    second += term * points[i] * points[i];
  }
  const share = first / whole;
  return {
    mean: start + length * share,
    deviation: length * Math.sqrt(Math.max(second / whole - share ** 2, 0)),
  };
}

// By rejection from an exponential distribution that ends where the interval does (Robert 1995,
// Simulation of truncated normal variables, section 2). Where the mode is inside, the side is first.
function drawFrom({ mode, inward, distance, near, far }, sigma, random) {
  let isNear = false;
  let room = far;
  if (distance === 0 && near > 0) {
    const [onNear, onFar] = [halfMass(near), halfMass(far)];
    isNear = random.uniform() * (onNear + onFar) < onNear;
    room = isNear ? near : far;
  }
  const more = 2 / (distance + Math.sqrt(distance ** 2 + 4));
  const rate = distance + more;
  if (!(rate * room >= 0)) return NaN; // no draw would ever be accepted
  for (;;) {
    const v = -Math.log1p(random.uniform() * Math.expm1(-rate * room)) / rate;
    if (random.uniform() <= Math.exp(-((v - more) ** 2) / 2)) {
      return clamp(mode + inward * sigma * (isNear ? -v : v), 0, 1);
    }
  }
}

// The integral of e^(-v^2 / 2) from 0 to the end of an interval.
function halfMass(end) {
  const length = Math.min(end, Math.sqrt(2 * DEPTH));
  return length * points.reduce(
    (sum, point, i) => sum + weights[i] * Math.exp(-((length * point) ** 2) / 2), 0);
}

// The points and weights of Gauss-Legendre quadrature on [0, 1], by Newton's method.
function legendre(count) {
  const found = { points: [], weights: [] };
  for (let i = 1; i <= count; i += 1) {
    let x = Math.cos((Math.PI * (i - 0.25)) / (count + 0.5));
    let slope = 0;
    for (let step = 0; step < 50; step += 1) {
      let [before, value] = [1, x];
      for (let n = 2; n <= count; n += 1) {
        [before, value] = [value, ((2 * n - 1) * x * value - (n - 1) * before) / n];
      }
      slope = (count * (x * value - before)) / (x * x - 1);
      x -= value / slope;
    }
    found.points.push((1 + x) / 2);
    found.weights.push(1 / ((1 - x * x) * slope * slope));
  }
  return found;
}
