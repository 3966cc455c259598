// Saving a picture of what the page shows.

import { vector } from "./charts.js";
import { element } from "./elements.js";

// The plane and the pictures of the point, as one picture to keep.
export function save({ run, state }) {
  const out = document.createElement("canvas");
  [out.width, out.height] = [1000, 560];
  const context = out.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, out.width, out.height);
  context.drawImage(element("plane"), 20, 60, 480, 480);
  context.imageSmoothingEnabled = false;
  context.fillStyle = "#222";
  context.font = "16px system-ui, sans-serif";
  context.fillText(run.caption, 20, 32, 960);
  [["mean", "μ(z)"], ["deviation", "σ(z)"], ["draw", "x ~ p(x|z)"]].forEach(([id, name], i) => {
    context.drawImage(element(id), 520 + 156 * i, 60, 140, 140);
    context.fillText(name, 520 + 156 * i, 222);
  });
  if (run.noSweep === null) {
    [...element("sweep").children].forEach((figure, i) => {
      context.drawImage(figure.firstChild, 520 + 92 * i, 260, 84, 84);
    });
    context.fillText("μ(z) + k σ(z), k = −2 … 2", 520, 366);
  }
  context.fillText(`z = (${vector(state.z)})`, 520, 400, 460);
  out.toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${run.name}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}
