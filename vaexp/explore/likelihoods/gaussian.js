// N(mu, diag sigma^2), or N(mu, diag sigma^2 + V V^T) with q factors that pixels share.

import { diagonal, lowRank } from "../gaussians.js";
import { dense, sigmaOf } from "../model.js";
import { once } from "../numbers.js";

export function gaussian(head, features) {
  const mean = dense(head.maps.mean, features);
  const sigma = once(() => sigmaOf(head, features, mean.length));
  if (!head.maps.factors) return diagonal(mean, sigma);
  return lowRank(mean, sigma, once(() => dense(head.maps.factors, features)));
}
