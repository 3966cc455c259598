// What the latent plane shows: the codes, a posterior, the point z, and mu(z) all over the plane. A
// single latent lies across, and its other coordinate is 0.

import { covariance } from "./model.js";
import { mosaic } from "./painting.js";

const ACROSS = 15; // images along each side of the plane

// z on the plane of two axes.
export const onPlane = ([a, b], z) => [z[a], a === b ? 0 : z[b]];

// The z of a state with other values along its two axes.
export function moved({ z, axes: [a, b] }, [across, up]) {
  const other = [...z];
  if (a !== b) other[b] = up;
  other[a] = across;
  return other;
}

// The image whose code is nearest to a place, and how far it is. `of` says where the codes lie.
export function nearest(codes, place, of = (z) => z) {
  const distances = codes.map(({ q }) => (
    Math.hypot(...Array.from(of(q.mean), (value, i) => value - place[i]))));
  const distance = Math.min(...distances);
  return { index: Math.max(distances.indexOf(distance), 0), distance };
}

// The scene that `drawPlane` draws, in a view of the plane.
export function sceneOf(explorer, view) {
  const { state, run, posterior: q } = explorer;
  const [a, b] = state.axes;
  const at = (z) => onPlane(state.axes, z);
  return {
    view,
    background: state.plane ? planeImages(explorer) : null,
    codes: explorer.codes.map(({ q: code }, i) => {
      const { digit } = explorer.data.images[i];
      const faded = run.model.classes > 0 && digit !== state.digit;
      return { at: at(code.mean), colour: explorer.data.colours[digit], faded };
    }),
    posterior: q && {
      at: at(q.mean),
      covariance: a === b ? [covariance(q, a, a), 0, 0]
        : [covariance(q, a, a), covariance(q, a, b), covariance(q, b, b)],
    },
    point: at(state.z),
    from: at(state.from),
    to: at(state.to),
    names: [`z${a + 1}`, a === b ? "" : `z${b + 1}`],
  };
}

// mu(z) on a grid over the plane, with the other latents as they are. It is kept until one of
// them, or what else it depends on, changes.
function planeImages(explorer) {
  const { run, digit, axes } = explorer.state;
  const key = JSON.stringify([run, digit, axes, moved(explorer.state, [0, 0])]);
  if (explorer.mosaic?.key !== key) explorer.mosaic = { key, images: allOver(explorer) };
  return explorer.mosaic.images;
}

function allOver(explorer) {
  const step = (2 * explorer.reach) / ACROSS;
  const places = Array.from({ length: ACROSS }, (_, i) => -explorer.reach + (i + 0.5) * step);
  return mosaic(places.map((down) => (
    explorer.decodeAll(places.map((across) => moved(explorer.state, [across, -down])))
      .map(({ mean }) => explorer.unit(mean)))));
}
