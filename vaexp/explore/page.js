// The page: what the visitor does changes the state, and each change draws what depends on it.

import { drawChart, nats, shown } from "./charts.js";
import { elboOf, latentRates, meanElbo, measured, outside, rootMeanSquare, spreadOfCodes } from "./measures.js";
import { covariance, decode } from "./model.js";
import { randomFrom } from "./numbers.js";
import { SIDE, clear, mosaic, paintHeat, paintImage } from "./painting.js";
import { drawPlane, viewOf } from "./plane.js";
import { fitted, fittedAxes, fromHash, toHash } from "./state.js";
import { ofPixels, toUnit } from "./transforms.js";
import { unpack } from "./unpack.js";

const REACH = 12; // of the plane and the sliders, in standard deviations of the prior
const SWEEP = [-2, -1, 0, 1, 2];
const STEPS = 9; // images between A and B
const ACROSS = 21; // images along each side of the plane
const PIXELS = SIDE * SIDE;
const SECONDS = 4; // from A to B

const element = (id) => document.getElementById(id);
const say = (id, text) => { if (element(id)) element(id).textContent = text; };
const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;

// The packed data of the page become runs with a model, and images { pixels, digit }.
async function opened() {
  const data = JSON.parse(element("data").textContent);
  const runs = await Promise.all(data.runs.map(async (run) => (
    { ...run, model: await unpack(run.model, run.text), trials: [] })));
  const { pixels, digits } = await unpack(data.images, data.text);
  const images = digits.map((digit, i) => (
    { digit, pixels: pixels.subarray(i * PIXELS, (i + 1) * PIXELS) }));
  return { ...data, runs, images };
}

class Explorer {
  constructor(data) {
    this.data = data;
    this.sketch = null; // grey values that were drawn by hand
    this.hovered = -1;
    this.playing = null;
    this.waiting = new Set();
    const first = data.runs[0].model.latent;
    this.start = {
      run: 0, z: fitted([], first), digit: 0, axes: this.bestAxes(0), sigma: null,
      image: 0, seed: 1, plane: false, marked: false, from: null, to: null, along: 0,
    };
    const [here, ...others] = this.codesOf(0).map(({ q }) => [...q.mean]);
    const sameDigit = others.findIndex((_, i) => data.images[i + 1].digit === data.images[0].digit);
    Object.assign(this.start, {
      z: here, digit: data.images[0].digit, from: here, to: others[Math.max(sameDigit, 0)] ?? here,
    });
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
    if (has("run")) this.drawRun();
    if (has("run", "digit", "axes")) this.drawControls();
    if (has("run", "z", "digit", "seed", "marked")) this.drawPoint();
    if (has("run", "digit", "axes", "plane") || (has("z") && this.run.model.latent > 2)) {
      this.background = null;
    }
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
      const points = this.data.runs.map((_, i) => {
        const { rate, distortion } = this.ownOf(i);
        return { x: rate, y: distortion, chosen: i === this.state.run };
      });
      say("run-rate", nats(points[this.state.run].x));
      say("run-distortion", nats(points[this.state.run].y));
      points.push(points.splice(this.state.run, 1)[0]); // on top of the others
      drawChart(element("runs-chart"), points, ["rate, nats", "distortion, nats"], "");
    }
    const reach = Math.max(...this.codes.map(({ q }) => Math.max(...q.mean.map(Math.abs))));
    this.reach = Math.min(Math.max(3.4, 1.05 * reach), REACH);
    const hasSigma = run.model.head.sigma !== null;
    element("sigma-part").hidden = !hasSigma;
    element("guide-sigma").hidden = !hasSigma;
    element("closed-form").hidden = !run.model.rmseIsBest;
    element("implied").hidden = run.model.implied === null;
    say("no-implied", run.model.implied === null ? `Here β is no choice of σ: ${run.model.noImplied}.` : "");
    element("sweep-part").hidden = run.noSweep !== null;
    element("guide-sweep").hidden = run.noSweep !== null;
    element("guide-no-sweep").hidden = run.noSweep === null;
    const why = run.noSweep && `There is no strip μ(z) + k σ(z) here, as ${run.noSweep}.`;
    say("no-sweep", why ?? "");
    say("guide-no-sweep", why ?? "");
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
      label.append(`latent z${i + 1}`, slider, document.createElement("output"));
      return label;
    }));
  }

  drawPoint() {
    const { state } = this;
    const p = this.decodeAt(state.z);
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
      output.textContent = state.z[i].toFixed(2);
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
    run.best = best;
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
    paintImage(element("pad"), pixels instanceof Float32Array ? pixels : Float32Array.from(pixels, (p) => p / 255));
    const digit = this.sketch ? state.digit : image.digit;
    say("pad-text", this.sketch ? "Drawn by hand." : `Test image ${state.image + 1} of ${data.images.length}, digit ${digit}.`);
    const grey = this.sketch ? this.sketch.map((v) => 255 * v) : pixels;
    const x = ofPixels(run.transform, grey, randomFrom(3));
    const found = elboOf(run, x, digit, state.sigma, LIKELIHOODS);
    this.posterior = found.q;
    paintImage(element("rebuilt"), this.unit(this.decodeAt(found.q.mean, digit).mean), state.marked);
    say("image-numbers", `ELBO ${nats(found.elbo)} = −rate ${nats(found.rate)} − distortion ${nats(found.distortion)} nats.`);
  }

  drawBetween() {
    [...element("between").children].forEach((figure, i) => {
      paintImage(figure.firstChild, this.unit(this.decodeAt(this.between(i / (STEPS - 1))).mean));
    });
  }

  between(share) {
    const { from, to } = this.state;
    return from.map((value, i) => value + share * (to[i] - value));
  }

  drawPlane() {
    const { state, run } = this;
    const canvas = element("plane");
    const [a, b] = state.axes;
    const at = (z) => [z[a], a === b ? 0 : z[b]];
    this.view = viewOf(canvas, this.reach);
    if (state.plane) this.background ??= this.planeImages();
    const faded = (digit) => run.model.classes > 0 && digit !== state.digit;
    const q = this.posterior;
    drawPlane(canvas, {
      view: this.view,
      background: state.plane ? this.background : null,
      codes: this.codes.map(({ q: code }, i) => {
        const { digit } = this.data.images[i];
        return { at: at(code.mean), colour: this.data.colours[digit], faded: faded(digit) };
      }),
      posterior: q && {
        at: at(q.mean),
        covariance: [covariance(q, a, a), a === b ? 0 : covariance(q, a, b), a === b ? 0 : covariance(q, b, b)],
      },
      point: at(state.z),
      from: at(state.from),
      to: at(state.to),
      names: [`z${a + 1}`, a === b ? "" : `z${b + 1}`],
    });
  }

  // mu(z) on a grid over the plane, with the other latents as they are.
  planeImages() {
    const step = (2 * this.reach) / ACROSS;
    const place = (i) => -this.reach + (i + 0.5) * step;
    return mosaic(Array.from({ length: ACROSS }, (_, row) => Array.from({ length: ACROSS }, (__, column) => (
      this.unit(this.decodeAt(this.moved(place(column), -place(row))).mean)))));
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
      output.textContent = numbers[output.dataset.number] ?? "–";
    }
  }

  // Actions

  goTo(index) {
    const { latent } = this.data.runs[index].model;
    const fit = (z) => fitted(z, latent);
    const { z, axes, from, to } = this.state;
    this.change({ run: index, z: fit(z), axes: fittedAxes(axes, latent), from: fit(from), to: fit(to) });
  }

  choose(index) {
    const { images } = this.data;
    this.sketch = null;
    const image = (index + images.length) % images.length;
    this.change({ image, z: [...this.codes[image].q.mean], digit: images[image].digit });
  }

  nearest([across, up]) {
    const [a, b] = this.state.axes;
    const distances = this.codes.map(({ q }) => Math.hypot(q.mean[a] - across, a === b ? up : q.mean[b] - up));
    const index = distances.indexOf(Math.min(...distances));
    return { index, distance: distances[index] };
  }

  get point() { return this.state.axes.map((axis, i) => (i && axis === this.state.axes[0] ? 0 : this.state.z[axis])); }

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

  // The plane and the pictures of the point, as one picture to keep.
  save() {
    const out = document.createElement("canvas");
    [out.width, out.height] = [1000, 560];
    const context = out.getContext("2d");
    context.fillStyle = "#fff";
    context.fillRect(0, 0, out.width, out.height);
    context.drawImage(element("plane"), 20, 60, 480, 480);
    context.imageSmoothingEnabled = false;
    context.fillStyle = "#222";
    context.font = "16px system-ui, sans-serif";
    context.fillText(this.run.caption, 20, 32, 960);
    [["mean", "μ(z)"], ["deviation", "σ(z)"], ["draw", "x ~ p(x|z)"]].forEach(([id, name], i) => {
      context.drawImage(element(id), 520 + 156 * i, 60, 140, 140);
      context.fillText(name, 520 + 156 * i, 222);
    });
    if (this.run.noSweep === null) {
      [...element("sweep").children].forEach((figure, i) => {
        context.drawImage(figure.firstChild, 520 + 92 * i, 260, 84, 84);
      });
      context.fillText("μ(z) + k σ(z), k = −2 … 2", 520, 366);
    }
    const z = this.state.z.map((value) => value.toFixed(2)).slice(0, 8).join(", ");
    context.fillText(`z = (${z}${this.state.z.length > 8 ? ", …" : ""})`, 520, 400, 460);
    out.toBlob((blob) => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = `${this.run.name}.png`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
  }
}

// A small picture with room for a name below it.
function small(name, words) {
  const figure = document.createElement("figure");
  const canvas = document.createElement("canvas");
  canvas.className = "image";
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", words);
  const caption = document.createElement("figcaption");
  caption.textContent = name;
  figure.append(canvas, caption);
  return figure;
}

function build(explorer) {
  const { data } = explorer;
  element("sweep").replaceChildren(...SWEEP.map((k) => {
    const name = String(k).replace("-", "−");
    return small(`k = ${name}`, `The mean plus ${name} sigma`);
  }));
  element("between").replaceChildren(...Array.from({ length: STEPS }, (_, i) =>
    small(i === 0 ? "A" : i === STEPS - 1 ? "B" : "", `Image ${i + 1} of ${STEPS} from A to B`)));
  element("digit").replaceChildren(...data.digits.map((digit) => new Option(digit, digit)));
  element("legend").replaceChildren(...data.digits.map((digit) => {
    const item = document.createElement("li");
    const dot = document.createElement("canvas");
    dot.setAttribute("aria-hidden", "true");
    dot.style.background = data.colours[digit];
    item.append(dot, String(digit));
    return item;
  }));
}

function listen(explorer) {
  const on = (id, event, action) => element(id)?.addEventListener(event, action);
  const click = (id, action) => on(id, "click", action);
  on("run", "input", ({ target }) => explorer.goTo(Number(target.value)));
  click("redraw", () => explorer.redraw());
  document.querySelector("[data-redraw]").addEventListener("click", () => explorer.redraw());
  on("marked", "change", ({ target }) => explorer.change({ marked: target.checked }));
  on("plane-images", "change", ({ target }) => explorer.change({ plane: target.checked }));
  on("digit", "change", ({ target }) => explorer.change({ digit: Number(target.value) }));
  for (const side of [0, 1]) {
    on(`axis-${side}`, "change", ({ target }) => {
      const axes = [...explorer.state.axes];
      const chosen = Number(target.value);
      if (axes[1 - side] === chosen) axes[1 - side] = axes[side]; // the two change places
      axes[side] = chosen;
      explorer.change({ axes });
    });
  }
  on("sigma", "input", ({ target }) => explorer.change({ sigma: 10 ** Number(target.value) }));
  on("sigma-own", "change", ({ target }) => {
    explorer.change({ sigma: target.checked ? null : 10 ** Number(element("sigma").value) });
  });
  document.querySelector("[data-sigma]").addEventListener("click", () => explorer.change({ sigma: 1 }));
  click("set-implied", () => explorer.change({ sigma: explorer.run.model.implied }));
  click("image-before", () => explorer.choose(explorer.state.image - 1));
  click("image-after", () => explorer.choose(explorer.state.image + 1));
  click("image-near", () => explorer.choose(explorer.nearest(explorer.point).index));
  click("image-clear", () => {
    explorer.sketch = null;
    explorer.change({ image: -1, sketch: null });
  });
  click("set-from", () => explorer.change({ from: [...explorer.state.z] }));
  click("set-to", () => explorer.change({ to: [...explorer.state.z] }));
  click("play", () => explorer.play());
  on("along", "input", ({ target }) => {
    const along = Number(target.value);
    explorer.change({ along, z: explorer.between(along) });
  });
  click("save", () => explorer.save());
  click("reset", () => {
    explorer.sketch = null;
    explorer.change({ ...explorer.start, sketch: null });
    showBoxes(explorer);
  });
}

function listenToPlane(explorer) {
  const plane = element("plane");
  const place = (event) => {
    const box = plane.getBoundingClientRect();
    return explorer.view.toLatent([event.clientX - box.left, event.clientY - box.top]);
  };
  const move = (event) => explorer.change({ z: explorer.moved(...place(event)) });
  plane.addEventListener("pointerdown", (event) => {
    plane.setPointerCapture(event.pointerId);
    move(event);
  });
  plane.addEventListener("pointermove", (event) => {
    if (event.buttons) move(event);
    hover(explorer, event.buttons ? null : place(event));
  });
  plane.addEventListener("pointerleave", () => hover(explorer, null));
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  plane.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = steps[event.key];
    const size = event.shiftKey ? 0.5 : 0.1;
    const [across, up] = explorer.point;
    if (step) explorer.change({ z: explorer.moved(across + size * step[0], up + size * step[1]) });
    else if (event.key === "Home") explorer.change({ z: explorer.moved(0, 0) });
    else if (event.key === "Enter") explorer.choose(explorer.nearest(explorer.point).index);
    else if (event.key.toLowerCase() === "r") explorer.redraw();
    else if (event.key.toLowerCase() === "p") explorer.play();
    else return;
    event.preventDefault();
  });
}

// Show the test image whose code is at a place of the plane, if one is near.
function hover(explorer, place) {
  const box = element("hover");
  const near = place && explorer.nearest(place);
  box.hidden = !near || near.distance * explorer.view.scale > 8;
  if (box.hidden) return;
  const { pixels, digit } = explorer.data.images[near.index];
  paintImage(element("hover-image"), Float32Array.from(pixels, (pixel) => pixel / 255));
  say("hover-text", `digit ${digit}`);
  const [x, y] = explorer.view.toScreen(place);
  const { width } = element("plane").getBoundingClientRect();
  box.style.left = `${x > width - 90 ? x - 80 : x + 12}px`;
  box.style.top = `${Math.max(0, y - 40)}px`;
}

// Draw on the pad: each place that the pointer passes gets ink, most in the middle.
function listenToPad(explorer) {
  const pad = element("pad");
  let last = null;
  const ink = (event) => {
    const box = pad.getBoundingClientRect();
    const to = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]
      .map((share) => share * SIDE - 0.5);
    const from = last ?? to;
    const count = Math.ceil(Math.hypot(to[0] - from[0], to[1] - from[1]) * 2) + 1;
    for (let i = 1; i <= count; i += 1) {
      dab(explorer.sketch, from.map((value, k) => value + (i / count) * (to[k] - value)));
    }
    last = to;
    explorer.change({ sketch: null, image: -1 });
  };
  pad.addEventListener("pointerdown", (event) => {
    pad.setPointerCapture(event.pointerId);
    explorer.sketch ??= new Float32Array(SIDE * SIDE);
    last = null;
    ink(event);
  });
  pad.addEventListener("pointermove", (event) => { if (event.buttons && explorer.sketch) ink(event); });
}

function dab(pixels, [x, y]) {
  for (let row = Math.floor(y) - 2; row <= y + 2; row += 1) {
    for (let column = Math.floor(x) - 2; column <= x + 2; column += 1) {
      if (row < 0 || column < 0 || row >= SIDE || column >= SIDE) continue;
      const ink = Math.min(1, 1.6 * Math.exp(-((column - x) ** 2 + (row - y) ** 2) / 1.4));
      const at = row * SIDE + column;
      pixels[at] = Math.max(pixels[at], ink < 0.05 ? 0 : ink);
    }
  }
}

function showBoxes({ state }) {
  element("marked").checked = state.marked;
  element("plane-images").checked = state.plane;
}

async function main() {
  const explorer = new Explorer(await opened());
  build(explorer);
  listen(explorer);
  listenToPlane(explorer);
  listenToPad(explorer);
  const all = () => {
    showBoxes(explorer);
    explorer.change({ ...explorer.state });
  };
  all();
  window.addEventListener("hashchange", () => {
    explorer.state = explorer.read();
    all();
  });
  window.addEventListener("resize", all);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", all);
}

main();
