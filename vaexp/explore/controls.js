// What the visitor does: the controls of the page and the plane change the state.

import { minus } from "./charts.js";
import { click, on, small } from "./common.js";
import { element, say } from "./elements.js";
import { STEPS, SWEEP } from "./explorer.js";
import { ofGrey, paintImage, sizeOf } from "./painting.js";
import { save } from "./saving.js";
import { moved, nearest, onPlane } from "./scene.js";

export function build(explorer) {
  const { data } = explorer;
  element("sweep").replaceChildren(...SWEEP.map((k) => {
    const name = minus(String(k));
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

export function listen(explorer) {
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
  for (const [event, dragging] of [["input", true], ["change", false]]) {
    on("sigma", event, ({ target }) => {
      explorer.change({ sigma: 10 ** Number(target.value) }, dragging);
    });
  }
  on("sigma-own", "change", ({ target }) => {
    explorer.change({ sigma: target.checked ? null : 10 ** Number(element("sigma").value) });
  });
  document.querySelector("[data-sigma]").addEventListener("click", () => explorer.change({ sigma: 1 }));
  click("set-implied", () => explorer.change({ sigma: explorer.run.model.implied }));
  click("image-near", () => explorer.choose(explorer.nearest));
  click("set-from", () => explorer.change({ from: [...explorer.state.z] }));
  click("set-to", () => explorer.change({ to: [...explorer.state.z] }));
  click("play", () => explorer.play());
  on("along", "input", ({ target }) => {
    const along = Number(target.value);
    explorer.change({ along, z: explorer.between(along) });
  });
  click("save", () => save(explorer));
}

export function listenToPlane(explorer) {
  const plane = element("plane");
  const place = (event) => {
    const box = plane.getBoundingClientRect();
    return explorer.view.toLatent([event.clientX - box.left, event.clientY - box.top]);
  };
  const moveTo = (at) => explorer.change({ z: moved(explorer.state, at) });
  plane.addEventListener("pointerdown", (event) => {
    plane.setPointerCapture(event.pointerId);
    moveTo(place(event));
  });
  plane.addEventListener("pointermove", (event) => {
    const isDragged = plane.hasPointerCapture(event.pointerId); // it was pressed on the plane
    if (isDragged) moveTo(place(event));
    hover(explorer, isDragged ? null : place(event));
  });
  plane.addEventListener("pointerleave", () => hover(explorer, null));
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  plane.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = steps[event.key];
    const size = event.shiftKey ? 0.5 : 0.1;
    const [across, up] = onPlane(explorer.state.axes, explorer.state.z);
    if (step) moveTo([across + size * step[0], up + size * step[1]]);
    else if (event.key === "Home") moveTo([0, 0]);
    else if (event.key === "Enter") explorer.choose(explorer.nearest);
    else if (event.key.toLowerCase() === "r") explorer.redraw();
    else if (event.key.toLowerCase() === "p") explorer.play();
    else return;
    event.preventDefault();
  });
}

// Show the test image whose code is at a place of the plane, if one is near.
function hover(explorer, place) {
  const box = element("hover");
  const { axes } = explorer.state;
  const near = place && nearest(explorer.codes, place, (z) => onPlane(axes, z));
  box.hidden = !near || near.distance * explorer.view.scale > 8;
  if (box.hidden) return;
  const { pixels, digit } = explorer.data.images[near.index];
  paintImage(element("hover-image"), ofGrey(pixels));
  say("hover-text", `digit ${digit}`);
  const [x, y] = explorer.view.toScreen(place);
  const { width } = sizeOf(element("plane"));
  box.style.left = `${x > width - 90 ? x - 80 : x + 12}px`;
  box.style.top = `${Math.max(0, y - 40)}px`;
}
