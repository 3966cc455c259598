// A logistic distribution rounded to the 256 grey levels (Kingma et al. 2016; Salimans et al. 2017).
// M and S are its location and scale in levels, and the first and the last level take the tails.

import { sigmaOf } from "../model.js";
import { clamp, logSigmoid, once, sigmoid } from "../numbers.js";

const LAST = 255;
const SCALE_OF_SIGMA = Math.sqrt(3) / Math.PI;
const REACH = 20; // in units of S: further away, a sigmoid is 0 or 1 to 2e-9

export function discretized_logistic(head, map) {
  const location = map("mean");
  return rounded(location, sigmaOf(head, map, location.length));
}

function rounded(mean, sigma) {
  const location = mean.map((value) => LAST * value);
  const scale = sigma.map((value) => LAST * SCALE_OF_SIGMA * value);
  // only when they are asked for, as they take far longer than all else
  const moments = once(() => Array.from(location, (m, j) => momentsOf(m, scale[j])));
  const means = once(() => location.map((_, j) => moments()[j].mean / LAST));
  const deviations = once(() => location.map((_, j) => moments()[j].deviation / LAST));
  return {
    get mean() { return means(); },
    get deviation() { return deviations(); },
    draw: (random) => location.map((m, j) => {
      const uniform = random.uniform();
      const value = m + scale[j] * Math.log(uniform / (1 - uniform));
      return clamp(Math.round(value), 0, LAST) / LAST;
    }),
    // with the edges a > b of a level, F(a) - F(b) = F(a) F(-b) (1 - e^(b - a))
    logProb: (x) => x.reduce((sum, value, j) => {
      const level = Math.round(LAST * value);
      const [first, last] = [level <= 0, level >= LAST];
      let term = 0;
      if (!last) term += logSigmoid((level + 0.5 - location[j]) / scale[j]);
      if (!first) term += logSigmoid((location[j] - (level - 0.5)) / scale[j]);
      if (!first && !last) term += Math.log(-Math.expm1(-1 / scale[j]));
      return sum + term;
    }, 0),
    withSigma: (other) => rounded(mean, new Float32Array(mean.length).fill(other)),
  };
}

// Of the level, about the level c that is nearest to M: E (level - c) and E (level - c)^2 are sums
// over the edges between levels of the probability that the level is beyond the edge.
function momentsOf(location, scale) {
  const c = clamp(Math.round(location), 0, LAST);
  const from = clamp(Math.floor(location - REACH * scale), 0, LAST);
  const to = clamp(Math.ceil(location + REACH * scale), 0, LAST);
  let [first, second] = [0, 0];
  for (let k = from; k < to; k += 1) {
    const fromC = k + 0.5 - c;
    const beyond = sigmoid(-Math.abs(location - k - 0.5) / scale);
    first += beyond * Math.sign(fromC);
    second += 2 * beyond * Math.abs(fromC);
  }
  return { mean: c + first, deviation: Math.sqrt(Math.max(second - first ** 2, 0)) };
}
