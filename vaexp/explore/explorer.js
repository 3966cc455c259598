// The explorer: it holds the state, and each change of it draws what depends on that.

import { drawChart, minus, nats, shown, vector } from "./charts.js";
import { shareOutside, showDecoded } from "./common.js";
import { element, say, tellRun, write } from "./elements.js";
import {
  elboOf, latentRates, meanElbo, measured, rootMeanSquare, spreadOfCodes, withSigma,
} from "./measures.js";
import { Kept } from "./kept.js";
import { decodeAll } from "./model.js";
import { randomFrom } from "./numbers.js";
import { clear, forgetSizes, paintImage } from "./painting.js";
import { drawPlane, viewOf } from "./plane.js";
import { nearest, sceneOf } from "./scene.js";
import { fitted, fittedAxes, fromHash, toHash } from "./state.js";
import { logOf, tell } from "./texts.js";
import { ofPixels, toUnit } from "./transforms.js";

const REACH = 12; // of the plane and the sliders, in standard deviations of the prior
export const SWEEP = [-2, -1, 0, 1, 2];
export const STEPS = 9; // images between A and B
const SECONDS = 4; // from A to B
const FEW = 50; // images of the ELBO while sigma is dragged

export class Explorer {
  constructor(data) {
    this.data = data;
    this.sketch = null; // grey values 0 to 255 that were drawn by hand
    this.playing = null;
    this.dragging = false; // sigma
    this.numbers = {}; // in the texts
    const [here, ...others] = this.codesOf(0).map(({ q }) => [...q.mean]);
    const { digit } = data.images[0];
    const sameDigit = data.images.slice(1).findIndex((image) => image.digit === digit);
    this.start = {
      run: 0, z: here, digit, axes: this.bestAxes(0), sigma: null, image: 0, seed: 1,
      plane: false, marked: false, from: here, to: others[Math.max(sameDigit, 0)] ?? here, along: 0,
    };
    const known = data.runs.map(({ model }) => ({ latent: model.latent, digits: data.digits }));
    this.kept = new Kept({
      draw: (has) => this.draw(has),
      toHash: (state) => toHash(state, this.start),
      fromHash: (hash) => fromHash(hash, this.start, known, data.images.length),
    });
    this.state = this.kept.state;
  }

  get run() { return this.data.runs[this.state.run]; }

  decodeAt(z, digit) { return this.decodeAll([z], digit)[0]; }

  decodeAll(zs, digit = this.state.digit) {
    return decodeAll(this.run.model, LIKELIHOODS, zs, digit);
  }

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

  // What the visitor changes. The point no longer plays once it is moved in another way.
  change(changes, dragging = false) {
    if ("z" in changes) this.stop();
    this.dragging = dragging;
    this.kept.show(changes);
  }

  // Another state, in which nothing was drawn by hand.
  become(state) {
    this.sketch = null;
    this.change({ ...state });
  }

  draw(has) {
    if (has("run")) {
      forgetSizes();
      this.drawRun();
    }
    if (has("run", "digit", "axes")) this.drawControls();
    if (has("run", "z", "digit", "seed", "marked", "sigma")) this.drawPoint();
    if (has("run", "sigma")) this.drawSigma();
    if (has("run", "digit", "sigma", "image")) this.drawImage();
    if (has("run", "digit", "from", "to")) this.drawBetween();
    element("along").value = this.state.along;
    element("marked").checked = this.state.marked;
    element("plane-images").checked = this.state.plane;
    this.view = viewOf(element("plane"), this.reach);
    drawPlane(element("plane"), sceneOf(this, this.view));
    this.drawNumbers();
  }

  drawRun() {
    const { run } = this;
    tellRun(this);
    say("run-beta", shown(run.beta));
    if (element("run")) {
      const { rate, distortion } = this.ownOf(this.state.run);
      say("run-rate", nats(rate));
      say("run-distortion", nats(distortion));
      this.drawRuns();
    }
    const reach = Math.max(...this.codes.map(({ q }) => Math.max(...q.mean.map(Math.abs))));
    this.reach = Math.min(Math.max(3.4, 1.05 * reach), REACH);
    tell(run);
  }

  // The runs that have been measured so far and may be compared with the one that is shown, which
  // lies on top of the others.
  drawRuns() {
    const { runs } = this.data;
    const alike = runs.filter((run) => logOf(run) === logOf(this.run));
    const points = alike.filter(({ own }) => own).map((run) => (
      { x: run.own.rate, y: run.own.distortion, chosen: run === this.run }));
    points.sort((one, other) => one.chosen - other.chosen);
    drawChart(element("runs-chart"), points, ["rate, nats", "distortion, nats"], "");
    const others = runs.length - alike.length;
    say("runs-caption", others === 0 ? "" : `${others} of the ${runs.length} runs `
      + `${others === 1 ? "is" : "are"} not drawn, as the ELBO of this run bounds `
      + `${logOf(this.run)}, and only runs with the same can be compared with it.`);
  }

  // Measure the other runs, one after another, so that the page answers in between.
  async measureAll() {
    if (this.data.runs.length === 1) return;
    for (let i = 0; i < this.data.runs.length; i += 1) {
      await new Promise((go) => { setTimeout(go); });
      this.ownOf(i);
      this.drawRuns();
    }
  }

  // The controls of the point: its digit, the axes, and a slider for each latent. Sliders that
  // would be the same stay, and one of them may have the focus.
  drawControls() {
    const { run, state } = this;
    const { latent } = run.model;
    element("digit").value = state.digit;
    for (const side of [0, 1]) {
      const select = element(`axis-${side}`);
      const rates = latent > 2 ? latentRates(this.codes, latent) : [];
      select.replaceChildren(...rates.map((rate, i) =>
        new Option(`z${i + 1} (${shown(rate)} nats)`, i, false, i === state.axes[side])));
    }
    const box = element("latents");
    const kind = `${latent} ${this.reach}`;
    if (box.dataset.kind === kind) return;
    box.dataset.kind = kind;
    box.replaceChildren(...Array.from({ length: latent }, (_, i) => {
      const label = document.createElement("label");
      const slider = document.createElement("input");
      Object.assign(slider, { type: "range", min: -this.reach, max: this.reach, step: 0.01 });
      slider.addEventListener("input", () => {
        this.change({ z: this.state.z.map((value, k) => (k === i ? Number(slider.value) : value)) });
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
    showDecoded(this, p);
    if (this.run.noSweep === null) {
      SWEEP.forEach((k, i) => {
        const unit = this.unit(p.mean.map((value, j) => value + k * p.deviation[j]));
        paintImage(element("sweep").children[i].firstChild, unit, state.marked);
        if (k === 2) this.numbers["outside-sweep"] = shareOutside(this.run, unit);
      });
    }
    [...element("latents").children].forEach((label, i) => {
      const [slider, output] = label.children;
      slider.value = state.z[i];
      write(output, minus(state.z[i].toFixed(2)));
    });
    clearTimeout(this.telling); // a screen reader says where the point has come to rest
    this.telling = setTimeout(() => {
      const { digit } = this.data.images[this.nearest];
      say("point-text", `z = (${vector(this.state.z)}), nearest digit ${digit}`);
    }, 300);
  }

  drawSigma() {
    const { run, state } = this;
    if (run.model.head.sigma === null) return;
    const own = this.ownOf(state.run);
    const codes = this.dragging ? this.codes.slice(0, FEW) : this.codes;
    const now = state.sigma === null ? own : meanElbo(codes, state.sigma);
    element("sigma-own").checked = state.sigma === null;
    const others = run.trials.filter(({ x }) => x !== state.sigma);
    const tried = state.sigma === null ? others : [...others, { x: state.sigma, y: now.elbo }];
    if (state.sigma !== null) element("sigma").value = Math.log10(state.sigma);
    if (!this.dragging) run.trials = tried;
    const value = state.sigma === null ? "as the model has it" : shown(state.sigma);
    say("sigma-value", value);
    element("sigma").setAttribute("aria-valuetext", value);
    for (const name of ["elbo", "rate", "distortion"]) {
      say(name, `${this.dragging ? "≈ " : ""}${nats(now[name])}`);
    }
    const best = run.trials.reduce((a, b) => (b.y > a.y ? b : a), { x: NaN, y: -Infinity });
    element("tried").hidden = !run.trials.length;
    this.note({
      "best-elbo": run.trials.length ? nats(best.y) : "–",
      "best-sigma": shown(best.x),
      "own-elbo": nats(own.elbo),
    });
    const near = tried.filter(({ y }) => y > best.y - 2000); // the others are off the chart
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
    const x = this.sketch
      ? ofPixels(run.transform, pixels, randomFrom(3)) : this.codes[state.image].x;
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
    const figures = [...element("between").children];
    this.decodeAll(figures.map((_, i) => this.between(i / (STEPS - 1)))).forEach(({ mean }, i) => {
      paintImage(figures[i].firstChild, this.unit(mean));
    });
  }

  between(share) {
    return this.state.from.map((value, i) => value + share * (this.state.to[i] - value));
  }

  // Numbers that have places of their own, and others in the guide.
  note(numbers) {
    for (const [id, text] of Object.entries(numbers)) say(id, text);
    Object.assign(this.numbers, numbers);
  }

  drawNumbers() {
    const { run, state } = this;
    const hasSigma = run.model.head.sigma !== null;
    if (hasSigma) run.atOne ??= meanElbo(this.codes, 1).elbo;
    if (run.model.rmseIsBest) run.rmse ??= rootMeanSquare(this.codes);
    const numbers = {
      ...this.numbers,
      "elbo-at-1": hasSigma ? nats(run.atOne) : "",
      rmse: run.model.rmseIsBest ? shown(run.rmse) : "",
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

  // The image whose code is nearest to z, over all latents.
  get nearest() { return nearest(this.codes, this.state.z).index; }

  redraw() { this.change({ seed: this.state.seed + 1 }); }

  play() {
    if (this.playing) {
      this.stop();
      return;
    }
    const began = performance.now() - Math.asin(2 * this.state.along - 1) / Math.PI * 1000 * SECONDS;
    const step = (now) => {
      const along = (1 + Math.sin(((now - began) * Math.PI) / (1000 * SECONDS))) / 2;
      this.kept.show({ along, z: this.between(along) });
      this.playing = requestAnimationFrame(step);
    };
    this.playing = requestAnimationFrame(step);
    say("play", "Stop");
  }

  stop() {
    cancelAnimationFrame(this.playing);
    this.playing = null;
    say("play", "Play");
  }
}
