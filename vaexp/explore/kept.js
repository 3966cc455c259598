// The state of a page: a change of it is drawn before the next frame, and then kept in the address.

import { isState } from "./address.js";

export class Kept {
  // `draw` is given a function that says whether one of some names has changed, `toHash` the state,
  // and `fromHash` a hash.
  constructor({ draw, toHash, fromHash }) {
    Object.assign(this, { draw, toHash, fromHash });
    this.state = fromHash(location.hash);
    this.waiting = new Set();
  }

  show(changes) {
    Object.assign(this.state, changes);
    this.redraw(Object.keys(changes));
    this.keeping = true;
  }

  // Draw what depends on these parts of the state, or on any.
  redraw(names = Object.keys(this.state)) {
    for (const name of names) this.waiting.add(name);
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      const changed = this.waiting;
      this.waiting = new Set();
      this.draw((...some) => some.some((name) => changed.has(name)));
      if (this.keeping) this.keep();
    });
  }

  keep() {
    this.keeping = false;
    clearTimeout(this.saving); // browsers allow few changes of the address per second
    this.saving = setTimeout(() => history.replaceState(null, "", this.toHash(this.state)), 300);
  }

  // Draw again when the page looks different, and call `become` for a state in a new address.
  listen(become) {
    window.addEventListener("hashchange", () => {
      if (isState(location.hash)) become(this.fromHash(location.hash));
    });
    window.addEventListener("resize", () => this.redraw());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
  }
}
