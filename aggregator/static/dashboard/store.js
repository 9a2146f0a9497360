/**
 * What is known of the market: rows of instruments, a cell for each venue, and in it the last
 * message of each channel. Nothing here touches the page.
 */

import { BAD, Cell, Quote, RANKS, Row } from "./quotes.js";

/** @typedef {import("./quotes.js").Feed} Feed */

/** What a channel brings, by the end of its connector's name; all others bring prices. */
const KINDS = [
  ["book", /(\.depth|\.books?|\.bbo)$/],
  ["trade", /\.trades$/],
  ["candle", /\.ohlcv$/],
  ["mid", /\.orderbook$/],
];
const TYPES = { orderbook_update: "book", trade_executed: "trade", candle: "candle" };

/** All of it. */
export class Store {
  /** @type {Map<string, Feed>} By channel. */
  feeds = new Map();
  /** @type {Map<string, Row>} By instrument. */
  rows = new Map();
  /** @type {string[]} In the order in which the daemon names them. */
  venues = [];
  /** Counts changes of which rows and columns there are. */
  shape = 0;
  /** Counts changes of states: what was present may be old now. */
  states = 0;

  /** Take what `GET /channels` says. */
  channels(/** @type {any[]} */ list, /** @type {number} */ now) {
    const names = new Set(list.map(({ channel }) => channel));
    for (const name of this.feeds.keys()) if (!names.has(name)) this.#forget(name);
    for (const { channel: name, exchange, connector, ...now } of list) {
      if (!exchange) continue;
      const kind = KINDS.find(([, pattern]) => /** @type {RegExp} */ (pattern).test(connector ?? ""))?.[0] ?? "price";
      const { state = null, reason = "", since_us: sinceUs = 0 } = now;
      // Of another venue now: nothing of it is what it was.
      if (this.feeds.has(name) && this.feeds.get(name)?.exchange !== exchange) this.#forget(name);
      const old = this.feeds.get(name);
      /** @type {Feed} */
      const feed = old ?? Object.assign({ name, exchange, cutUs: 0, alone: new Map(), instruments: new Set() }, /** @type {any} */ ({}));
      // What was learned from messages is known better.
      const learned = old && old.connector === connector ? old.kind : /** @type {string} */ (kind);
      Object.assign(feed, { connector, kind: learned, state, reason, sinceUs, rank: RANKS.indexOf(learned) });
      this.feeds.set(name, feed);
      feed.alone.clear();
      for (const { instrument, state: its, reason: why } of now.not_live ?? []) feed.alone.set(instrument, { state: its, reason: why });
      if (!this.venues.includes(exchange)) this.venues.push(exchange);
      for (const instrument of now.instruments) this.quote(feed, instrument);
      const listed = new Set(now.instruments);
      for (const instrument of [...feed.instruments]) if (!listed.has(instrument)) this.#drop(feed, instrument);
    }
    this.venues = this.venues.filter((venue) => [...this.feeds.values()].some((f) => f.exchange === venue));
    this.shape += 1;
    this.#judge(now);
  }

  /** @param {string} name of a channel that is not configured any more */
  #forget(name) {
    const feed = /** @type {Feed} */ (this.feeds.get(name));
    this.feeds.delete(name);
    for (const instrument of [...feed.instruments]) this.#drop(feed, instrument);
  }

  /** @param {Feed} feed @param {string} instrument that it has no more */
  #drop(feed, instrument) {
    feed.instruments.delete(instrument);
    const row = this.rows.get(instrument);
    const cell = row?.cells.get(feed.exchange);
    if (!row || !cell) return;
    cell.quotes.delete(feed.name);
    if (cell.quotes.size === 0) row.cells.delete(feed.exchange);
    if (row.cells.size === 0) this.rows.delete(instrument);
  }

  /** @param {Feed} feed @param {string} instrument @returns {Quote} its place, new where there was none */
  quote(feed, instrument) {
    let row = this.rows.get(instrument);
    if (!row) {
      this.rows.set(instrument, (row = new Row(instrument)));
      this.shape += 1;
    }
    let cell = row.cells.get(feed.exchange);
    if (!cell) {
      row.cells.set(feed.exchange, (cell = new Cell(row, feed.exchange)));
      this.shape += 1;
    }
    let quote = cell.quotes.get(feed.name);
    if (!quote) {
      cell.quotes.set(feed.name, (quote = new Quote(feed, cell)));
      feed.instruments.add(instrument);
    }
    return quote;
  }

  /**
   * Take a message of a venue.
   *
   * @param {any} message
   * @param {number} now in milliseconds of the daemon's clock
   */
  market(message, now) {
    const feed = this.feeds.get(message.channel);
    if (!feed) return;
    this.#learn(feed, message.type);
    const quote = this.quote(feed, message.instrument);
    const { cell } = quote;
    // A change of a book says nothing of its best prices by itself: who shows the book tells.
    if (message.action === "delta") return;
    const before = cell.primary?.value ?? NaN;
    quote.take(message);
    cell.choose();
    const { row, primary } = cell;
    const after = primary?.value ?? NaN;
    if (primary === quote && before !== after && !Number.isNaN(before) && message.age_us === undefined) {
      cell.direction = after > before ? 1 : -1;
      cell.changedAt = performance.now();
    }
    row.version += 1;
    if (primary !== quote) return;
    row.sparkVenue ??= cell.venue;
    if (row.sparkVenue === cell.venue && quote.stale === null) row.spark.add(Math.min(quote.at, now), after);
  }

  /** Connectors of other packages may have any name: what a channel brings is seen by what comes. */
  #learn(/** @type {Feed} */ feed, /** @type {string} */ type) {
    const kind = TYPES[/** @type {keyof TYPES} */ (type)];
    if (!kind || feed.kind === kind) return;
    Object.assign(feed, { kind, rank: RANKS.indexOf(kind) });
    this.shape += 1;
  }

  /** Take the best prices of a book that is held elsewhere, from the message that made it so. */
  best(/** @type {any} */ message, /** @type {import("../client.js").Book} */ { bids, asks }) {
    const feed = this.feeds.get(message.channel);
    if (!feed) return;
    const quote = this.quote(feed, message.instrument);
    quote.take({ ...message, action: "snapshot", data: { bids: bids.slice(0, 1), asks: asks.slice(0, 1) } });
    quote.cell.row.version += 1;
  }

  /** Take an older message, of the history: for the small charts alone. */
  older(/** @type {any} */ message) {
    const feed = this.feeds.get(message.channel);
    const row = this.rows.get(message.instrument);
    if (!feed || !row || message.type !== "price_update") return;
    if (row.sparkQuote?.feed !== feed) return;
    row.spark.fill(Math.min(message.exchange_us ?? message.received_us, message.received_us) / 1000, message.price);
    row.version += 1;
  }

  /** Take a change of state; return whether it is of a feed that is known. */
  status(/** @type {any} */ { feed: name, instrument, state, reason, since_us: sinceUs }, /** @type {number} */ now) {
    const feed = this.feeds.get(name);
    if (!feed) return false;
    if (instrument === null) {
      Object.assign(feed, { state, reason, sinceUs });
      if (BAD.has(state)) feed.cutUs = Math.max(feed.cutUs, sinceUs);
    } else if (state === "live") {
      feed.alone.delete(instrument);
    } else {
      feed.alone.set(instrument, { state, reason });
    }
    this.#judge(now);
    return true;
  }

  /** Take a loss: what a book's best prices are is not known then. */
  gap(/** @type {any} */ { channel, instrument, reason }) {
    const feed = this.feeds.get(channel);
    if (feed?.kind !== "book" || reason === "slow_consumer") return;
    for (const name of instrument === null ? feed.instruments : [instrument]) {
      const quote = this.rows.get(name)?.cells.get(feed.exchange)?.quotes.get(channel);
      if (quote) quote.message = null;
    }
    this.states += 1;
  }

  /** Choose anew where prices are taken from; a small chart breaks where its price is no present one. */
  #judge(/** @type {number} */ now) {
    for (const row of this.rows.values()) {
      for (const cell of row.cells.values()) cell.choose();
      if (row.sparkQuote?.stale) row.spark.interrupt(now);
    }
    this.states += 1;
  }

  /** Say that nobody knew the prices from then on: of all, or of a feed. */
  interrupt(/** @type {number} */ ms, /** @type {Feed | null} */ feed = null) {
    for (const row of this.rows.values()) {
      if (feed && row.sparkQuote?.feed !== feed) continue;
      row.spark.interrupt(ms);
      row.version += 1;
    }
  }
}
