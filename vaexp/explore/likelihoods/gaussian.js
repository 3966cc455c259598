// N(mu, diag sigma^2), or N(mu, diag sigma^2 + V V^T) with q factors that pixels share.

import { diagonal, lowRank } from "../gaussians.js";
import { sigmaOf } from "../model.js";
import { once } from "../numbers.js";

export function gaussian(head, map) {
  const mean = map("mean");
  const sigma = once(() => sigmaOf(head, map, mean.length));
  if (!head.maps.factors) return diagonal(mean, sigma);
  return lowRank(mean, sigma, once(() => map("factors")));
}
