// The latent plane: the prior, the codes of the test images, a posterior, and the point z.

import { pageColours, sharp, sizeOf } from "./painting.js";

const DOT = 3;

// A square view of two latents, from -reach to reach along both.
export function viewOf(canvas, reach) {
  const { width } = sizeOf(canvas);
  const scale = width / (2 * reach);
  return {
    reach,
    toScreen: ([a, b]) => [(a + reach) * scale, (reach - b) * scale],
    toLatent: ([x, y]) => [x / scale - reach, reach - y / scale],
    scale,
  };
}

// Draw everything. `scene` has { view, background, codes, posterior, point, from, to, names }. A
// code is { at: [a, b], colour, faded }, and a posterior { at, covariance: [aa, ab, bb] }.
export function drawPlane(canvas, scene) {
  const { context, width, height } = sharp(canvas);
  const colours = pageColours();
  const { view } = scene;
  context.fillStyle = colours.paper;
  context.fillRect(0, 0, width, height);
  if (scene.background) {
    context.imageSmoothingEnabled = true;
    context.drawImage(scene.background, 0, 0, width, height);
  }
  drawPrior(context, view, colours);
  for (const { at, colour, faded } of scene.codes) {
    context.globalAlpha = faded ? 0.25 : 0.9;
    context.fillStyle = colour;
    disc(context, view.toScreen(at), DOT);
  }
  context.globalAlpha = 1;
  const ink = scene.background ? "#222" : colours.ink; // images are on white paper
  if (scene.posterior) drawEllipse(context, view, scene.posterior, ink);
  drawPath(context, view, scene, colours);
  drawPoint(context, view.toScreen(scene.point), colours);
  context.fillStyle = ink;
  context.textAlign = "right";
  context.fillText(scene.names[0], width - 6, height / 2 - 6);
  context.textAlign = "left";
  context.fillText(scene.names[1], width / 2 + 6, 14);
}

// Circles at 1, 2 and 3 standard deviations of p(z) = N(0, I), and the axes.
function drawPrior(context, view, colours) {
  context.strokeStyle = colours.muted;
  context.lineWidth = 1;
  const [x, y] = view.toScreen([0, 0]);
  for (const radius of [1, 2, 3]) {
    context.beginPath();
    context.arc(x, y, radius * view.scale, 0, 2 * Math.PI);
    context.stroke();
  }
  context.strokeStyle = colours.line;
  line(context, view.toScreen([-view.reach, 0]), view.toScreen([view.reach, 0]));
  line(context, view.toScreen([0, -view.reach]), view.toScreen([0, view.reach]));
}

// The ellipse at two standard deviations, along the eigenvectors of the covariance.
function drawEllipse(context, view, { at, covariance }, colour) {
  const [aa, ab, bb] = covariance;
  const middle = (aa + bb) / 2;
  const half = Math.hypot((aa - bb) / 2, ab);
  const radius = (variance) => 2 * Math.sqrt(Math.max(variance, 0)) * view.scale;
  const [x, y] = view.toScreen(at);
  context.strokeStyle = colour;
  context.lineWidth = 2;
  context.beginPath();
  const angle = -Math.atan2(2 * ab, aa - bb) / 2; // y points down on the screen
  context.ellipse(x, y, radius(middle + half), radius(middle - half), angle, 0, 2 * Math.PI);
  context.stroke();
}

function drawPath(context, view, { from, to }, colours) {
  context.strokeStyle = colours.link;
  context.lineWidth = 2;
  const ends = [view.toScreen(from), view.toScreen(to)];
  line(context, ...ends);
  context.textAlign = "center";
  ends.forEach(([x, y], i) => {
    context.fillStyle = colours.link;
    disc(context, [x, y], 8);
    context.fillStyle = colours.paper;
    context.fillText("AB"[i], x, y + 4);
  });
}

function drawPoint(context, [x, y], colours) {
  context.lineWidth = 5;
  context.strokeStyle = colours.paper;
  ring(context, [x, y], 8);
  context.lineWidth = 2.5;
  context.strokeStyle = "#c1121f";
  ring(context, [x, y], 8);
  context.fillStyle = "#c1121f";
  disc(context, [x, y], 2);
}

function ring(context, [x, y], radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.stroke();
}

function disc(context, [x, y], radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
}

function line(context, [x, y], [toX, toY]) {
  context.beginPath();
  context.moveTo(x, y);
  context.lineTo(toX, toY);
  context.stroke();
}
