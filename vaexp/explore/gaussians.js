// Gaussian densities of D pixels.

import { once } from "./numbers.js";

// N(mean, diag sigma^2)
export function diagonal(mean, sigma) {
  return {
    mean,
    deviation: sigma,
    draw: (random) => mean.map((centre, j) => centre + sigma[j] * random.normal()),
    logProb: (x) => {
      let sum = -0.5 * x.length * Math.log(2 * Math.PI);
      for (let j = 0; j < x.length; j += 1) {
        sum -= 0.5 * ((x[j] - mean[j]) / sigma[j]) ** 2 + Math.log(sigma[j]);
      }
      return sum;
    },
    withSigma: (other) => diagonal(mean, new Float32Array(mean.length).fill(other)),
  };
}

// N(mean, diag sigma^2 + V V^T). `factors` are A = V^T / sigma, (q x D). With w = (x - mean) / sigma
// and M = I + A A^T (q x q), whose Cholesky root is R, the squared distance is |w|^2 - |R^-1 A w|^2
// and ln |Sigma| is sum ln sigma^2 + ln |M|.
export function lowRank(mean, sigma, factors) {
  const own = diagonal(mean, sigma);
  const pixels = mean.length;
  const count = factors.length / pixels;
  const row = (k) => factors.subarray(k * pixels, (k + 1) * pixels);
  const rows = Array.from({ length: count }, (_, k) => row(k));
  const rootOf = once(() => (
    cholesky(rows.map((a, i) => rows.map((b, k) => dot(a, b) + (i === k ? 1 : 0))))));
  return {
    mean,
    deviation: sigma.map((one, j) =>
      one * Math.sqrt(rows.reduce((sum, factor) => sum + factor[j] ** 2, 1))),
    draw: (random) => {
      const x = own.draw(random);
      for (const factor of rows) {
        const shared = random.normal();
        for (let j = 0; j < pixels; j += 1) x[j] += sigma[j] * factor[j] * shared;
      }
      return x;
    },
    logProb: (x) => {
      const w = x.map((value, j) => (value - mean[j]) / sigma[j]);
      const root = rootOf();
      const explained = [];
      rows.forEach((factor, i) => {
        const known = explained.reduce((sum, value, k) => sum + root[i][k] * value, 0);
        explained.push((dot(factor, w) - known) / root[i][i]);
      });
      const logRoot = root.reduce((sum, line, i) => sum + Math.log(line[i]), 0);
      return own.logProb(x) + 0.5 * dot(explained, explained) - logRoot;
    },
    withSigma: own.withSigma, // the factors are left out
  };
}

const dot = (a, b) => {
  let sum = 0;
  for (let i = 0; i < a.length; i += 1) sum += a[i] * b[i];
  return sum;
};

// The lower triangular root of a positive definite matrix, as rows.
function cholesky(matrix) {
  const root = matrix.map((line) => line.map(() => 0));
  matrix.forEach((line, i) => {
    for (let k = 0; k <= i; k += 1) {
      const rest = line[k] - dot(root[i].slice(0, k), root[k].slice(0, k));
      root[i][k] = i === k ? Math.sqrt(rest) : rest / root[k][k];
    }
  });
  return root;
}
