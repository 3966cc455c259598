// The transforms of grey values 0 to 255 to the x of a model, and back to the display scale.

import { sigmoid } from "./numbers.js";

const MARGIN = 1e-6; // a of the logit

const MIXERS = [0xbf58476d1ce4e5b9n, 0x94d049bb133111ebn]; // of SplitMix64

const noisy = (pixel, random) => (pixel + random.uniform()) / 256;

const OF_PIXEL = {
  scale: (pixel) => pixel / 255,
  dequantize: noisy,
  logit: (pixel, random) => {
    const unit = noisy(pixel, random);
    const inside = (value) => Math.log(MARGIN + (1 - 2 * MARGIN) * value);
    return inside(unit) - inside(1 - unit);
  },
  binarize: (pixel) => (pixel >= 128 ? 1 : 0),
  binarize_stochastic: (pixel, random) => (random.uniform() < pixel / 255 ? 1 : 0),
};

// The x of an image of grey values.
export function ofPixels(transform, pixels, random) {
  if (transform === "binarize_static") return drawnOnce(pixels);
  return Float32Array.from(pixels, (pixel) => OF_PIXEL[transform](pixel, random));
}

// Draws that follow from the image alone, as in vaexp/data/transforms.py. A white pixel adds nothing
// to the hash of the image and stays white, so that only the others need their 64 bits.
function drawnOnce(pixels) {
  const inked = Array.from(pixels.keys()).filter((j) => pixels[j] > 0);
  const places = inked.map((j) => mixed(whole(BigInt(j + 1) * 0x9e3779b97f4a7c15n)));
  const image = mixed(whole(inked.reduce((sum, j, i) => sum + BigInt(pixels[j]) * places[i], 0n)));
  const x = new Float32Array(pixels.length);
  inked.forEach((j, i) => {
    const uniform = Number(mixed(whole(image + places[i])) >> 40n) / 2 ** 24;
    x[j] = uniform < Math.fround(pixels[j] / 255) ? 1 : 0;
  });
  return x;
}

const whole = (value) => BigInt.asUintN(64, value);

// The output function of SplitMix64 (Steele, Lea and Flood 2014).
function mixed(state) {
  const first = whole((state ^ (state >> 30n)) * MIXERS[0]);
  const second = whole((first ^ (first >> 27n)) * MIXERS[1]);
  return second ^ (second >> 31n);
}

// x on the scale from 0 (white paper) to 1 (black ink), not clipped.
export function toUnit(transform, x) {
  if (transform !== "logit") return x;
  return x.map((value) => (sigmoid(value) - MARGIN) / (1 - 2 * MARGIN));
}

// Values that no pixel of an image can have. A mean of images may be outside by a rounding error.
const ROUNDING = 1e-6;
export const isBelow = (value) => value < -ROUNDING;
export const isAbove = (value) => value > 1 + ROUNDING;

// The share of pixels with such a value.
export const outside = (unit) =>
  unit.filter((value) => isBelow(value) || isAbove(value)).length / unit.length;
