// What the visitor chose, as a plain object, and as the hash of the page's address.
//
// { run, z, digit, axes, sigma, image, seed, plane, marked, from, to, along }: `z`, `from` and `to`
// are latents, `sigma` is null where it is the model's own, and `image` is -1 without a test image.

import { hashOf, partsOf, wholeIn } from "./address.js";

const FARTHEST = 100; // of a latent from 0, in standard deviations of the prior
const SIGMAS = [1e-4, 1e3]; // the least and the largest one by hand

const numbers = (text) => text.split(",").map(Number);
const isNear = (values) => values.every((value) => Math.abs(value) <= FARTHEST);
const rounded = (values) => Array.from(values, (value) => Number(value.toFixed(3))).join();

// The hash of a state. What is as at the start is left out.
export function toHash(state, start) {
  const parts = new URLSearchParams();
  if (state.run !== start.run) parts.set("run", state.run);
  parts.set("z", rounded(state.z));
  if (state.digit !== start.digit) parts.set("digit", state.digit);
  if (state.axes.join() !== start.axes.join()) parts.set("axes", state.axes.join());
  if (state.sigma !== null) parts.set("sigma", Number(state.sigma.toPrecision(4)));
  if (state.image !== start.image) parts.set("image", state.image);
  if (state.seed !== start.seed) parts.set("draw", state.seed);
  if (state.plane) parts.set("plane", 1);
  if (state.marked) parts.set("marked", 1);
  for (const name of ["from", "to"]) {
    if (rounded(state[name]) !== rounded(start[name])) parts.set(name, rounded(state[name]));
  }
  if (state.along) parts.set("along", Number(state.along.toFixed(3)));
  return hashOf(parts);
}

// The state that a hash describes. What it leaves out, or what has no meaning here, is as at the
// start. `runs` has the number of latents and the digits of each run, `images` their number.
export function fromHash(hash, start, runs, images) {
  const parts = partsOf(hash);
  const state = { ...start, run: wholeIn(parts, "run", 0, runs.length - 1, start.run) };
  const { latent, digits } = runs[state.run];
  const vector = (name) => {
    const values = parts.has(name) ? numbers(parts.get(name)) : [];
    return values.length === latent && isNear(values) ? values : null;
  };
  const digit = wholeIn(parts, "digit", 0, 9, start.digit);
  const axes = parts.has("axes") ? numbers(parts.get("axes")) : [];
  const isAxis = (axis) => Number.isInteger(axis) && axis >= 0 && axis < latent;
  const areAxes = axes.length === 2 && axes.every(isAxis) && (axes[0] !== axes[1] || latent === 1);
  const sigma = Number(parts.get("sigma"));
  const along = Number(parts.get("along"));
  return {
    ...state,
    z: vector("z") ?? fitted(start.z, latent),
    digit: digits.includes(digit) ? digit : digits[0],
    axes: areAxes ? axes : fittedAxes(start.axes, latent),
    sigma: sigma >= SIGMAS[0] && sigma <= SIGMAS[1] ? sigma : null,
    image: wholeIn(parts, "image", -1, images - 1, start.image),
    seed: wholeIn(parts, "draw", 1, 2 ** 31, start.seed),
    plane: parts.has("plane"),
    marked: parts.has("marked"),
    from: vector("from") ?? fitted(start.from, latent),
    to: vector("to") ?? fitted(start.to, latent),
    along: along > 0 && along <= 1 ? along : 0,
  };
}

// The latents of another number of dimensions: the first of them, and 0 for those that are new.
export const fitted = (z, latent) => Array.from({ length: latent }, (_, i) => z[i] ?? 0);

export const fittedAxes = (axes, latent) =>
  (axes.every((axis) => axis < latent) ? axes : [0, Math.min(1, latent - 1)]);
