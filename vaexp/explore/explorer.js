// The explorer: it holds the state, and each change of it draws what depends on that.

import { drawChart, minus, nats, percent, shown } from "./charts.js";
import { element, say, write } from "./elements.js";
import {
  elboOf, latentRates, meanElbo, measured, outside, rootMeanSquare, spreadOfCodes, withSigma,
} from "./measures.js";
import { covariance, decode } from "./model.js";
import { randomFrom } from "./numbers.js";
import { clear, forgetSizes, mosaic, paintHeat, paintImage } from "./painting.js";
import { drawPlane, viewOf } from "./plane.js";
import { fitted, fittedAxes, fromHash, toHash } from "./state.js";
import { ofPixels, toUnit } from "./transforms.js";

const REACH = 12; // of the plane and the sliders, in standard deviations of the prior
export const SWEEP = [-2, -1, 0, 1, 2];
export const STEPS = 9; // images between A and B
const ACROSS = 15; // images along each side of the plane
const SECONDS = 4; // from A to B

export class Explorer {
  constructor(data) {
    this.data = data;
    this.sketch = null; // grey values 0 to 255 that were drawn by hand
    this.playing = null;
    this.waiting = new Set();
    const [here, ...others] = this.codesOf(0).map(({ q }) => [...q.mean]);
    const { digit } = data.images[0];
    const sameDigit = data.images.slice(1).findIndex((image) => image.digit === digit);
    this.start = {
      run: 0, z: here, digit, axes: this.bestAxes(0), sigma: null, image: 0, seed: 1,
      plane: false, marked: false, from: here, to: others[Math.max(sameDigit, 0)] ?? here, along: 0,
    };
    const known = data.runs.map(({ model }) => ({ latent: model.latent, digits: data.digits }));
    this.read = () => fromHash(location.hash, this.start, known, data.images.length);
    this.state = this.read();
  }

  get run() { return this.data.runs[this.state.run]; }

  decodeAt(z, digit = this.state.digit) { return decode(this.run.model, LIKELIHOODS, z, digit); }

  unit(x) { return toUnit(this.run.transform, x); }

  // What a run makes of the loaded images, which is computed once.
  codesOf(index) {
    const run = this.data.runs[index];
    run.codes ??= measured(run, this.data.images, LIKELIHOODS);
    return run.codes;
  }

  // Its rate, distortion and ELBO with the sigma that it has.
  ownOf(index) {
    const run = this.data.runs[index];
    run.own ??= meanElbo(this.codesOf(index), null);
    return run.own;
  }

  get codes() { return this.codesOf(this.state.run); }

  // The two latents with the largest rate.
  bestAxes(index) {
    const { latent } = this.data.runs[index].model;
    if (latent <= 2) return [0, latent - 1];
    const rates = latentRates(this.codesOf(index), latent);
    const order = rates.map((_, i) => i).sort((a, b) => rates[b] - rates[a]);
    return [order[0], order[1]].sort((a, b) => a - b);
  }

  // Change the state, and draw what depends on it before the next frame.
  change(changes) {
    Object.assign(this.state, changes);
    for (const name of Object.keys(changes)) this.waiting.add(name);
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      const changed = this.waiting;
      this.waiting = new Set();
      this.draw((...names) => names.some((name) => changed.has(name)));
      clearTimeout(this.saving); // browsers allow few changes of the address per second
      this.saving = setTimeout(() => {
        history.replaceState(null, "", toHash(this.state, this.start));
      }, 300);
    });
  }

  draw(has) {
    if (has("run")) {
      forgetSizes();
      this.drawRun();
    }
    if (has("run", "digit", "axes")) this.drawControls();
    if (has("run", "z", "digit", "seed", "marked", "sigma")) this.drawPoint();
    if (has("run", "sigma")) this.drawSigma();
    if (has("run", "digit", "sigma", "image", "sketch")) this.drawImage();
    if (has("run", "digit", "from", "to")) this.drawBetween();
    element("along").value = this.state.along;
    this.drawPlane();
    this.drawNumbers();
  }

  drawRun() {
    const { run } = this;
    say("caption", run.caption);
    say("run-name", `${run.name}, ${this.state.run + 1} of ${this.data.runs.length}`);
    say("run-beta", shown(run.beta));
    if (element("run")) {
      element("run").max = this.data.runs.length - 1;
      element("run").value = this.state.run;
      element("run").setAttribute("aria-valuetext", run.name);
      const { rate, distortion } = this.ownOf(this.state.run);
      say("run-rate", nats(rate));
      say("run-distortion", nats(distortion));
      this.drawRuns();
    }
    const reach = Math.max(...this.codes.map(({ q }) => Math.max(...q.mean.map(Math.abs))));
    this.reach = Math.min(Math.max(3.4, 1.05 * reach), REACH);
    const hasSigma = run.model.head.sigma !== null;
    element("sigma-part").hidden = !hasSigma;
    element("guide-sigma").hidden = !hasSigma;
    element("closed-form").hidden = !run.model.rmseIsBest;
    element("implied").hidden = run.model.implied === null;
    const { implied, noImplied } = run.model;
    say("no-implied", implied === null ? `Here β is no choice of σ: ${noImplied}.` : "");
    element("sweep-part").hidden = run.noSweep !== null;
    element("guide-sweep").hidden = run.noSweep !== null;
    element("guide-no-sweep").hidden = run.noSweep === null;
    const why = run.noSweep
      && `This likelihood has no strip μ(z) + k σ(z): ${run.noSweep}.`;
    say("no-sweep", why ?? "");
    say("guide-no-sweep", why ?? "");
  }

  // The runs that have been measured so far. The one that is shown lies on top of the others.
  drawRuns() {
    const points = this.data.runs.filter(({ own }) => own).map((run) => (
      { x: run.own.rate, y: run.own.distortion, chosen: run === this.run }));
    points.sort((one, other) => one.chosen - other.chosen);
    drawChart(element("runs-chart"), points, ["rate, nats", "distortion, nats"], "");
  }

  // Measure the other runs, one after another, so that the page answers in between.
  async measureAll() {
    for (let i = 0; i < this.data.runs.length; i += 1) {
      await new Promise((go) => { setTimeout(go); });
      this.ownOf(i);
      this.drawRuns();
    }
  }

  // The controls of the point: its digit, the axes, and a slider for each latent.
  drawControls() {
    const { run, state } = this;
    const { latent, classes } = run.model;
    element("digit-part").hidden = !classes;
    element("digit").value = state.digit;
    element("axes-part").hidden = latent < 3;
    for (const side of [0, 1]) {
      const select = element(`axis-${side}`);
      const rates = latent > 2 ? latentRates(this.codes, latent) : [];
      select.replaceChildren(...rates.map((rate, i) =>
        new Option(`z${i + 1} (${shown(rate)} nats)`, i, false, i === state.axes[side])));
    }
    const box = element("latents");
    box.replaceChildren(...Array.from({ length: latent }, (_, i) => {
      const label = document.createElement("label");
      const slider = document.createElement("input");
      Object.assign(slider, { type: "range", min: -this.reach, max: this.reach, step: 0.01 });
      slider.addEventListener("input", () => {
        this.change({ z: state.z.map((value, k) => (k === i ? Number(slider.value) : value)) });
      });
      const value = document.createElement("span");
      value.setAttribute("aria-hidden", "true"); // the slider says it
      label.append(`latent z${i + 1}`, slider, value);
      return label;
    }));
  }

  drawPoint() {
    const { state } = this;
    const p = withSigma(this.decodeAt(state.z), state.sigma);
    const mean = this.unit(p.mean);
    const drawn = this.unit(p.draw(randomFrom(state.seed)));
    paintImage(element("mean"), mean, state.marked);
    paintImage(element("draw"), drawn, state.marked);
    const [low, high] = paintHeat(element("deviation"), p.deviation);
    this.numbers = {
      "deviation-low": shown(low),
      "deviation-high": shown(high),
      "outside-mean": percent(outside(mean)),
      "outside-draw": percent(outside(drawn)),
    };
    for (const [id, text] of Object.entries(this.numbers)) say(id, text);
    if (this.run.noSweep === null) {
      SWEEP.forEach((k, i) => {
        const unit = this.unit(p.mean.map((value, j) => value + k * p.deviation[j]));
        paintImage(element("sweep").children[i].firstChild, unit, state.marked);
        if (k === 2) this.numbers["outside-sweep"] = percent(outside(unit));
      });
    }
    [...element("latents").children].forEach((label, i) => {
      const [slider, output] = label.children;
      slider.value = state.z[i];
      write(output, minus(state.z[i].toFixed(2)));
    });
  }

  drawSigma() {
    const { run, state } = this;
    if (run.model.head.sigma === null) return;
    const own = this.ownOf(state.run);
    const now = state.sigma === null ? own : meanElbo(this.codes, state.sigma);
    element("sigma-own").checked = state.sigma === null;
    if (state.sigma !== null) {
      element("sigma").value = Math.log10(state.sigma);
      run.trials = run.trials.filter(({ x }) => x !== state.sigma);
      run.trials.push({ x: state.sigma, y: now.elbo });
    }
    const value = state.sigma === null ? "as the model has it" : shown(state.sigma);
    say("sigma-value", value);
    element("sigma").setAttribute("aria-valuetext", value);
    for (const name of ["elbo", "rate", "distortion"]) say(name, nats(now[name]));
    const best = run.trials.reduce((a, b) => (b.y > a.y ? b : a), { x: NaN, y: -Infinity });
    element("tried").hidden = !run.trials.length;
    say("best-elbo", run.trials.length ? nats(best.y) : "–");
    say("best-sigma", shown(best.x));
    say("own-elbo", nats(own.elbo));
    const near = run.trials.filter(({ y }) => y > best.y - 2000); // the others are off the chart
    drawChart(element("sigma-chart"),
      near.map((one) => ({ ...one, chosen: one.x === state.sigma })),
      ["σ", "ELBO, nats"], "Each σ that you try becomes a point.", Math.log);
  }

  // The image that is encoded: drawn by hand, or a test image, or none.
  drawImage() {
    const { state, run, data } = this;
    const image = data.images[state.image];
    const pixels = this.sketch ?? image?.pixels;
    this.posterior = null;
    if (!pixels) {
      clear(element("pad"));
      clear(element("rebuilt"));
      say("pad-text", "Draw here.");
      say("image-numbers", "Draw a digit, or choose a test image.");
      return;
    }
    const digit = this.sketch ? state.digit : image.digit;
    const which = `Test image ${state.image + 1} of ${data.images.length}, digit ${digit}.`;
    say("pad-text", this.sketch ? "Drawn by hand." : which);
    const x = ofPixels(run.transform, pixels, randomFrom(3));
    paintImage(element("pad"), this.unit(x));
    const found = elboOf(run, x, digit, state.sigma, LIKELIHOODS);
    this.posterior = found.q;
    paintImage(element("rebuilt"), this.unit(this.decodeAt(found.q.mean, digit).mean), state.marked);
    const { elbo, rate, distortion } = found;
    const byHand = state.sigma !== null && run.model.head.sigma !== null;
    const at = byHand ? ` at σ = ${shown(state.sigma)}` : "";
    say("image-numbers",
      `ELBO ${nats(elbo)} = −rate ${nats(rate)} − distortion ${nats(distortion)} nats${at}.`);
  }

  drawBetween() {
    [...element("between").children].forEach((figure, i) => {
      paintImage(figure.firstChild, this.unit(this.decodeAt(this.between(i / (STEPS - 1))).mean));
    });
  }

  between(share) {
    return this.state.from.map((value, i) => value + share * (this.state.to[i] - value));
  }

  drawPlane() {
    const { state, run } = this;
    const canvas = element("plane");
    const [a, b] = state.axes;
    const at = (z) => [z[a], a === b ? 0 : z[b]];
    this.view = viewOf(canvas, this.reach);
    const faded = (digit) => run.model.classes > 0 && digit !== state.digit;
    const q = this.posterior;
    drawPlane(canvas, {
      view: this.view,
      background: state.plane ? this.planeImages() : null,
      codes: this.codes.map(({ q: code }, i) => {
        const { digit } = this.data.images[i];
        return { at: at(code.mean), colour: this.data.colours[digit], faded: faded(digit) };
      }),
      posterior: q && {
        at: at(q.mean),
        covariance: a === b ? [covariance(q, a, a), 0, 0]
          : [covariance(q, a, a), covariance(q, a, b), covariance(q, b, b)],
      },
      point: at(state.z),
      from: at(state.from),
      to: at(state.to),
      names: [`z${a + 1}`, a === b ? "" : `z${b + 1}`],
    });
  }

  // mu(z) on a grid over the plane, with the other latents as they are. It is kept until one of
  // them, or what else it depends on, changes.
  planeImages() {
    const { run, digit, axes } = this.state;
    const key = JSON.stringify([run, digit, axes, this.moved(0, 0)]);
    if (this.kept?.key !== key) this.kept = { key, images: this.allOverThePlane() };
    return this.kept.images;
  }

  allOverThePlane() {
    const step = (2 * this.reach) / ACROSS;
    const place = (i) => -this.reach + (i + 0.5) * step;
    const image = (row, column) => this.decodeAt(this.moved(place(column), -place(row))).mean;
    const line = (row) => Array.from({ length: ACROSS }, (_, column) => (
      this.unit(image(row, column))));
    return mosaic(Array.from({ length: ACROSS }, (_, row) => line(row)));
  }

  // z with other values along the two axes.
  moved(across, up) {
    const z = [...this.state.z];
    if (this.state.axes[1] !== this.state.axes[0]) z[this.state.axes[1]] = up;
    z[this.state.axes[0]] = across;
    return z;
  }

  drawNumbers() {
    const { run, state } = this;
    const hasSigma = run.model.head.sigma !== null;
    if (hasSigma) run.atOne ??= meanElbo(this.codes, 1).elbo;
    run.rmse ??= rootMeanSquare(this.codes);
    const numbers = {
      ...this.numbers,
      "elbo-at-1": hasSigma ? nats(run.atOne) : "",
      "best-elbo": element("best-elbo").textContent,
      "best-sigma": element("best-sigma").textContent,
      rmse: shown(run.rmse),
      beta: shown(run.beta),
      "mean-rate": nats(this.ownOf(state.run).rate),
      implied: run.model.implied === null ? "" : shown(run.model.implied),
      "spread-0": shown(spreadOfCodes(this.codes, state.axes[0])),
      "spread-1": shown(spreadOfCodes(this.codes, state.axes[1])),
    };
    for (const output of document.querySelectorAll("[data-number]")) {
      write(output, numbers[output.dataset.number] ?? "–");
    }
  }

  // Actions

  // Show another run. A point that is the code of an image stays the code of that image.
  goTo(index) {
    const { latent } = this.data.runs[index].model;
    const moved = (z) => {
      const isHere = ({ q }) => q.mean.every((value, i) => Math.abs(value - z[i]) < 1e-3);
      const image = this.codes.findIndex(isHere);
      return image < 0 ? fitted(z, latent) : [...this.codesOf(index)[image].q.mean];
    };
    const { z, from, to } = this.state;
    const axes = fittedAxes(this.state.axes, latent);
    this.change({ run: index, z: moved(z), axes, from: moved(from), to: moved(to) });
  }

  choose(index) {
    const { images } = this.data;
    this.sketch = null;
    const image = (index + images.length) % images.length;
    this.change({ image, z: [...this.codes[image].q.mean], digit: images[image].digit });
  }

  nearest([across, up]) {
    const [a, b] = this.state.axes;
    const distances = this.codes.map(({ q }) => (
      Math.hypot(q.mean[a] - across, a === b ? up : q.mean[b] - up)));
    const index = distances.indexOf(Math.min(...distances));
    return { index, distance: distances[index] };
  }

  // z on the plane. A single latent lies across, and its other coordinate is 0.
  get point() {
    const [a, b] = this.state.axes;
    return [this.state.z[a], a === b ? 0 : this.state.z[b]];
  }

  redraw() { this.change({ seed: this.state.seed + 1 }); }

  play() {
    if (this.playing) {
      cancelAnimationFrame(this.playing);
      this.playing = null;
    } else {
      const began = performance.now() - Math.asin(2 * this.state.along - 1) / Math.PI * 1000 * SECONDS;
      const step = (now) => {
        const along = (1 + Math.sin(((now - began) * Math.PI) / (1000 * SECONDS))) / 2;
        this.change({ along, z: this.between(along) });
        this.playing = requestAnimationFrame(step);
      };
      this.playing = requestAnimationFrame(step);
    }
    element("play").setAttribute("aria-pressed", String(this.playing !== null));
    say("play", this.playing ? "Stop" : "Play");
  }
}
