/**
 * The table of the market: as many rows in the document as fit on the screen, whatever their
 * number, and in each frame only what has changed is written.
 */

import { byId, make, mark, say } from "./dom.js";
import * as format from "./format.js";
import { ask } from "./frame.js";
import { MarketRow } from "./market-row.js";

/** Rows beyond the edge, so that scrolling shows no blank. */
const SPARE = 4;
/** What moves by itself is sorted anew at most so often. */
const SORT_MS = 2_000;
/** By these a row can be sorted at each venue: name, and what is read of a cell. */
const KEYS = {
  price: (/** @type {any} */ cell) => cell.primary?.value,
  change: (/** @type {any} */ cell) => cell.having("change_24h_pct")?.message.change_24h_pct,
  age: (/** @type {any} */ cell) => (cell.primary ? -cell.primary.at : undefined),
  volume: (/** @type {any} */ cell) => Number(cell.having("volume_24h")?.text("volume_24h") ?? NaN),
};
/** In the order in which they stand in a cell. */
const TITLES = { price: "Price", change: "24 h", age: "Age", volume: "Volume" };

/** The table, its filter and its order. */
export class Market {
  #order = /** @type {import("./quotes.js").Row[]} */ ([]);
  #pool = /** @type {MarketRow[]} */ ([]);
  #seen = { shape: -1, states: -1, second: -1, first: -1, last: -1, width: -1 };
  #sortedAt = -Infinity;
  #sort = { key: "", venue: "", direction: 1 };
  #active = 0;
  #isDirty = true;
  /** The height of all rows, in pixels: the style says it, on a phone by the number of venues. */
  #rowPx = 52;

  /**
   * @param {import("./store.js").Store} store
   * @param {() => number} now the daemon's clock, in milliseconds
   */
  constructor(store, now) {
    this.store = store;
    this.now = now;
    this.grid = byId("grid");
    this.head = byId("grid-head");
    this.body = byId("grid-body");
    this.filter = byId("filter");
    this.only = byId("venue");
    this.grid.addEventListener("scroll", ask, { passive: true });
    this.grid.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => this.#key(event));
    this.grid.addEventListener("focus", () => this.#again());
    this.grid.addEventListener("blur", () => this.#again());
    this.filter.addEventListener("input", () => this.#reshape());
    this.only.addEventListener("change", () => this.#reshape());
    new ResizeObserver(() => this.#measure()).observe(this.grid);
  }

  /** @returns {string[]} the venues that have a column */
  get venues() {
    return this.store.venues.filter((venue) => !this.only.value || venue === this.only.value);
  }

  #again() {
    this.#isDirty = true;
    ask();
  }

  #measure() {
    this.#rowPx = parseFloat(getComputedStyle(this.body).minHeight) || this.#rowPx;
    this.body.style.height = `${this.#order.length * this.#rowPx}px`;
    this.#again();
  }

  #reshape() {
    this.#seen.shape = -1;
    this.#active = 0;
    ask();
  }

  // Which rows, in which order.

  #compare() {
    const { key, venue, direction } = this.#sort;
    const byName = (/** @type {any} */ a, /** @type {any} */ b) => (a.instrument < b.instrument ? -1 : 1);
    if (key === "") return (/** @type {any} */ a, /** @type {any} */ b) => b.cells.size - a.cells.size || byName(a, b);
    if (key === "name") return (/** @type {any} */ a, /** @type {any} */ b) => direction * byName(a, b);
    const values = new Map();
    for (const row of this.#order) {
      const cell = row.cells.get(venue);
      const value = key === "spread" ? row.spread()?.bps : cell && KEYS[/** @type {keyof KEYS} */ (key)](cell);
      values.set(row, value ?? NaN);
    }
    return (/** @type {any} */ a, /** @type {any} */ b) => {
      const [x, y] = [values.get(a), values.get(b)];
      // What has no value stands at the end, whichever way.
      if (Number.isNaN(x) || Number.isNaN(y)) return Number(Number.isNaN(x)) - Number(Number.isNaN(y)) || byName(a, b);
      return direction * (x - y) || byName(a, b);
    };
  }

  #arrange() {
    const text = this.filter.value.trim().toUpperCase();
    const venue = this.only.value;
    const active = this.#order[this.#active];
    const fits = (/** @type {any} */ row) => row.instrument.toUpperCase().includes(text) && (!venue || row.cells.has(venue));
    this.#order = [...this.store.rows.values()].filter(fits);
    this.#order.sort(this.#compare());
    this.#active = Math.max(0, this.#order.indexOf(active));
    this.#sortedAt = performance.now();
    this.#measure();
    mark(this.grid, "aria-rowcount", String(this.#order.length + 1));
    say(byId("market-count"), `${format.count(this.#order.length)} of ${format.count(this.store.rows.size)} instruments`);
    byId("market-empty").hidden = this.#order.length > 0;
  }

  // The head.

  #columns() {
    const { venues } = this;
    const options = ["", ...this.store.venues];
    if (options.join() !== [...this.only.options].map((o) => o.value).join()) {
      const chosen = this.only.value;
      this.only.replaceChildren(...options.map((venue) => make("option", { value: venue }, [venue || "All venues"])));
      if (options.includes(chosen)) this.only.value = chosen;
    }
    this.grid.style.setProperty("--venues", String(Math.max(1, venues.length)));
    mark(this.grid, "aria-colcount", String(3 + venues.length));
    const single = (/** @type {string} */ key, /** @type {string} */ title, /** @type {string} */ name) =>
      make(`div.head.${name}`, { role: "columnheader" }, key ? [this.#button(key, "", title, title)] : [title]);
    const heads = venues.map((venue) => {
      const buttons = Object.entries(TITLES).map(([key, title]) => this.#button(key, venue, title, `${venue}: ${title}`));
      buttons.forEach((button, i) => button.classList.add(Object.keys(TITLES)[i]));
      const sides = make("span.sides", {}, ["Bid / ask"]);
      return make("div.head.venue", { role: "columnheader" }, [make("span.venue-name", {}, [venue]), ...buttons, sides]);
    });
    const first = [single("name", "Instrument", "name"), single("", "Last 5 min", "spark"), single("spread", "Spread, bp", "spread")];
    this.head.replaceChildren(...first, ...heads);
    for (const row of this.#pool) row.element.remove();
    this.#pool = [];
  }

  #button(/** @type {string} */ key, /** @type {string} */ venue, /** @type {string} */ title, /** @type {string} */ label) {
    const button = make("button.sort", { type: "button", "aria-label": `Sort by ${label}` }, [title]);
    button.addEventListener("click", () => {
      const isSame = this.#sort.key === key && this.#sort.venue === venue;
      // Names from A, numbers from the highest; the third click takes the order back.
      const first = key === "name" || key === "age" ? 1 : -1;
      if (!isSame) this.#sort = { key, venue, direction: first };
      else if (this.#sort.direction === first) this.#sort.direction = -first;
      else this.#sort = { key: "", venue: "", direction: 1 };
      this.#arrange();
      this.#showSort();
      ask();
    });
    Object.assign(button, { key, venue });
    return button;
  }

  #showSort() {
    for (const button of this.head.querySelectorAll("button.sort")) {
      const { key, venue, direction } = this.#sort;
      const is = key !== "" && button.key === key && button.venue === venue;
      button.dataset.direction = is ? (direction > 0 ? "up" : "down") : "";
    }
    for (const head of this.head.children) {
      const sorted = head.querySelector('button[data-direction="up"], button[data-direction="down"]');
      mark(head, "aria-sort", sorted ? (sorted.dataset.direction === "up" ? "ascending" : "descending") : null);
    }
  }

  // Keys.

  #key(/** @type {KeyboardEvent} */ event) {
    if (event.target !== this.grid || event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(this.grid.clientHeight / this.#rowPx) - 2);
    const last = this.#order.length - 1;
    /** @type {Record<string, number>} */
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -last, End: last };
    if (event.key in moves) {
      this.#active = Math.max(0, Math.min(last, this.#active + moves[event.key]));
      this.#reveal();
      this.#again();
    } else if (event.key === "Enter" && this.#order[this.#active]) {
      location.hash = encodeURI(this.#order[this.#active].instrument);
    } else if (event.key === "/") {
      this.filter.focus();
    } else {
      return;
    }
    event.preventDefault();
  }

  #reveal() {
    const top = this.#active * this.#rowPx;
    const space = this.grid.clientHeight - this.head.offsetHeight - this.#rowPx;
    if (this.grid.scrollTop > top) this.grid.scrollTop = top;
    if (this.grid.scrollTop < top - space) this.grid.scrollTop = top - space;
  }

  // What is seen.

  /** @param {number} wall */
  paint(wall) {
    const { store } = this;
    if (this.#seen.shape !== store.shape) {
      this.#seen.shape = store.shape;
      this.#columns();
      this.#arrange();
      this.#showSort();
    } else if (this.#sort.key && this.#sort.key !== "name" && performance.now() - this.#sortedAt > SORT_MS) {
      this.#arrange();
    }
    const second = Math.floor(wall / 1000);
    const isAll = this.#isDirty || this.#seen.states !== store.states || this.#seen.second !== second;
    Object.assign(this.#seen, { states: store.states, second });
    this.#isDirty = false;
    const first = Math.max(0, Math.floor(this.grid.scrollTop / this.#rowPx) - SPARE);
    const fit = Math.ceil(this.grid.clientHeight / this.#rowPx) + 2 * SPARE;
    while (this.#pool.length < fit) {
      this.#pool.push(new MarketRow(this.venues));
      this.body.append(/** @type {MarketRow} */ (this.#pool.at(-1)).element);
    }
    const now = this.now();
    for (let i = first; i < first + this.#pool.length; i++) {
      const place = this.#pool[i % this.#pool.length];
      const row = this.#order[i];
      place.at(row, i, this.#rowPx);
      if (row) place.paint(now, isAll);
    }
    const active = this.#pool[this.#active % this.#pool.length];
    const isShown = document.activeElement === this.grid && active?.index === this.#active && active.row;
    for (const place of this.#pool) mark(place.element, "aria-selected", isShown && place === active ? "true" : null);
    mark(this.grid, "aria-activedescendant", isShown ? active.element.id : null);
  }
}
