// The elements of the page by their ids, and the texts in them.

export const element = (id) => document.getElementById(id);

// A text that stays the same is not written again, as the browser would lay out the page again.
export const write = (node, text) => {
  if (node && node.textContent !== text) node.textContent = text;
};

// The run of an explorer that is shown, and the slider on which it is one of several.
export function tellRun({ data: { runs }, state, run }) {
  say("caption", run.caption);
  say("run-name", `${run.name}, ${state.run + 1} of ${runs.length}`);
  const slider = element("run");
  if (!slider) return;
  slider.max = runs.length - 1;
  slider.value = state.run;
  slider.setAttribute("aria-valuetext", run.name);
}

export const say = (id, text) => write(element(id), text);
