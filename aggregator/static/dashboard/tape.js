/** The trades of an instrument as they happen; without a channel of trades, its prices. */

import { digits } from "../client.js";
import { sayAge } from "./age.js";
import { byId, dress, make, mark, say } from "./dom.js";
import * as format from "./format.js";
import { ask } from "./frame.js";
import { place } from "./source.js";

const ROWS = 40;
const REDRAW_MS = 150;
const BACK = 1_000;
const COLUMNS = ["time", "side", "price", "size", "venue"];

/** @typedef {{ms: number, channel: string, seq: string, side: string, price: string | undefined, size: string, venue: string}} Print */

/** The tape. */
export class Tape {
  /** @type {import("./quotes.js").Row | null} */
  #row = null;
  /** @type {Print[]} Newest first. */
  #prints = [];
  #kind = "trade";
  /** The channels that had stopped when it was drawn. */
  #stopped = "";
  #isDirty = false;
  #drawnAt = -Infinity;

  /** @param {import("./source.js").Source} source @param {import("./store.js").Store} store */
  constructor(source, store) {
    this.source = source;
    this.store = store;
    this.rows = Array.from({ length: ROWS }, () => COLUMNS.map((name) => make(`td.${name}`)));
    this.lines = this.rows.map((cells) => make("tr", {}, cells));
    byId("tape").append(...this.lines);
  }

  /** Show an instrument, or with null none. */
  async open(/** @type {import("./quotes.js").Row | null} */ row) {
    this.#row = row;
    this.#prints = [];
    this.#isDirty = true;
    if (!row) return;
    const having = [...this.store.feeds.values()].filter((f) => f.instruments.has(row.instrument));
    const isTrades = having.some(({ kind }) => kind === "trade");
    this.#kind = isTrades ? "trade" : "price";
    say(byId("tape-title"), isTrades ? "Trades" : "Prices");
    byId("tape-note").hidden = isTrades;
    for (const { name, kind } of having) {
      if (kind !== this.#kind) continue;
      const answer = await this.source.get(`history/${place(name)}?limit=${BACK}`).catch(() => ({ messages: [] }));
      if (this.#row !== row) return;
      for (const message of answer.messages) this.take(message, true);
    }
    ask();
  }

  /** Take a message of the market; of the history's, numbers have the digits that a double keeps. */
  take(/** @type {any} */ message, isOld = false) {
    const { type, instrument, data, exchange, channel, seq } = message;
    if (instrument !== this.#row?.instrument) return;
    const isTrade = type === "trade_executed";
    if (!isTrade && (type !== "price_update" || this.#kind !== "price" || this.store.feeds.get(channel)?.kind !== "price")) return;
    if (!isOld && message.age_us !== undefined) return;
    const print = {
      ms: (message.exchange_us ?? message.received_us) / 1000,
      channel,
      seq: `${channel} ${seq}`,
      side: isTrade ? data.side : "",
      price: isTrade ? data.price : (digits(message, "price") ?? String(message.price)),
      size: isTrade ? data.quantity : "",
      venue: exchange,
    };
    const at = this.#prints.findIndex(({ ms }) => ms <= print.ms);
    // What the stream brought while the history was read is not to come twice.
    if (isOld && this.#prints.some((each) => each.seq === print.seq)) return;
    this.#prints.splice(at < 0 ? this.#prints.length : at, 0, print);
    if (this.#prints.length > ROWS) this.#prints.length = ROWS;
    this.#isDirty = true;
  }

  /** @returns {Map<string, string>} why nothing comes of a channel, by those that have stopped */
  #away() {
    const quotes = [...(this.#row?.cells.values() ?? [])].flatMap((cell) => [...cell.quotes.values()]);
    const brings = quotes.filter(({ feed, away }) => feed.kind === this.#kind && away !== null);
    return new Map(brings.map(({ feed, away }) => [feed.name, /** @type {string} */ (away)]));
  }

  /** @param {number} now by the daemon's clock */
  paint(now) {
    const away = this.#away();
    // Of those that have stopped, if there are any.
    const newest = this.#prints.find(({ channel }) => away.size === 0 || away.has(channel));
    sayAge(byId("tape-age"), newest ? now - newest.ms : null, away.size ? [...away.values()].join("; ") : null);
    const stopped = [...away.keys()].join();
    const at = performance.now();
    if (!(this.#isDirty || stopped !== this.#stopped) || at - this.#drawnAt < REDRAW_MS) return;
    this.#isDirty = false;
    this.#stopped = stopped;
    this.#drawnAt = at;
    const places = (/** @type {(print: Print) => string | undefined} */ of) =>
      Math.max(0, ...this.#prints.map(of).map((text) => (text ? format.needed(text) : 0)));
    const [priced, sized] = [places(({ price }) => price), places(({ size }) => size)];
    this.rows.forEach(([time, side, price, size, venue], i) => {
      const print = this.#prints[i];
      dress(this.lines[i], print && away.has(print.channel) ? "stale" : "");
      say(time, print ? format.fine(print.ms) : "");
      mark(time, "title", print ? format.time(print.ms) : null);
      say(side, print ? ({ buy: "▲ buy", sell: "▼ sell" }[print.side] ?? "") : "");
      dress(side, `side ${print ? { buy: "up", sell: "down" }[print.side] ?? "" : ""}`);
      say(price, print?.price ? format.written(print.price, priced) : "");
      say(size, print?.size ? format.written(print.size, sized) : "");
      say(venue, print?.venue ?? "");
    });
    byId("tape").hidden = this.#prints.length === 0;
    byId("tape-empty").hidden = this.#prints.length > 0;
  }
}
