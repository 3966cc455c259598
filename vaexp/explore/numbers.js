// Functions of numbers that JavaScript lacks, and random numbers that follow from a seed.

// The error function, to 1.2e-7 (Press et al., Numerical Recipes, section 6.2).
export function erf(x) {
  const t = 1 / (1 + 0.5 * Math.abs(x));
  const polynomial = [
    0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418,
    0.37409196, 1.00002368, -1.26551223,
  ].reduce((sum, coefficient) => sum * t + coefficient, 0);
  const beyond = t * Math.exp(-x * x + polynomial);
  return x >= 0 ? 1 - beyond : beyond - 1;
}

export const sigmoid = (x) => (x >= 0 ? 1 / (1 + Math.exp(-x)) : 1 - 1 / (1 + Math.exp(x)));
export const softplus = (x) => (x > 20 ? x : Math.log1p(Math.exp(x)));
export const logSigmoid = (x) => -softplus(-x);
export const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

// A generator of numbers in (0, 1), and of standard normal ones. The first is mulberry32.
export function randomFrom(seed) {
  let state = seed >>> 0;
  let spare = null;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 4294967296;
  };
  const normal = () => {
    if (spare !== null) {
      const given = spare;
      spare = null;
      return given;
    }
    const radius = Math.sqrt(-2 * Math.log(uniform())); // Box and Muller 1958
    const angle = 2 * Math.PI * uniform();
    spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  };
  return { uniform, normal };
}

// A function that computes its value the first time only.
export function once(compute) {
  let value = null;
  return () => {
    value ??= compute();
    return value;
  };
}
