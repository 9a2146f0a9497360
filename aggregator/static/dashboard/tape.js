/** The trades of an instrument as they happen; without a channel of trades, its prices. */

import { digits } from "../client.js";
import { byId, dress, make, mark, say } from "./dom.js";
import * as format from "./format.js";
import { ask } from "./frame.js";
import { place } from "./source.js";

const ROWS = 40;
const REDRAW_MS = 150;
const BACK = 1_000;
const COLUMNS = ["time", "side", "price", "size", "venue"];

/** @typedef {{ms: number, seq: string, side: string, price: string | undefined, size: string, venue: string}} Print */

/** The tape. */
export class Tape {
  /** @type {import("./quotes.js").Row | null} */
  #row = null;
  /** @type {Print[]} Newest first. */
  #prints = [];
  #kind = "trade";
  #isDirty = false;
  #drawnAt = -Infinity;

  /** @param {import("./source.js").Source} source @param {import("./store.js").Store} store */
  constructor(source, store) {
    this.source = source;
    this.store = store;
    this.rows = Array.from({ length: ROWS }, () => COLUMNS.map((name) => make(`td.${name}`)));
    byId("tape").append(...this.rows.map((cells) => make("tr", {}, cells)));
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

  paint() {
    const now = performance.now();
    if (!this.#isDirty || now - this.#drawnAt < REDRAW_MS) return;
    this.#isDirty = false;
    this.#drawnAt = now;
    const places = (/** @type {(print: Print) => string | undefined} */ of) =>
      Math.max(0, ...this.#prints.map(of).map((text) => (text ? format.needed(text) : 0)));
    const [priced, sized] = [places(({ price }) => price), places(({ size }) => size)];
    this.rows.forEach(([time, side, price, size, venue], i) => {
      const print = this.#prints[i];
      say(time, print ? format.fine(print.ms) : "");
      mark(time, "title", print ? format.time(print.ms) : null);
      say(side, print ? ({ buy: "▲ buy", sell: "▼ sell" }[print.side] ?? "") : "");
      dress(side, `side ${print ? { buy: "up", sell: "down" }[print.side] ?? "" : ""}`);
      say(price, print?.price ? format.written(print.price, priced) : "");
      say(size, print?.size ? format.written(print.size, sized) : "");
      say(venue, print?.venue ?? "");
    });
    byId("tape-empty").hidden = this.#prints.length > 0;
  }
}
