/** The colours of the theme, for what is drawn and not styled. */

/** @type {Record<string, string> | null} */
let known = null;
/** @type {Set<() => void>} */
const listeners = new Set();
const NAMES = ["text", "muted", "line", "accent", "up", "down", "venue-0", "venue-1", "venue-2", "venue-3", "venue-4"];

/** @returns {Record<string, string>} by name */
export function colours() {
  if (!known) {
    const style = getComputedStyle(document.documentElement);
    known = Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  }
  return known;
}

/** @param {() => void} listener called when they are others */
export const onColours = (listener) => void listeners.add(listener);

/** Take the theme that the reader chose, `auto` for that of the system, and keep it. */
export function choose(/** @type {string} */ theme) {
  if (theme === "auto") {
    localStorage.removeItem("theme");
    delete document.documentElement.dataset.theme;
  } else {
    localStorage.setItem("theme", theme);
    document.documentElement.dataset.theme = theme;
  }
  changed();
}

function changed() {
  known = null;
  for (const listener of listeners) listener();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
