// Saving a picture of what the page shows.

import { vector } from "./charts.js";
import { element } from "./elements.js";
import { drawThree, keep, sheet } from "./sheets.js";

// The plane and the pictures of the point, as one picture to keep.
export function save({ run, state }) {
  const { out, context } = sheet(run);
  context.drawImage(element("plane"), 20, 60, 480, 480);
  context.imageSmoothingEnabled = false;
  drawThree(context, ["μ(z)", "σ(z)", "x ~ p(x|z)"]);
  if (run.noSweep === null) {
    [...element("sweep").children].forEach((figure, i) => {
      context.drawImage(figure.firstChild, 520 + 92 * i, 260, 84, 84);
    });
    context.fillText("μ(z) + k σ(z), k = −2 … 2", 520, 366);
  }
  context.fillText(`z = (${vector(state.z)})`, 520, 400, 460);
  keep(out, run);
}
