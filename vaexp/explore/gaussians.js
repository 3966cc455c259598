// Gaussian densities of D pixels. What their functions return is computed when it is needed, as much
// of a page needs the mean alone.

import { once } from "./numbers.js";

// N(mean, diag sigma^2). `sigmaOf` returns sigma (D).
export function diagonal(mean, sigmaOf) {
  return {
    mean,
    get deviation() { return sigmaOf(); },
    draw: (random) => {
      const sigma = sigmaOf();
      return mean.map((centre, j) => centre + sigma[j] * random.normal());
    },
    logProb: (x) => {
      const sigma = sigmaOf();
      let sum = -0.5 * x.length * Math.log(2 * Math.PI);
      for (let j = 0; j < x.length; j += 1) {
        sum -= 0.5 * ((x[j] - mean[j]) / sigma[j]) ** 2 + Math.log(sigma[j]);
      }
      return sum;
    },
    withSigma: (other) => diagonal(mean, once(() => new Float32Array(mean.length).fill(other))),
  };
}

// N(mean, diag sigma^2 + V V^T). `factorsOf` returns A = V^T / sigma, (q x D). With w = (x - mean) /
// sigma and M = I + A A^T (q x q), whose Cholesky root is R, the squared distance is
// |w|^2 - |R^-1 A w|^2 and ln |Sigma| is sum ln sigma^2 + ln |M|.
export function lowRank(mean, sigmaOf, factorsOf) {
  const own = diagonal(mean, sigmaOf);
  const rowsOf = once(() => {
    const factors = factorsOf();
    return Array.from({ length: factors.length / mean.length }, (_, k) => (
      factors.subarray(k * mean.length, (k + 1) * mean.length)));
  });
  const rootOf = once(() => (
    cholesky(rowsOf().map((a, i) => rowsOf().map((b, k) => dot(a, b) + (i === k ? 1 : 0))))));
  const deviationOf = once(() => sigmaOf().map((one, j) => (
    one * Math.sqrt(rowsOf().reduce((sum, factor) => sum + factor[j] ** 2, 1)))));
  return {
    mean,
    get deviation() { return deviationOf(); },
    draw: (random) => {
      const x = own.draw(random);
      const sigma = sigmaOf();
      for (const factor of rowsOf()) {
        const shared = random.normal();
        for (let j = 0; j < x.length; j += 1) x[j] += sigma[j] * factor[j] * shared;
      }
      return x;
    },
    logProb: (x) => {
      const [sigma, root] = [sigmaOf(), rootOf()];
      const w = x.map((value, j) => (value - mean[j]) / sigma[j]);
      const explained = [];
      rowsOf().forEach((factor, i) => {
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
