/** What the views need of the document. */

/** @param {string} id @returns {any} the element, which is there */
export const byId = (id) => document.getElementById(id);

/**
 * Return a new element.
 *
 * @param {string} tag with classes: `span.price.up`
 * @param {Record<string, string>} [attributes]
 * @param {(Node | string)[]} [children]
 * @returns {any}
 */
export function make(tag, attributes = {}, children = []) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Set an element's text, if it is another one: nothing is laid out again for nothing. */
export function say(/** @type {any} */ element, /** @type {string} */ text) {
  if (element.said === text) return;
  element.said = text;
  element.textContent = text;
}

/** Set an element's class, if it is another one. */
export function dress(/** @type {any} */ element, /** @type {string} */ name) {
  if (element.className !== name) element.className = name;
}

/** Set an attribute, or take it away, if that changes anything. */
export function mark(/** @type {any} */ element, /** @type {string} */ name, /** @type {string | null} */ value) {
  if (element.getAttribute(name) === value) return;
  if (value === null) element.removeAttribute(name);
  else element.setAttribute(name, value);
}

/**
 * A price with all digits of the venue; the zeros at its end are there, but step back.
 *
 * @param {any} element
 * @param {[string, string]} parts as `price` of format.js returns them
 */
export function sayPrice(element, [digits, zeros]) {
  if (!element.parts) {
    element.parts = [make("span"), make("span.zeros")];
    element.replaceChildren(...element.parts);
  }
  say(element.parts[0], digits);
  say(element.parts[1], zeros);
}

/** @param {string} id of a table's body @returns {string[]} what stands over its columns; a phone shows it in the cells */
export const headsOf = (id) => [...byId(id).closest("table").tHead.rows[0].cells].map((head) => head.textContent);
