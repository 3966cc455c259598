// Pictures on canvases. Images are dark ink on white paper: 0 is white and 1 is black.

import { isAbove, isBelow } from "./transforms.js";

export const SIDE = 28;

const VIRIDIS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
const BELOW = [63, 144, 218]; // of pixels below 0 and above 1, where they are marked
const ABOVE = [189, 31, 1];
const NO_NUMBER = [255, 0, 255]; // of pixels for which the model gives none

// An image of SIDE x SIDE numbers, whatever the size of the canvas on the screen.
function paint(canvas, values, colourOf) {
  const context = resized(canvas, SIDE, SIDE);
  const pixels = context.createImageData(SIDE, SIDE);
  writePixels(pixels, 0, 0, values, colourOf);
  context.putImageData(pixels, 0, 0);
}

function writePixels(pixels, left, top, values, colourOf) {
  for (let j = 0; j < values.length; j += 1) {
    const at = 4 * ((top + Math.floor(j / SIDE)) * pixels.width + left + (j % SIDE));
    const [red, green, blue] = colourOf(values[j]);
    pixels.data[at] = red;
    pixels.data[at + 1] = green;
    pixels.data[at + 2] = blue;
    pixels.data[at + 3] = 255;
  }
}

const INKS = Array.from({ length: 256 }, (_, level) => [255 - level, 255 - level, 255 - level]);
const ink = (value) => INKS[Math.round(255 * Math.min(Math.max(value, 0), 1))] ?? NO_NUMBER;
const marked = (value) => (isBelow(value) ? BELOW : isAbove(value) ? ABOVE : ink(value));

// Grey values 0 to 255 as numbers to paint.
export const ofGrey = (pixels) => Float32Array.from(pixels, (pixel) => pixel / 255);

export const paintImage = (canvas, unit, isMarked) => paint(canvas, unit, isMarked ? marked : ink);

export const clear = (canvas) => resized(canvas, SIDE, SIDE).clearRect(0, 0, SIDE, SIDE);

// The context of a canvas of this many pixels. One that has them already is left as it is.
function resized(canvas, width, height) {
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  return canvas.getContext("2d");
}

// A heat map from the smallest value to the largest one, which are returned.
export function paintHeat(canvas, values) {
  const finite = values.filter(Number.isFinite);
  const low = finite.reduce((a, b) => Math.min(a, b), Infinity);
  const high = finite.reduce((a, b) => Math.max(a, b), -Infinity);
  const [range, least] = high > low ? [high - low, 0] : [1, 0.5]; // all may be the same
  paint(canvas, values, (value) => heat(least + (value - low) / range));
  return [low, high];
}

function heat(share) {
  if (!Number.isFinite(share)) return NO_NUMBER;
  const at = Math.min(share, 0.9999) * (VIRIDIS.length - 1);
  const i = Math.floor(at);
  return VIRIDIS[i].map((from, c) => from + (at - i) * (VIRIDIS[i + 1][c] - from));
}

// Many images in rows, on a canvas of its own.
export function mosaic(rows) {
  const canvas = document.createElement("canvas");
  canvas.width = rows[0].length * SIDE;
  canvas.height = rows.length * SIDE;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(canvas.width, canvas.height);
  rows.forEach((row, i) => row.forEach((unit, k) => {
    writePixels(pixels, k * SIDE, i * SIDE, unit, ink);
  }));
  context.putImageData(pixels, 0, 0);
  return canvas;
}

// The colours of the page, which are those of the light or the dark mode.
export function pageColours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(`--${name}`).trim();
  return { ink: of("ink"), muted: of("muted"), line: of("line"), paper: of("paper"), link: of("link") };
}

// The size of a canvas on the page is asked for once, until the page is laid out anew: to ask in
// every frame makes the browser lay out the page in every frame.
const sizes = new Map();
export const forgetSizes = () => sizes.clear();

export function sizeOf(canvas) {
  if (!sizes.has(canvas)) {
    const { width, height } = canvas.getBoundingClientRect();
    sizes.set(canvas, { width, height });
  }
  return sizes.get(canvas);
}

// Make a canvas as sharp as the screen, and return its context in units of the page.
export function sharp(canvas) {
  const { width, height } = sizeOf(canvas);
  const ratio = window.devicePixelRatio || 1;
  const context = resized(canvas, Math.round(width * ratio), Math.round(height * ratio));
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.font = "12px system-ui, sans-serif";
  return { context, width, height };
}
