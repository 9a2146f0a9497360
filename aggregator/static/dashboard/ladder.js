/** The order book of an instrument, as a ladder: the best levels of both sides, with their depth. */

import { Book } from "../client.js";
import { sayAge } from "./age.js";
import { byId, dress, make, say, sayPrice } from "./dom.js";
import * as format from "./format.js";

const LEVELS = 10;
const REDRAW_MS = 100;

/** A level in the document. */
class Rung {
  /** @param {"bid" | "ask"} side */
  constructor(side) {
    this.bar = make("span.bar", { "aria-hidden": "true" });
    this.parts = ["price", "size", "total"].map((name) => make(`span.${name}`, { role: "cell" }));
    this.element = make(`div.rung.${side}`, { role: "row" }, [this.bar, ...this.parts]);
  }

  /**
   * @param {[string, string] | undefined} level
   * @param {[number, number]} places decimals of prices and sizes
   * @param {number} total so much up to here
   * @param {number} most
   */
  paint(level, places, total, most) {
    const [price, size, sum] = this.parts;
    sayPrice(price, level ? format.price(level[0], places[0]) : ["", ""]);
    sayPrice(size, level ? format.price(level[1], places[1]) : ["", ""]);
    say(sum, level ? format.brief(total) : "");
    this.bar.style.transform = `scaleX(${level && most > 0 ? (total / most).toFixed(4) : 0})`;
  }
}

/** The ladder. */
export class Ladder {
  /** @type {import("./quotes.js").Row | null} */
  #row = null;
  /** @type {Map<string, Book>} By channel. */
  #books = new Map();
  /** The most decimals of prices and sizes so far: what is below each other is aligned. */
  #places = /** @type {[number, number]} */ ([0, 0]);
  #isDirty = false;
  #drawnAt = -Infinity;

  /** @param {import("./store.js").Store} store */
  constructor(store) {
    this.store = store;
    const rungs = (/** @type {"bid" | "ask"} */ side) => Array.from({ length: LEVELS }, () => new Rung(side));
    [this.asks, this.bids] = [rungs("ask"), rungs("bid")];
    // The best of both sides meet in the middle.
    byId("ladder-asks").append(...this.asks.toReversed().map(({ element }) => element));
    byId("ladder-bids").append(...this.bids.map(({ element }) => element));
    byId("ladder-source").addEventListener("change", () => {
      this.#places = [0, 0];
      this.#again();
    });
  }

  #again() {
    this.#isDirty = true;
    this.#drawnAt = -Infinity;
  }

  /** Show an instrument, or with null none. */
  open(/** @type {import("./quotes.js").Row | null} */ row) {
    this.#row = row;
    this.#books.clear();
    this.#places = [0, 0];
    for (const feed of this.feeds()) this.#books.set(feed.name, new Book(feed.name, /** @type {any} */ (row).instrument));
    const select = byId("ladder-source");
    select.replaceChildren(...this.feeds().map(({ name, exchange }) => make("option", { value: name }, [`${exchange} (${name})`])));
    select.hidden = this.#books.size === 0;
    this.#again();
  }

  /** @returns {import("./quotes.js").Feed[]} that bring books of the instrument */
  feeds() {
    const feeds = [...this.store.feeds.values()].filter(({ kind }) => kind === "book" || kind === "mid");
    return this.#row === null ? [] : feeds.filter((f) => f.instruments.has(/** @type {any} */ (this.#row).instrument)).sort((a, b) => b.rank - a.rank);
  }

  /** Take a message of the market, or a gap. */
  take(/** @type {any} */ message) {
    const book = this.#books.get(message.channel);
    if (!book?.apply(message)) return;
    this.#isDirty = true;
    if (message.type === "orderbook_update") this.store.best(message, book);
  }

  /** @param {number} now by the daemon's clock */
  paint(now) {
    const at = performance.now();
    if (!this.#row || at - this.#drawnAt < REDRAW_MS) return;
    const channel = byId("ladder-source").value;
    const book = this.#books.get(channel);
    const quote = this.#row.cells.get(this.store.feeds.get(channel)?.exchange ?? "")?.quotes.get(channel);
    const stale = quote?.stale ?? null;
    const isShown = book?.known && quote?.message;
    sayAge(byId("ladder-age"), isShown ? now - quote.at : null, isShown ? stale : (quote?.away ?? null));
    dress(byId("ladder"), `ladder fades${stale === null ? "" : " stale"}`);
    if (!this.#isDirty) return;
    this.#isDirty = false;
    this.#drawnAt = at;
    const isKnown = book?.known ?? false;
    byId("ladder").hidden = !isKnown;
    const none = byId("ladder-none");
    none.hidden = isKnown;
    say(none, book ? "The book is not known: the next snapshot brings it." : "No channel of order books has this instrument.");
    if (!book || !isKnown) return;
    const [asks, bids] = [book.asks.slice(0, LEVELS), book.bids.slice(0, LEVELS)];
    for (const level of [...asks, ...bids]) {
      level.forEach((text, i) => (this.#places[i] = Math.max(this.#places[i], format.decimals(text))));
    }
    const most = Math.max(sum(asks), sum(bids));
    for (const [rungs, levels] of /** @type {const} */ ([[this.asks, asks], [this.bids, bids]])) {
      let total = 0;
      rungs.forEach((rung, i) => rung.paint(levels[i], this.#places, (total += Number(levels[i]?.[1] ?? 0)), most));
    }
    this.#middle(asks[0]?.[0], bids[0]?.[0]);
  }

  /** @param {string | undefined} ask @param {string | undefined} bid */
  #middle(ask, bid) {
    const [a, b] = [Number(ask), Number(bid)];
    const bps = ((a - b) / ((a + b) / 2)) * 10_000;
    say(byId("ladder-middle"), ask && bid ? `Spread ${format.points(bps)} bp` : "One side is empty");
  }
}

/** @param {[string, string][]} levels */
const sum = (levels) => levels.reduce((total, [, size]) => total + Number(size), 0);
