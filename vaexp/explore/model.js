// The inference of a model: from data alone, without the page. Letters: D pixels, L latents.
//
// A model is { latent, encoder, decoder, head }. Its networks are lists of layers { weight, bias,
// activation } with weight (outputs x inputs), row by row. Images x are in the scale of the model,
// a digit is an index or null, and all log quantities are in nats per image.

import { erf, sigmoid, softplus } from "./numbers.js";

const ACTIVATIONS = {
  relu: (x) => Math.max(x, 0),
  gelu: (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2)),
  silu: (x) => x * sigmoid(x),
  tanh: Math.tanh,
  elu: (x) => (x > 0 ? x : Math.expm1(x)),
};

// weight x + bias, and the activation of each output if the layer has one. Four rows at a time have
// four sums, which the processor adds up side by side.
export function dense({ weight, bias, activation }, x) {
  const inputs = x.length;
  const out = new Float32Array(bias.length);
  const whole = out.length - (out.length % 4);
  for (let row = 0; row < whole; row += 4) {
    const first = row * inputs;
    const [second, third, fourth] = [first + inputs, first + 2 * inputs, first + 3 * inputs];
    let [a, b, c, d] = [0, 0, 0, 0];
    for (let i = 0; i < inputs; i += 1) {
      const value = x[i];
      a += weight[first + i] * value;
      b += weight[second + i] * value;
      c += weight[third + i] * value;
      d += weight[fourth + i] * value;
    }
    out[row] = a + bias[row];
    out[row + 1] = b + bias[row + 1];
    out[row + 2] = c + bias[row + 2];
    out[row + 3] = d + bias[row + 3];
  }
  for (let row = whole; row < out.length; row += 1) {
    let sum = bias[row];
    for (let i = 0; i < inputs; i += 1) sum += weight[row * inputs + i] * x[i];
    out[row] = sum;
  }
  return activation ? out.map(ACTIVATIONS[activation]) : out;
}

// The same for each of many x, two at a time, so that a weight that is read serves both.
export function denseAll(layer, xs) {
  const outs = [];
  for (let k = 0; k + 1 < xs.length; k += 2) outs.push(...denseTwo(layer, xs[k], xs[k + 1]));
  if (xs.length % 2) outs.push(dense(layer, xs[xs.length - 1]));
  return outs;
}

function denseTwo({ weight, bias, activation }, x, y) {
  const inputs = x.length;
  const outs = [new Float32Array(bias.length), new Float32Array(bias.length)];
  for (let row = 0; row < bias.length; row += 4) {
    // rows behind the last one are the last one again
    const [r0, r1, r2, r3] = [0, 1, 2, 3].map((i) => Math.min(row + i, bias.length - 1));
    const [first, second, third, fourth] = [r0 * inputs, r1 * inputs, r2 * inputs, r3 * inputs];
    let [a, b, c, d] = [bias[r0], bias[r1], bias[r2], bias[r3]];
    let [e, f, g, h] = [a, b, c, d];
    for (let i = 0; i < inputs; i += 1) {
      const value = x[i];
      const other = y[i];
      const p = weight[first + i];
      const q = weight[second + i];
      const r = weight[third + i];
      const s = weight[fourth + i];
      a += p * value;
      b += q * value;
      c += r * value;
      d += s * value;
      e += p * other;
      f += q * other;
      g += r * other;
      h += s * other;
    }
    [outs[0][r0], outs[0][r1], outs[0][r2], outs[0][r3]] = [a, b, c, d];
    [outs[1][r0], outs[1][r1], outs[1][r2], outs[1][r3]] = [e, f, g, h];
  }
  return activation ? outs.map((out) => out.map(ACTIVATIONS[activation])) : outs;
}

// The inputs with the digit behind them, one-hot, if the model is given it.
function withDigit(model, inputs, digit) {
  if (!model.classes) return Float32Array.from(inputs);
  const both = new Float32Array(inputs.length + model.classes);
  both.set(inputs);
  both[inputs.length + digit] = 1;
  return both;
}

// p(x|z): { mean, deviation, draw(random), logProb(x), withSigma(sigma) }. `deviation` holds the
// standard deviation of each pixel. `withSigma` is p(x|z) with one sigma in place of the model's;
// it is null where the family has no sigma.
export function decode(model, likelihoods, z, digit) {
  return decodeAll(model, likelihoods, [z], digit)[0];
}

// The same for each of many z. A likelihood asks for the linear maps of the features that it needs.
export function decodeAll(model, likelihoods, zs, digit) {
  const { decoder, head } = model;
  const features = decoder.reduce(
    (values, layer) => denseAll(layer, values), zs.map((z) => withDigit(model, z, digit)));
  const mapped = {};
  const map = (name) => (mapped[name] ??= denseAll(head.maps[name], features));
  return zs.map((_, i) => likelihoods[head.family](head, (name) => map(name)[i]));
}

// q(z|x), a Gaussian: its mean (L) and the root of its covariance. That is lower triangular (L x L),
// or its diagonal alone (L) where all else is 0.
export function encode(model, x, digit) {
  const { mean, scale, root } = model.encoder;
  const features = model.encoder.hidden.reduce(
    (values, layer) => dense(layer, values), withDigit(model, x, digit));
  const centre = dense(mean, features);
  if (root) return { mean: centre, root };
  const { floor } = model.encoder;
  return { mean: centre, root: dense(scale, features).map((raw) => floor + softplus(raw)) };
}

const isDiagonal = ({ mean, root }) => root.length === mean.length;

// A draw z of a Gaussian with this mean and root.
export function drawLatent(q, random) {
  const { mean, root } = q;
  const noise = Array.from(mean, () => random.normal());
  if (isDiagonal(q)) return mean.map((centre, i) => centre + root[i] * noise[i]);
  return mean.map((centre, i) => {
    const row = root.subarray(i * mean.length, i * mean.length + i + 1);
    return row.reduce((sum, value, k) => sum + value * noise[k], centre);
  });
}

// The covariance of latents a and b.
export function covariance(q, a, b) {
  const { mean, root } = q;
  if (isDiagonal(q)) return a === b ? root[a] ** 2 : 0;
  let sum = 0;
  for (let k = 0; k < mean.length; k += 1) {
    sum += root[a * mean.length + k] * root[b * mean.length + k];
  }
  return sum;
}

// KL(q to N(0, I)) = (tr C + |m|^2 - L - ln |C|) / 2.
export function rate(q) {
  const { mean, root } = q;
  const squares = root.reduce((sum, value) => sum + value * value, 0);
  const length = mean.reduce((sum, value) => sum + value * value, 0);
  let logRoot = 0;
  const step = isDiagonal(q) ? 1 : mean.length + 1;
  for (let i = 0; i < root.length; i += step) logRoot += Math.log(root[i]);
  return 0.5 * (squares + length - mean.length) - logRoot;
}

// Sigma of each of D pixels, where a head has one: floor + softplus(raw) if it is learned.
export function sigmaOf(head, map, pixels) {
  const { learned, ofZ, floor } = head.sigma;
  let { sigma } = head.own;
  if (learned) {
    const raw = ofZ ? map("raw_sigma") : head.own.raw_sigma;
    sigma = raw.map((value) => floor + softplus(value));
  }
  return sigma.length === 1 ? new Float32Array(pixels).fill(sigma[0]) : sigma;
}
