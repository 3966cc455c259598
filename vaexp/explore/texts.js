// Which texts are for a run, and what they say of it.

import { element, say } from "./elements.js";

export function tell(run) {
  const { model } = run;
  const isFor = {
    sigma: model.head.sigma !== null,
    best: model.rmseIsBest,
    beta: model.implied !== null || model.noImplied !== "",
    implied: model.implied !== null,
    sweep: run.noSweep === null,
    noSweep: run.noSweep !== null,
    unit: run.unit,
    label: model.classes > 0,
    up: model.latent > 1,
    axes: model.latent > 2,
  };
  for (const node of document.querySelectorAll("[data-if]")) {
    node.hidden = !isFor[node.dataset.if];
  }
  say("no-implied", model.noImplied);
  const why = isFor.noSweep
    ? `This likelihood has no strip μ(z) + k σ(z): ${run.noSweep}.` : "";
  say("no-sweep", why);
  say("guide-no-sweep", why);
  say("elbo-of", `The ELBO is a lower bound of ${logOf(run)}.`);
  if (model.implied !== null) { // an end of the slider is moved out to it
    const place = Math.log10(model.implied);
    element("sigma").min = Math.min(-3, Math.floor(place));
    element("sigma").max = Math.max(0.5, Math.ceil(place));
  }
}

// What the ELBO of a run bounds. It may be compared with that of another run where this is the same.
export function logOf({ model, transform }) {
  const of = model.classes ? "x given the label" : "x";
  const on = model.on === null ? "" : ` on ${model.on}`;
  return `the log ${model.measure}${on} of ${of}, where x has the transform ${transform}`;
}
