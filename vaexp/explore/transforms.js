// The transforms of grey values 0 to 255 to the x of a model, and back to the display scale.

import { sigmoid } from "./numbers.js";

const MARGIN = 1e-6; // a of the logit

const noisy = (pixel, random) => (pixel + random.uniform()) / 256;
const drawn = (pixel, random) => (random.uniform() < pixel / 255 ? 1 : 0);

const OF_PIXEL = {
  scale: (pixel) => pixel / 255,
  dequantize: noisy,
  logit: (pixel, random) => {
    const unit = noisy(pixel, random);
    const inside = (value) => Math.log(MARGIN + (1 - 2 * MARGIN) * value);
    return inside(unit) - inside(1 - unit);
  },
  binarize: (pixel) => (pixel >= 128 ? 1 : 0),
  binarize_stochastic: drawn,
  binarize_static: drawn,
};

// The x of an image of grey values.
export function ofPixels(transform, pixels, random) {
  return Float32Array.from(pixels, (pixel) => OF_PIXEL[transform](pixel, random));
}

// x on the scale from 0 (white paper) to 1 (black ink), not clipped.
export function toUnit(transform, x) {
  if (transform !== "logit") return x;
  return x.map((value) => (sigmoid(value) - MARGIN) / (1 - 2 * MARGIN));
}
