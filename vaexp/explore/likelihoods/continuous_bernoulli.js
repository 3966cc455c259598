// The density e^(eta x) eta / (e^eta - 1) on [0, 1] (Loaiza-Ganem and Cunningham 2019). Every
// formula is for |eta| and mirrored, so that no exponential overflows, and is a series near 0.


const isSmall = (eta) => Math.abs(eta) < 0.05;

export function continuous_bernoulli(head, map) {
  const logits = map("logits");
  return {
    mean: logits.map(mean),
    deviation: logits.map((eta) => Math.sqrt(variance(eta))),
    draw: (random) => logits.map((eta) => draw(eta, random.uniform())),
    logProb: (x) => x.reduce((sum, value, j) => sum + logits[j] * value - logIntegral(logits[j]), 0),
    withSigma: null,
  };
}

function mean(eta) {
  if (isSmall(eta)) return 0.5 + eta / 12 - eta ** 3 / 720;
  const size = Math.abs(eta);
  const positive = -1 / Math.expm1(-size) - 1 / size;
  return eta > 0 ? positive : 1 - positive;
}

function variance(eta) {
  if (isSmall(eta)) return 1 / 12 - eta ** 2 / 240 + eta ** 4 / 6048;
  return 1 / eta ** 2 - 1 / (2 * Math.sinh(eta / 2)) ** 2;
}

// ln((e^eta - 1) / eta)
function logIntegral(eta) {
  if (isSmall(eta)) return eta / 2 + eta ** 2 / 24 - eta ** 4 / 2880;
  const size = Math.abs(eta);
  return Math.max(eta, 0) + Math.log(-Math.expm1(-size)) - Math.log(size);
}

function draw(eta, uniform) {
  const size = Math.max(Math.abs(eta), 1e-6);
  const x = Math.log1p(uniform * Math.expm1(-size)) / -size;
  return eta > 0 ? 1 - x : x;
}
