// Pixels are 0 or 1, and their logits are a function of z.

import { sigmoid, softplus } from "../numbers.js";

export function bernoulli(head, map) {
  const logits = map("logits");
  const mean = logits.map(sigmoid);
  return {
    mean,
    deviation: mean.map((p) => Math.sqrt(p * (1 - p))),
    draw: (random) => mean.map((p) => (random.uniform() < p ? 1 : 0)),
    logProb: (x) => x.reduce((sum, value, j) => sum + logits[j] * value - softplus(logits[j]), 0),
    withSigma: null,
  };
}
