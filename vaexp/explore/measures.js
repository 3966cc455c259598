// Numbers of a run on the images of the page.

import { covariance, decode, decodeAll, drawLatent, encode, rate } from "./model.js";
import { randomFrom } from "./numbers.js";
import { ofPixels } from "./transforms.js";

const DRAWS = 16; // z ~ q(z|x) for the ELBO of one image

// Of each image { pixels, digit }: x, q(z|x), its rate, and p(x|z) at one draw z ~ q(z|x).
export function measured(run, images, likelihoods) {
  const random = randomFrom(1);
  return images.map(({ pixels, digit }) => {
    const x = ofPixels(run.transform, pixels, random);
    const q = encode(run.model, x, digit);
    const p = decode(run.model, likelihoods, drawLatent(q, random), digit);
    return { x, q, rate: rate(q), p };
  });
}

// p(x|z) with one sigma for all pixels, or as the model has it.
export const withSigma = (p, sigma) => (sigma === null || !p.withSigma ? p : p.withSigma(sigma));

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

const terms = (itsRate, distortion) => ({ rate: itsRate, distortion, elbo: -distortion - itsRate });

// The means over the images of rate, distortion and ELBO.
export function meanElbo(all, sigma) {
  const distortion = -mean(all.map(({ x, p }) => withSigma(p, sigma).logProb(x)));
  return terms(mean(all.map((one) => one.rate)), distortion);
}

// Rate, distortion and ELBO of one image, with its posterior.
export function elboOf(run, x, digit, sigma, likelihoods) {
  const random = randomFrom(2);
  const q = encode(run.model, x, digit);
  const zs = Array.from({ length: DRAWS }, () => drawLatent(q, random));
  const logProbs = decodeAll(run.model, likelihoods, zs, digit)
    .map((p) => withSigma(p, sigma).logProb(x));
  return { q, ...terms(rate(q), -mean(logProbs)) };
}

// The root of the mean of (x - mu(z))^2 over images and pixels.
export function rootMeanSquare(all) {
  const squares = ({ x, p }) => mean(Array.from(x, (value, j) => (value - p.mean[j]) ** 2));
  return Math.sqrt(mean(all.map(squares)));
}

// The mean over the images of KL(q(z_i|x) to N(0, 1)), for each latent i.
export function latentRates(all, latent) {
  return Array.from({ length: latent }, (_, i) => mean(all.map(({ q }) => {
    const variance = covariance(q, i, i);
    return 0.5 * (q.mean[i] ** 2 + variance - 1 - Math.log(variance));
  })));
}

// The variance of the posterior means along a latent.
export function spreadOfCodes(all, i) {
  const centre = mean(all.map(({ q }) => q.mean[i]));
  return mean(all.map(({ q }) => (q.mean[i] - centre) ** 2));
}
