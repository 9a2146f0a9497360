/** Short notices that appear over whatever is shown. */

import { byId, make } from "./dom.js";

const STAYS_MS = 12_000;
const MOST = 4;

/** @param {string} title @param {string} text of which nothing is taken for markup */
export function toast(title, text) {
  const close = make("button.close", { type: "button", "aria-label": "Dismiss" }, ["×"]);
  const body = make("div", {}, [make("strong", {}, [title]), make("p", {}, [text])]);
  const element = make("div.toast", {}, [body, close]);
  let timer = 0;
  const later = () => (timer = setTimeout(() => element.remove(), STAYS_MS));
  const stay = () => clearTimeout(timer);
  close.addEventListener("click", () => element.remove());
  // Who reads or reaches for it has time.
  for (const event of ["pointerenter", "focusin"]) element.addEventListener(event, stay);
  for (const event of ["pointerleave", "focusout"]) element.addEventListener(event, later);
  later();
  const region = byId("toasts");
  region.append(element);
  while (region.children.length > MOST) region.firstElementChild.remove();
}
