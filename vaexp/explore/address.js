// The hash of the page's address, which holds what the visitor chose as key=value, joined by &.

// Whether a hash is a state at all: a page may have links to its own parts as well.
export const isState = (hash) => hash.includes("=");

export const partsOf = (hash) => new URLSearchParams(hash.replace(/^#/, ""));

export const hashOf = (parts) => `#${parts.toString().replaceAll("%2C", ",")}`;

// The whole number from low to high that a part is, or else another.
export function wholeIn(parts, name, low, high, otherwise) {
  const value = parts.has(name) ? Number(parts.get(name)) : NaN;
  return Number.isInteger(value) && value >= low && value <= high ? value : otherwise;
}
