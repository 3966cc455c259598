// The page: it unpacks its data and starts the explorer.

import { build, listen, listenToPad, listenToPlane } from "./controls.js";
import { element, say } from "./elements.js";
import { Explorer } from "./explorer.js";
import { SIDE } from "./painting.js";
import { unpack } from "./unpack.js";

// The packed data of the page become runs with a model, and images { pixels, digit }.
async function opened() {
  const data = JSON.parse(element("data").textContent);
  const runs = await Promise.all(data.runs.map(async (run) => (
    { ...run, model: await unpack(run.model, run.text), trials: [] })));
  const { pixels, digits } = await unpack(data.images, data.text);
  const images = digits.map((digit, i) => (
    { digit, pixels: pixels.subarray(i * SIDE * SIDE, (i + 1) * SIDE * SIDE) }));
  return { ...data, runs, images };
}

async function main() {
  const explorer = new Explorer(await opened());
  build(explorer);
  listen(explorer);
  listenToPlane(explorer);
  listenToPad(explorer);
  const all = () => explorer.show({ ...explorer.state });
  all();
  element("main").removeAttribute("aria-busy");
  window.addEventListener("hashchange", () => explorer.become(explorer.read()));
  window.addEventListener("resize", all);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", all);
  if (explorer.data.runs.length > 1) await explorer.measureAll();
}

main().catch((error) => say("caption", `This page cannot run here: ${error.message}.`));
