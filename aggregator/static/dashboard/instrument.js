/** The view of one instrument: its chart, book, tape, and its venues beside each other. */

import { Chart } from "./chart.js";
import { Compare } from "./compare.js";
import { byId, dress, mark, say, sayPrice } from "./dom.js";
import * as format from "./format.js";
import { Ladder } from "./ladder.js";
import { Tape } from "./tape.js";

const MARKET = ["price_update", "orderbook_update", "trade_executed", "candle"];

/** The view. */
export class Instrument {
  /** @type {string | null} */
  name = null;
  /** @type {import("./quotes.js").Row | null} */
  #row = null;
  #venue = "";
  /** Which channels have it. */
  #channels = "";

  /** @param {import("./source.js").Source} source @param {import("./store.js").Store} store */
  constructor(source, store) {
    this.store = store;
    this.chart = new Chart(source, store);
    this.ladder = new Ladder(store);
    this.tape = new Tape(source, store);
    this.compare = new Compare();
    for (const type of MARKET) source.on(type, (message) => this.#take(message));
    source.on("gap", (gap) => this.ladder.take(gap));
  }

  /** @param {any} message */
  #take(message) {
    if (this.#row === null || message.instrument !== this.name) return;
    this.chart.take(message);
    this.ladder.take(message);
    this.tape.take(message);
  }

  /** Show an instrument, or with null none. */
  open(/** @type {string | null} */ name) {
    if (this.name === name) return;
    this.name = name;
    this.#show(null);
  }

  /** @param {import("./quotes.js").Row | null} row */
  #show(row) {
    this.#row = row;
    this.ladder.open(row);
    this.compare.open(row);
    void this.tape.open(row);
    void this.chart.open(row);
  }

  /** @returns {Map<string, object>} what it wants of the daemon besides */
  wants() {
    const terms = (/** @type {any} */ feed) => (feed.kind === "mid" ? {} : { raw: false });
    return new Map(this.ladder.feeds().map((feed) => [`${feed.name}:${this.name}`, terms(feed)]));
  }

  /** @param {number} now by the daemon's clock @returns {boolean} whether it wants something else now */
  paint(now) {
    if (this.name === null) return false;
    const row = this.store.rows.get(this.name) ?? null;
    const channels = row ? [...row.cells.values()].flatMap(({ quotes }) => [...quotes.values()].map(({ feed }) => feed.name + feed.kind)).join() : "";
    const isOther = row !== this.#row || channels !== this.#channels;
    this.#channels = channels;
    if (isOther) this.#show(row);
    say(byId("instrument-name"), this.name);
    byId("instrument-unknown").hidden = row !== null || this.store.feeds.size === 0;
    byId("instrument-body").hidden = row === null;
    if (!row) return isOther;
    this.#head(row, now);
    this.compare.paint(now);
    this.ladder.paint(now);
    this.tape.paint(now);
    this.chart.paint(now);
    return isOther;
  }

  #head(/** @type {import("./quotes.js").Row} */ row, /** @type {number} */ now) {
    const cells = [...row.cells.values()].filter(({ primary }) => primary);
    const present = cells.filter(({ primary }) => primary?.stale === null);
    // That of one venue, as long as it has one: the numbers of two in turn could not be read.
    const cell = present.find(({ venue }) => venue === this.#venue) ?? present[0] ?? cells[0];
    this.#venue = cell?.venue ?? "";
    const quote = cell?.primary;
    const stale = quote?.stale ?? null;
    dress(byId("instrument-quote"), `quote fades${stale === null ? "" : " stale"}`);
    sayPrice(byId("instrument-price"), format.price(quote?.text("price"), quote?.places));
    say(byId("instrument-at"), quote ? `${cell.venue}, ${format.duration(now - quote.at)} ago` : "no price yet");
    const change = cell?.having("change_24h_pct")?.message.change_24h_pct;
    say(byId("instrument-change"), change === undefined ? "" : `${format.change(change)} in 24 h`);
    dress(byId("instrument-change"), change < 0 ? "down" : change > 0 ? "up" : "");
    say(byId("instrument-stale"), stale ?? "");
    mark(byId("instrument-price"), "data-known", quote ? "yes" : "no");
  }
}
