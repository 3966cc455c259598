// The explorer of mixtures: it holds the state, and each change of it draws what depends on that.

import { hashOf, partsOf, wholeIn } from "./address.js";
import { drawChart, nats, percent, shown } from "./charts.js";
import { showDecoded } from "./common.js";
import { element, say, tellRun, write } from "./elements.js";
import { Kept } from "./kept.js";
import {
  byWeight, componentsOf, drawComponent, meanOf, posteriorOf,
} from "./mixtures.js";
import { randomFrom } from "./numbers.js";
import { clear, forgetSizes, paintImage } from "./painting.js";
import { ofPixels, toUnit } from "./transforms.js";

export const DRAWS = 8; // of the whole mixture
export const LIKELY = 5; // components of an image whose shares are shown
const AT_ONCE = 10; // images that are measured before the page answers

export class MixtureExplorer {
  // The state is { run, component, image, seed, means, marked }: `image` is -1 without a test image,
  // and with `means` the draws of the whole mixture are the means of their components.
  constructor(data) {
    this.data = data;
    this.sketch = null; // grey values 0 to 255 that were drawn by hand
    this.start = {
      run: 0, component: this.orderOf(0)[0], image: 0, seed: 1, means: false, marked: false,
    };
    this.kept = new Kept({
      draw: (has) => this.draw(has),
      toHash: (state) => this.toHash(state),
      fromHash: (hash) => this.fromHash(hash),
    });
    this.state = this.kept.state;
  }

  get run() { return this.data.runs[this.state.run]; }

  // The components of a run by their weights, the largest first.
  orderOf(index) {
    const run = this.data.runs[index];
    run.order ??= byWeight(run.model);
    return run.order;
  }

  get components() { return this.componentsOf(this.state.run); }

  componentsOf(index) {
    const run = this.data.runs[index];
    run.components ??= componentsOf(run.model);
    return run.components;
  }

  get weights() { return Array.from(this.run.model.logWeight, Math.exp); }

  // The x of the loaded images.
  imagesOf(run) {
    const random = randomFrom(1);
    run.xs ??= this.data.images.map(({ pixels }) => ofPixels(run.transform, pixels, random));
    return run.xs;
  }

  unit(x) { return toUnit(this.run.transform, x); }

  toHash(state) {
    const parts = new URLSearchParams();
    if (state.run) parts.set("run", state.run);
    parts.set("component", state.component);
    if (state.image !== this.start.image) parts.set("image", state.image);
    if (state.seed !== this.start.seed) parts.set("draw", state.seed);
    if (state.means) parts.set("means", 1);
    if (state.marked) parts.set("marked", 1);
    return hashOf(parts);
  }

  // The state in a hash. What is left out or has no meaning is as at the start.
  fromHash(hash) {
    const { data, start } = this;
    const parts = partsOf(hash);
    const run = wholeIn(parts, "run", 0, data.runs.length - 1, start.run);
    const last = data.runs[run].model.components - 1;
    return {
      run,
      component: wholeIn(parts, "component", 0, last, this.orderOf(run)[0]),
      image: wholeIn(parts, "image", -1, data.images.length - 1, start.image),
      seed: wholeIn(parts, "draw", 1, 2 ** 31, start.seed),
      means: parts.has("means"),
      marked: parts.has("marked"),
    };
  }

  // What the visitor changes.
  change(changes) { this.kept.show(changes); }

  // Another state, in which nothing was drawn by hand.
  become(state) {
    this.sketch = null;
    this.change({ ...state });
  }

  goTo(index) { this.change({ run: index, component: this.orderOf(index)[0] }); }

  choose(index) {
    const { length } = this.data.images;
    this.sketch = null;
    this.change({ image: (index + length) % length });
  }

  redraw() { this.change({ seed: this.state.seed + 1 }); }

  draw(has) {
    if (has("run")) {
      forgetSizes();
      tellRun(this);
      this.drawGrid();
      this.drawRuns();
    }
    if (has("run", "component")) this.markChosen();
    if (has("run", "component", "seed", "marked")) this.drawComponent();
    if (has("run", "seed", "means", "marked")) this.drawMixture();
    if (has("run", "image", "marked")) this.drawImage();
    element("marked").checked = this.state.marked;
    element("means").value = this.state.means ? "mean" : "draw";
  }

  // A button with the mean of each component. Buttons that are there already stay.
  drawGrid() {
    const { components, weights } = this;
    const grid = element("components");
    const missing = components.length - grid.children.length;
    for (let i = 0; i < missing; i += 1) grid.append(componentButton());
    for (let i = missing; i < 0; i += 1) grid.lastChild.remove();
    this.orderOf(this.state.run).forEach((k, i) => {
      const button = grid.children[i];
      button.dataset.component = k;
      button.setAttribute("aria-label", `Component ${k}, weight ${percent(weights[k])}`);
      paintImage(button.firstChild, this.unit(components[k].mean));
      write(button.lastChild, percent(weights[k]));
    });
    this.tellLeast();
    const { unit, floor } = this.run;
    const isFor = { unit, floor: floor > 0, noFloor: floor === 0 };
    for (const node of document.querySelectorAll("[data-if]")) {
      node.hidden = !isFor[node.dataset.if];
    }
  }

  // Where the smallest deviation of a pixel is. With many full covariances it takes a while.
  tellLeast() {
    const { run, components } = this;
    if (!run.least) {
      const least = components.map(({ deviation }) => deviation.reduce((a, b) => Math.min(a, b)));
      const value = Math.min(...least);
      run.least = { value, component: least.indexOf(value) };
    }
    this.note({
      count: String(components.length),
      "log-count": shown(Math.log(components.length)),
      "least-sigma": shown(run.least.value),
      "least-component": String(run.least.component),
      floor: shown(Math.sqrt(run.floor)),
    });
  }

  markChosen() {
    const { component } = this.state;
    const grid = element("components");
    for (const button of grid.children) {
      const isChosen = Number(button.dataset.component) === component;
      button.setAttribute("aria-checked", isChosen);
      button.tabIndex = isChosen ? 0 : -1;
      if (isChosen) showIn(grid, button);
    }
    say("component-name", `Component ${component}`);
    say("component-weight", percent(this.weights[component]));
  }

  drawComponent() {
    showDecoded(this, this.components[this.state.component]);
  }

  // Draws of the whole mixture: a component by the weights, then its mean or a draw of it.
  drawMixture() {
    const { state, components, run } = this;
    const random = randomFrom(1000 + state.seed);
    for (const figure of element("draws").children) {
      const k = drawComponent(run.model, random);
      const x = components[k].draw(random);
      paintImage(figure.firstChild, this.unit(state.means ? components[k].mean : x), state.marked);
      figure.firstChild.setAttribute("aria-label", `A draw of component ${k}`);
      write(figure.lastChild, `z = ${k}`);
    }
  }

  // The image that is encoded: drawn by hand, or a test image, or none.
  drawImage() {
    const { state, run, data, components } = this;
    const image = data.images[state.image];
    const x = this.sketch ? ofPixels(run.transform, this.sketch, randomFrom(3))
      : image && this.imagesOf(run)[state.image];
    element("likely").hidden = !x;
    if (!x) {
      ["pad", "nearest", "rebuilt"].forEach((id) => clear(element(id)));
      say("pad-text", "Draw here.");
      say("image-numbers", "Draw a digit, or choose a test image.");
      this.note({ "largest-share": "–", "image-rate": "–", "own-log-weight": "–" });
      return;
    }
    say("pad-text", this.sketch ? "Drawn by hand."
      : `Test image ${state.image + 1} of ${data.images.length}, digit ${image.digit}.`);
    const { shares, logProb, rate, distortion } = posteriorOf(run.model, components, x);
    const order = Array.from(shares.keys()).sort((a, b) => shares[b] - shares[a]);
    const paint = (id, values) => paintImage(element(id), this.unit(values), state.marked);
    paintImage(element("pad"), this.unit(x));
    paint("nearest", components[order[0]].mean);
    paint("rebuilt", meanOf(components, shares));
    [...element("likely").children].forEach((item, i) => tellShare(item, order[i], shares));
    say("image-numbers",
      `ln p(x) ${nats(logProb)} = −rate ${nats(rate)} − distortion ${nats(distortion)} nats.`);
    this.note({
      "largest-share": percent(shares[order[0]]),
      "image-rate": nats(rate),
      "own-log-weight": nats(-run.model.logWeight[order[0]]),
    });
  }

  // Texts in places of their own, and wherever else they are shown.
  note(numbers) {
    for (const [name, text] of Object.entries(numbers)) {
      say(name, text);
      document.querySelectorAll(`[data-number=${name}]`).forEach((node) => write(node, text));
    }
  }

  // The mean of ln p(x) over the loaded images, and over those of the other runs.
  drawRuns() {
    const { runs } = this.data;
    const { run } = this;
    say("mean-log-prob", run.logProb === undefined ? "–" : nats(run.logProb));
    if (runs.length === 1) return;
    const alike = runs.filter(({ transform }) => transform === run.transform);
    const points = alike.filter(({ logProb }) => logProb !== undefined).map((one) => (
      { x: one.model.components, y: one.logProb, chosen: one === run }));
    points.sort((one, other) => one.chosen - other.chosen);
    drawChart(element("runs-chart"), points, ["components K", "mean ln p(x), nats"], "", Math.log);
    const others = runs.length - alike.length;
    say("runs-caption", others === 0 ? "" : `${others} of the ${runs.length} runs `
      + `${others === 1 ? "has" : "have"} another transform of x, so the densities cannot be compared.`);
  }

  // Measure all runs, a few images at a time, so that the page answers in between.
  async measureAll() {
    for (let index = 0; index < this.data.runs.length; index += 1) {
      const run = this.data.runs[index];
      const components = this.componentsOf(index);
      const xs = this.imagesOf(run);
      let sum = 0;
      for (let i = 0; i < xs.length; i += 1) {
        if (i % AT_ONCE === 0) await new Promise((go) => { setTimeout(go); });
        sum += posteriorOf(run.model, components, xs[i]).logProb;
      }
      run.logProb = sum / xs.length;
      this.drawRuns();
    }
  }
}

function componentButton() {
  const button = document.createElement("button");
  button.setAttribute("role", "radio");
  const canvas = document.createElement("canvas");
  canvas.setAttribute("aria-hidden", "true");
  const weight = document.createElement("span");
  weight.setAttribute("aria-hidden", "true"); // the label says it
  button.append(canvas, weight);
  return button;
}

// Scroll a grid so that one of its parts is in view. The page stays where it is.
function showIn(grid, { offsetTop, offsetHeight }) {
  const above = offsetTop < grid.scrollTop;
  const below = offsetTop + offsetHeight > grid.scrollTop + grid.clientHeight;
  if (above || below) grid.scrollTop = offsetTop - (grid.clientHeight - offsetHeight) / 2;
}

// One of the most probable components of an image: a button, a bar and the share.
function tellShare(item, k, shares) {
  item.hidden = k === undefined || shares[k] < 0.0005;
  if (item.hidden) return;
  const [button, bar, share] = item.children;
  button.dataset.component = k;
  write(button, `Component ${k}`);
  bar.firstChild.style.width = `${100 * shares[k]}%`;
  write(share, percent(shares[k]));
}
