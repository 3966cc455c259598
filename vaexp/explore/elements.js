// The elements of the page by their ids, and the texts in them.

export const element = (id) => document.getElementById(id);

// A text that stays the same is not written again, as the browser would lay out the page again.
export const write = (node, text) => {
  if (node && node.textContent !== text) node.textContent = text;
};

export const say = (id, text) => write(element(id), text);
