// What a visitor does on every page: choose a run, an image or a new draw, draw on the pad, go back.

import { element } from "./elements.js";
import { SIDE } from "./painting.js";

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
