// The page: it unpacks its data and starts an explorer.

import { listenToAll } from "./common.js";
import { element, say } from "./elements.js";
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

// Open the page with the explorer that `make` returns for its data.
export async function open(make) {
  try {
    const explorer = make(await opened());
    listenToAll(explorer);
    explorer.kept.listen((state) => explorer.become(state));
    explorer.kept.redraw();
    element("live").removeAttribute("aria-busy");
    await explorer.measureAll();
  } catch (error) {
    say("caption", `This page cannot run here: ${error.message}.`);
  }
}
