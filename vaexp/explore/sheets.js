// Sheets of paper, on which what the page shows is drawn to keep it.

import { element } from "./elements.js";

// A white canvas with the caption of the run on top.
export function sheet(run) {
  const out = document.createElement("canvas");
  [out.width, out.height] = [1000, 560];
  const context = out.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, out.width, out.height);
  context.fillStyle = "#222";
  context.font = "16px system-ui, sans-serif";
  context.fillText(run.caption, 20, 32, 960);
  return { out, context };
}

// The mean, the deviation and the draw that the page shows, with a name below each.
export function drawThree(context, names) {
  ["mean", "deviation", "draw"].forEach((id, i) => {
    context.drawImage(element(id), 520 + 156 * i, 60, 140, 140);
    context.fillText(names[i], 520 + 156 * i, 222);
  });
}

// Save a sheet as a PNG file.
export function keep(out, run) {
  out.toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${run.name}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}
