/** How old it is what a panel shows; and where it is no present state, why. */

import { dress, say } from "./dom.js";
import * as format from "./format.js";

/**
 * @param {any} element that says it
 * @param {number | null} ms null where nothing is shown yet
 * @param {string | null} stale why it is no present one, where the connection is well
 */
export function sayAge(element, ms, stale) {
  const isLost = document.body.dataset.connection === "lost";
  const why = isLost ? "the connection to the daemon is lost" : stale;
  dress(element, why === null ? "muted" : "reason");
  say(element, [ms === null ? "" : `${format.duration(ms)} old`, why ?? ""].filter(Boolean).join(": "));
}
