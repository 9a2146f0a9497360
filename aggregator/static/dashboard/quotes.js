/** An instrument's row, its cell at a venue, and in that the last message of each channel. */

import { digits } from "../client.js";
import { decimals } from "./format.js";
import { Spark } from "./spark.js";

/** The states of a feed in which its last values are no present ones. */
export const BAD = new Set(["stale", "down", "connecting"]);
/** The same of an instrument. */
const BAD_ALONE = new Set(["stale", "connecting", "unknown_instrument"]);
/** Prices so close to each other in time can be compared. */
const SAME_TIME_MS = 2_000;
/** Which of a venue's channels its price is taken from, the best first. */
export const RANKS = ["price", "trade", "candle", "mid", "book"];

/**
 * @typedef {object} Feed
 * @property {string} name
 * @property {string} exchange
 * @property {string} connector
 * @property {string} kind price, trade, candle, mid or book
 * @property {string | null} state
 * @property {string} reason
 * @property {number} sinceUs
 * @property {number} cutUs values from before this time are not known to be still good
 * @property {Map<string, {state: string, reason: string}>} alone instruments that are not live
 * @property {Set<string>} instruments
 * @property {number} rank
 */

/** The last message of one instrument on one channel. */
export class Quote {
  /** @type {any} */
  message = null;
  /** The most decimals of a price so far: all are written with as many, so that they stay in line. */
  places = 0;
  /** @type {Record<string, string | undefined>} Numbers as text, once they were asked for. */
  #texts = {};

  /** @param {Feed} feed @param {Cell} cell */
  constructor(feed, cell) {
    this.feed = feed;
    this.cell = cell;
  }

  /** @param {any} message */
  take(message) {
    this.message = message;
    this.#texts = {};
  }

  /** @param {"price" | "bid" | "ask" | "volume_24h"} field @returns {string | undefined} all digits */
  text(field) {
    if (!(field in this.#texts)) {
      const text = (this.#texts[field] = this.#read(field));
      if (field === "price" && text !== undefined) this.places = Math.max(this.places, decimals(text));
    }
    return this.#texts[field];
  }

  /** @param {"price" | "bid" | "ask" | "volume_24h"} field */
  #read(field) {
    const { type, data } = this.message ?? {};
    if (type === "price_update") return field in this.message ? digits(this.message, field) : undefined;
    if (type === "orderbook_update") {
      if (this.message.action !== "snapshot") return undefined;
      return { bid: data.bids[0]?.[0], ask: data.asks[0]?.[0] }[/** @type {string} */ (field)];
    }
    if (field === "price") return type === "candle" ? data.close : data?.price;
    return undefined;
  }

  /** @returns {number} the price, or NaN */
  get value() {
    const { type, data, price } = this.message ?? {};
    if (type === "price_update") return price;
    return Number((type === "candle" ? data.close : type === "trade_executed" ? data.price : undefined) ?? NaN);
  }

  /** @returns {number} when it was true: by the venue, where it says so; ms of the daemon's clock */
  get at() {
    const { type, exchange_us, received_us } = this.message;
    // A candle's time is its beginning.
    const given = type === "candle" ? null : exchange_us;
    return Math.min(given ?? received_us, received_us) / 1000;
  }

  /** Why nothing comes of it, by the state of its feed; null where that is well. */
  get away() {
    const { feed } = this;
    if (feed.state !== null && BAD.has(feed.state)) return `${feed.name} is ${feed.state}: ${feed.reason}`;
    const alone = feed.alone.get(this.cell.row.instrument);
    return alone && BAD_ALONE.has(alone.state) ? `${feed.name}: ${alone.state}: ${alone.reason}` : null;
  }

  /** Why it is no present value; null where it is one. */
  get stale() {
    const { feed, message, away } = this;
    if (message === null) return `${feed.name}: nothing yet`;
    if (feed.state === null && message.type === "trade_executed") return `${feed.name}: a trade that was published; nobody tells whether it is the last`;
    if (away !== null) return away;
    if (message.stale === true) return `${feed.name}: its value was stale when this page asked for it`;
    if (message.received_us < feed.cutUs) return `${feed.name}: nothing new since it was interrupted`;
    return null;
  }

  /** Whether its feed or its instrument is later than usual. */
  get isLate() {
    return this.feed.state === "late" || this.feed.alone.get(this.cell.row.instrument)?.state === "late";
  }
}

/** An instrument at a venue. */
export class Cell {
  /** @type {Map<string, Quote>} By channel. */
  quotes = new Map();
  /** 1 where the last change of the price was up, -1 where it was down. */
  direction = 0;
  /** When that was. */
  changedAt = -Infinity;
  /** @type {Quote | null} Where the price is taken from. */
  primary = null;

  /** @param {Row} row @param {string} venue */
  constructor(row, venue) {
    this.row = row;
    this.venue = venue;
  }

  /** Find out where the price is taken from: the best kind that is present, of it the newest. */
  choose() {
    let [best, bestKey] = [/** @type {Quote | null} */ (null), Infinity];
    for (const quote of this.quotes.values()) {
      if (quote.message === null || Number.isNaN(quote.value)) continue;
      const key = quote.feed.rank + (quote.stale === null ? 0 : RANKS.length);
      if (key < bestKey || (key === bestKey && best && quote.at > best.at)) [best, bestKey] = [quote, key];
    }
    this.primary = best;
  }

  /** @param {"bid" | "ask" | "volume_24h" | "change_24h_pct"} field @returns {Quote | null} the newest that has it */
  having(field) {
    let best = null;
    for (const quote of this.quotes.values()) {
      const { message } = quote;
      if (message === null || quote.stale !== null) continue;
      const has = message.type === "orderbook_update" ? field === "bid" || field === "ask" : field in message;
      if (has && (!best || message.received_us > best.message.received_us)) best = quote;
    }
    return best;
  }
}

/** An instrument. */
export class Row {
  /** @type {Map<string, Cell>} By venue. */
  cells = new Map();
  spark = new Spark();
  /** @type {string | null} The venue whose price the small chart shows. */
  sparkVenue = null;
  /** Counts what has come. */
  version = 0;

  /** @param {string} instrument */
  constructor(instrument) {
    this.instrument = instrument;
  }

  /** @returns {Quote | null} whose price the small chart shows */
  get sparkQuote() {
    return this.cells.get(this.sparkVenue ?? "")?.primary ?? null;
  }

  /**
   * How far the venues are apart, of present prices.
   *
   * @returns {{bps: number, low: Cell, high: Cell, skew: number | null} | null} `skew`: so many ms the
   *   two are apart in time; null where that is too little to matter
   */
  spread() {
    let [low, high] = [/** @type {Cell | null} */ (null), /** @type {Cell | null} */ (null)];
    for (const cell of this.cells.values()) {
      if (!cell.primary || cell.primary.stale !== null) continue;
      if (!low || cell.primary.value < /** @type {Quote} */ (low.primary).value) low = cell;
      if (!high || cell.primary.value >= /** @type {Quote} */ (high.primary).value) high = cell;
    }
    if (!low || !high || low === high) return null;
    const [least, most] = [/** @type {Quote} */ (low.primary).value, /** @type {Quote} */ (high.primary).value];
    const middle = (least + most) / 2;
    if (!(middle > 0)) return null;
    const skew = Math.abs(/** @type {Quote} */ (low.primary).at - /** @type {Quote} */ (high.primary).at);
    return { bps: ((most - least) / middle) * 10_000, low, high, skew: skew >= SAME_TIME_MS ? skew : null };
  }
}
