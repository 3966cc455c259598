// The page of models with a latent plane.

import { build, listen, listenToPlane } from "./controls.js";
import { Explorer } from "./explorer.js";
import { open } from "./page.js";

open((data) => {
  const explorer = new Explorer(data);
  build(explorer);
  listen(explorer);
  listenToPlane(explorer);
  return explorer;
});
