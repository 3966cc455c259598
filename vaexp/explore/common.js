// What every page has: choosing a run, an image or a new draw, drawing on the pad, going back, and
// the pictures of a p(x|z).

import { percent, shown } from "./charts.js";
import { element } from "./elements.js";
import { randomFrom } from "./numbers.js";
import { SIDE, paintHeat, paintImage } from "./painting.js";
import { outside } from "./transforms.js";

export const on = (id, event, action) => element(id)?.addEventListener(event, action);
export const click = (id, action) => on(id, "click", action);

// A small picture with room for a name below it.
export function small(name, words) {
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

// The mean, a draw and the deviations of a p(x|z), and what stands below them.
export function showDecoded(explorer, p) {
  const { run, state } = explorer;
  const mean = explorer.unit(p.mean);
  const drawn = explorer.unit(p.draw(randomFrom(state.seed)));
  paintImage(element("mean"), mean, state.marked);
  paintImage(element("draw"), drawn, state.marked);
  const [low, high] = paintHeat(element("deviation"), p.deviation);
  explorer.note({
    "deviation-low": shown(low),
    "deviation-high": shown(high),
    "outside-mean": shareOutside(run, mean),
    "outside-draw": shareOutside(run, drawn),
  });
}

export const shareOutside = (run, unit) => (run.unit ? percent(outside(unit)) : "–");

export function listenToAll(explorer) {
  on("run", "input", ({ target }) => explorer.goTo(Number(target.value)));
  click("redraw", () => explorer.redraw());
  document.querySelector("[data-redraw]").addEventListener("click", () => explorer.redraw());
  on("marked", "change", ({ target }) => explorer.change({ marked: target.checked }));
  click("image-before", () => explorer.choose(Math.max(explorer.state.image, 0) - 1));
  click("image-after", () => explorer.choose(explorer.state.image + 1));
  click("image-clear", () => {
    explorer.sketch = null;
    explorer.change({ image: -1 });
  });
  click("reset", () => explorer.become(explorer.start));
  listenToPad(explorer);
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
    explorer.change({ image: -1 });
  };
  pad.addEventListener("pointerdown", (event) => {
    pad.setPointerCapture(event.pointerId);
    explorer.sketch ??= new Float32Array(SIDE * SIDE);
    last = null;
    ink(event);
  });
  pad.addEventListener("pointermove", (event) => {
    if (explorer.sketch && pad.hasPointerCapture(event.pointerId)) ink(event);
  });
}

function dab(pixels, [x, y]) {
  for (let row = Math.floor(y) - 2; row <= y + 2; row += 1) {
    for (let column = Math.floor(x) - 2; column <= x + 2; column += 1) {
      if (row < 0 || column < 0 || row >= SIDE || column >= SIDE) continue;
      const ink = Math.min(255, 400 * Math.exp(-((column - x) ** 2 + (row - y) ** 2) / 1.4));
      const at = row * SIDE + column;
      pixels[at] = Math.max(pixels[at], ink < 12 ? 0 : Math.round(ink));
    }
  }
}
