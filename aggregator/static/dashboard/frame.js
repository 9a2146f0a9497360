/** One paint for each frame of the screen, and one at least each second, for the ages. */

/** @type {Set<(now: number) => void>} */
const painters = new Set();
let isAsked = false;

function run() {
  isAsked = false;
  const now = Date.now();
  for (const paint of painters) paint(now);
}

/** Have everything painted that has changed, with the next frame. */
export function ask() {
  if (isAsked) return;
  isAsked = true;
  requestAnimationFrame(run);
}

/** @param {(now: number) => void} paint called in each frame in which something has changed */
export function onFrame(paint) {
  painters.add(paint);
}

setInterval(ask, 1000);
