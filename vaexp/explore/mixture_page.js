// The page of mixtures: its controls, and its start.

import { click, on, small } from "./common.js";
import { element } from "./elements.js";
import { DRAWS, LIKELY, MixtureExplorer } from "./mixture_explorer.js";
import { open } from "./page.js";
import { drawThree, keep, sheet } from "./sheets.js";

const OF_A_ROW = 5; // of the components on a sheet

open((data) => {
  const explorer = new MixtureExplorer(data);
  const chosen = ({ target }) => target.closest("[data-component]");
  const choose = (event) => {
    const button = chosen(event);
    if (button) explorer.change({ component: Number(button.dataset.component) });
  };
  element("draws").replaceChildren(...Array.from({ length: DRAWS }, () => small("", "A draw")));
  element("likely").replaceChildren(...Array.from({ length: LIKELY }, likely));
  on("components", "click", choose);
  on("components", "keydown", (event) => walk(explorer, event));
  on("likely", "click", choose);
  on("means", "change", ({ target }) => explorer.change({ means: target.value === "mean" }));
  click("show-least", () => explorer.change({ component: explorer.run.least.component }));
  click("save", () => save(explorer));
  return explorer;
});

// A row of the most probable components: a button, a bar and the share.
function likely() {
  const item = document.createElement("li");
  const bar = document.createElement("div");
  bar.className = "bar";
  bar.append(document.createElement("div"));
  item.append(document.createElement("button"), bar, document.createElement("span"));
  return item;
}

// The arrow keys move through the grid of components, and R draws again.
function walk(explorer, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const all = [...element("components").children];
  const here = all.findIndex(({ tabIndex }) => tabIndex === 0);
  const row = all.findIndex(({ offsetTop }) => offsetTop > all[0].offsetTop);
  const across = row < 0 ? all.length : row;
  const steps = {
    ArrowLeft: here - 1, ArrowRight: here + 1, ArrowUp: here - across, ArrowDown: here + across,
    Home: 0, End: all.length - 1,
  };
  if (event.key.toLowerCase() === "r") explorer.redraw();
  else if (!(event.key in steps)) return;
  event.preventDefault();
  const button = all[steps[event.key]];
  if (!button) return;
  button.focus();
  explorer.change({ component: Number(button.dataset.component) });
}

// The components of the largest weight and the pictures of the one that is chosen, as a picture.
function save(explorer) {
  const { out, context } = sheet(explorer.run);
  context.imageSmoothingEnabled = false;
  const side = 480 / OF_A_ROW;
  [...element("components").children].slice(0, OF_A_ROW ** 2).forEach((button, i) => {
    const [x, y] = [20 + side * (i % OF_A_ROW), 60 + side * Math.floor(i / OF_A_ROW)];
    context.drawImage(button.firstChild, x, y, side - 20, side - 20);
    context.fillText(button.lastChild.textContent, x, y + side - 5);
  });
  drawThree(context, ["μ of one", "its σ", "x ~ p(x|z)"]);
  [...element("draws").children].forEach((figure, i) => {
    context.drawImage(figure.firstChild, 520 + 116 * (i % 4), 270 + 116 * Math.floor(i / 4), 100, 100);
  });
  context.fillText("x ~ p(x)", 520, 520);
  keep(out, explorer.run);
}
