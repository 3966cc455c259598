// A Gaussian mixture, from data alone. Letters: K components, D pixels, q factors.
//
// A model is { components, logWeight (K), mean (K x D) } with its covariances in one of three forms:
// `sigma` (K x D), the deviations of pixels that are independent; with it `factors` (K x q x D) in
// units of sigma; or `roots`, the lower triangles of L L^T row by row, one for each component or one
// that all of them share.

import { diagonal, lowRank } from "./gaussians.js";
import { once } from "./numbers.js";

// p(x|z = k) for each k: { mean, deviation, draw(random), logProb(x) }.
export function componentsOf({ components, mean, sigma, factors, roots }) {
  return Array.from({ length: components }, (_, k) => {
    const own = (values) => {
      const size = values.length / components;
      return values.subarray(k * size, (k + 1) * size);
    };
    if (roots) return triangular(own(mean), roots[k] ?? roots[0]);
    const [sigmas, rows] = [once(() => own(sigma)), once(() => own(factors))];
    return factors ? lowRank(own(mean), sigmas, rows) : diagonal(own(mean), sigmas);
  });
}

// N(mean, L L^T). Row i of the lower triangle L starts at i (i + 1) / 2.
function triangular(mean, root) {
  const row = (i) => root.subarray((i * (i + 1)) / 2, ((i + 1) * (i + 2)) / 2);
  const deviations = once(() => mean.map((_, i) => Math.hypot(...row(i))));
  let logRoot = 0;
  for (let i = 0; i < mean.length; i += 1) logRoot += Math.log(row(i)[i]);
  return {
    mean,
    get deviation() { return deviations(); },
    draw: (random) => {
      const noise = Array.from(mean, () => random.normal());
      return mean.map((centre, i) => centre + along(row(i), noise, i + 1));
    },
    logProb: (x) => {
      const w = new Float64Array(x.length); // L w = x - mean
      let squares = 0;
      for (let i = 0; i < x.length; i += 1) {
        const line = row(i);
        w[i] = (x[i] - mean[i] - along(line, w, i)) / line[i];
        squares += w[i] * w[i];
      }
      return -0.5 * (squares + x.length * Math.log(2 * Math.PI)) - logRoot;
    },
  };
}

// The sum of the products of the first numbers.
function along(line, values, count) {
  let sum = 0;
  for (let j = 0; j < count; j += 1) sum += line[j] * values[j];
  return sum;
}

// p(z|x), which is exact, so that the ELBO with it is ln p(x) itself: { shares (K), logProb, rate,
// distortion } with ln p(x) = -rate - distortion.
export function posteriorOf(model, components, x) {
  const given = components.map((p) => p.logProb(x));
  const joint = given.map((value, k) => model.logWeight[k] + value);
  const top = Math.max(...joint);
  const logProb = top + Math.log(joint.reduce((sum, value) => sum + Math.exp(value - top), 0));
  const shares = joint.map((value) => Math.exp(value - logProb));
  const distortion = -shares.reduce((sum, share, k) => (share ? sum + share * given[k] : sum), 0);
  return { shares, logProb, rate: -logProb - distortion, distortion };
}

// The mean of x over p(z|x) of the means: sum_k p(z = k|x) mu_k.
export function meanOf(components, shares) {
  const mean = new Float32Array(components[0].mean.length);
  components.forEach((p, k) => {
    if (shares[k]) p.mean.forEach((value, j) => { mean[j] += shares[k] * value; });
  });
  return mean;
}

// The components by their weights, the largest first.
export const byWeight = ({ logWeight }) =>
  Array.from(logWeight.keys()).sort((a, b) => logWeight[b] - logWeight[a] || a - b);

// The index of a component that is drawn by the weights.
export function drawComponent({ logWeight }, random) {
  let left = random.uniform();
  const k = logWeight.findIndex((value) => { left -= Math.exp(value); return left <= 0; });
  return k < 0 ? byWeight({ logWeight })[0] : k;
}
