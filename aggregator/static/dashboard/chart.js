/** The chart of an instrument: what the stream brings, and before it what the daemon has kept. */

import { colours, onColours } from "./colours.js";
import { byId, make, mark, say } from "./dom.js";
import * as format from "./format.js";
import { ask } from "./frame.js";
import { library, Plot } from "./plot.js";
import { Series } from "./series.js";
import { place } from "./source.js";

const REDRAW_MS = 250;
/** So often it is said in words what it shows. */
const DESCRIBE_MS = 1_000;
const PAGE = 1_000;
/** Pages of a channel's history that are read, at most. */
const PAGES = 10;
/** For a line, a better kind of price is worth so many seconds of history. */
const WORTH_S = 30;
/** Of a venue's own candles that are kept. */
const CANDLES = 1_000;
const INTERVALS = /^(\d+)([smhdwM])$/;
const SECONDS = { s: 1, m: 60, h: 3600, d: 86_400, w: 604_800, M: 2_592_000 };

/** @param {string} interval `1m`, `4h` @returns {number} seconds */
function secondsOf(interval) {
  const [, count, unit] = INTERVALS.exec(interval) ?? [];
  return unit ? Number(count) * SECONDS[/** @type {keyof SECONDS} */ (unit)] : 60;
}

/** The chart and its controls. */
export class Chart {
  /** @type {import("./quotes.js").Row | null} */
  #row = null;
  /** @type {Map<string, Series>} By channel. */
  #series = new Map();
  /** @type {Map<string, {step: number, bars: Map<number, any>}>} A venue's own candles, by channel. */
  #candles = new Map();
  #uPlot = /** @type {any} */ (null);
  #drawnAt = -Infinity;
  #describedAt = -Infinity;
  #isDirty = false;
  #shown = /** @type {any[][]} */ ([]);
  #names = /** @type {string[]} */ ([]);
  #second = 0;

  /** @param {import("./source.js").Source} source @param {import("./store.js").Store} store */
  constructor(source, store) {
    this.source = source;
    this.store = store;
    this.plot = new Plot(byId("chart"), (index) => this.#readout(index));
    for (const id of ["chart-kind", "chart-window", "chart-source", "chart-step"]) {
      byId(id).addEventListener("change", () => this.#again());
    }
    onColours(() => this.#again());
  }

  #again() {
    this.#drawnAt = -Infinity;
    this.#isDirty = true;
    ask();
  }

  /** Show an instrument, or with null none. */
  async open(/** @type {import("./quotes.js").Row | null} */ row) {
    this.#row = row;
    this.#series.clear();
    this.#candles.clear();
    this.plot.clear();
    this.#shown = [];
    if (!row) return;
    const feeds = this.#feeds();
    for (const { name } of feeds) this.#series.set(name, new Series());
    this.#offer();
    for (const { name } of feeds) this.take(this.#quote(name)?.message);
    this.#uPlot = await library();
    for (const feed of feeds) {
      // What the daemon has kept may be gone: then the chart begins with what comes.
      await this.#fill(feed, row).catch(() => {});
      if (this.#row !== row) return;
      this.#again();
    }
    this.#offer();
  }

  #feeds() {
    const feeds = [...this.store.feeds.values()];
    return feeds.filter((f) => f.kind !== "book" && f.instruments.has(/** @type {any} */ (this.#row).instrument));
  }

  #quote(/** @type {string} */ channel) {
    for (const cell of this.#row?.cells.values() ?? []) {
      const quote = cell.quotes.get(channel);
      if (quote) return quote;
    }
    return undefined;
  }

  #offer() {
    const select = byId("chart-source");
    // A venue's own candles are the best, then those of most prices.
    const rank = (/** @type {any} */ f) => (f.kind === "candle" ? Infinity : this.#count(f.name));
    const feeds = this.#feeds().sort((a, b) => rank(b) - rank(a));
    select.replaceChildren(...feeds.map(({ name, exchange }) => make("option", { value: name }, [`${exchange} (${name})`])));
  }

  /** @param {string} channel */
  #count(channel) {
    return this.#series.get(channel)?.bars.length ?? 0;
  }

  /** @returns {[venue: string, series: Series][]} of each venue the prices that go back furthest, of these the best kind */
  #lines() {
    /** @type {Map<string, import("./quotes.js").Feed>} */
    const best = new Map();
    for (const feed of this.#feeds()) {
      const known = best.get(feed.exchange);
      if (!this.#count(feed.name)) continue;
      if (!known || this.#merit(feed) < this.#merit(known)) best.set(feed.exchange, feed);
    }
    return [...best].map(([venue, { name }]) => [venue, /** @type {Series} */ (this.#series.get(name))]);
  }

  /** @param {import("./quotes.js").Feed} feed @returns {number} the less, the better */
  #merit({ name, rank }) {
    const since = /** @type {Series} */ (this.#series.get(name)).bars[0].t;
    return since + rank * WORTH_S;
  }

  /** Read what the daemon has kept of a channel, the newest of it. */
  async #fill(/** @type {any} */ feed, /** @type {any} */ row) {
    const path = `history/${place(feed.name)}`;
    const { seq, epoch, first_seq: first } = await this.source.get(`${path}?limit=1`);
    if (first === null) return;
    let since = Math.max(first - 1, seq - PAGE * PAGES);
    const older = new Series();
    for (let page = 0; page < PAGES && since < seq && this.#row === row; page++) {
      const answer = await this.source.get(`${path}?since_seq=${since}&epoch=${epoch}&limit=${PAGE}`);
      for (const message of answer.messages) {
        if (message.instrument === row.instrument) this.#put(message, older);
      }
      if (answer.until_seq <= since) break;
      since = answer.until_seq;
    }
    if (this.#row === row) this.#series.get(feed.name)?.prepend(older);
  }

  /** Take a message of the market. */
  take(/** @type {any} */ message) {
    if (!message || message.instrument !== this.#row?.instrument) return;
    const series = this.#series.get(message.channel);
    if (series) this.#put(message, series);
    this.#isDirty = true;
  }

  /** @param {any} message @param {Series} series */
  #put(message, series) {
    const { type, data, exchange_us: given, received_us: received } = message;
    if (type === "candle") {
      const known = this.#candles.get(message.channel) ?? { step: secondsOf(data.interval), bars: new Map() };
      this.#candles.set(message.channel, known);
      const [t, o, h, l, c] = [data.start_us / 1e6, ...[data.open, data.high, data.low, data.close].map(Number)];
      known.bars.set(t, { t, o, h, l, c });
      if (known.bars.size > CANDLES) known.bars.delete(known.bars.keys().next().value);
      return;
    }
    const value = type === "price_update" ? message.price : type === "trade_executed" ? Number(data.price) : NaN;
    if (!Number.isNaN(value)) series.add(Math.min(given ?? received, received) / 1000, value);
  }

  // What is seen.

  /** @param {number} now by the daemon's clock, in milliseconds */
  paint(now) {
    const second = Math.floor(now / 1000);
    const isNext = second !== this.#second;
    if (!this.#uPlot || !this.#row || !(this.#isDirty || isNext)) return;
    if (isNext) this.#interrupt(now);
    this.#second = second;
    const at = performance.now();
    this.#isDirty = true;
    if (at - this.#drawnAt < REDRAW_MS) return;
    this.#drawnAt = at;
    this.#isDirty = false;
    const isCandles = byId("chart-kind").value === "candles";
    byId("chart-candles").hidden = !isCandles;
    if (isCandles) this.#showCandles(now);
    else this.#showLines(now);
    if (at - this.#describedAt < DESCRIBE_MS) return;
    this.#describedAt = at;
    this.#describe();
  }

  /** Lines end where their prices end to be present ones. */
  #interrupt(/** @type {number} */ now) {
    const isOff = this.source.client?.state.name !== "open";
    for (const [channel, series] of this.#series) {
      if (isOff || this.#quote(channel)?.stale) series.interrupt(now);
    }
  }

  #showLines(/** @type {number} */ now) {
    const span = Number(byId("chart-window").value);
    const end = Math.floor(now / 1000) + 1;
    const start = end - span;
    const used = this.#lines();
    const seconds = new Set();
    for (const [, { bars, breaks }] of used) {
      for (const { t } of bars) if (t >= start) seconds.add(t);
      for (const t of breaks) if (t >= start) seconds.add(t);
    }
    const times = [...seconds].sort((a, b) => a - b);
    const lines = used.map(([, { bars, breaks }]) => {
      // Undefined: nothing new in this second; null: not known.
      const values = new Map(bars.map(({ t, c }) => /** @type {[number, number | null]} */ ([t, c])));
      for (const t of breaks) if (!values.has(t)) values.set(t, null);
      return times.map((t) => values.get(t));
    });
    const kind = used.map(([label]) => ({ label, colour: colours()[`venue-${this.store.venues.indexOf(label) % 5}`] }));
    this.#names = used.map(([name]) => name);
    this.#legend(kind);
    if (kind.length) this.plot.show(this.#uPlot, kind, (this.#shown = [times, ...lines]), [start, end]);
  }

  #showCandles(/** @type {number} */ now) {
    const channel = byId("chart-source").value;
    const own = this.#candles.get(channel);
    byId("chart-step").disabled = own !== undefined;
    const step = own?.step ?? Number(byId("chart-step").value);
    const bars = own ? [...own.bars.values()].sort((a, b) => a.t - b.t) : (this.#series.get(channel)?.folded(step) ?? []);
    const end = Math.floor(now / 1000) + step;
    const span = own ? step * 120 : Number(byId("chart-window").value);
    this.#names = ["open", "high", "low", "close"];
    this.#legend([]);
    const data = [bars.map((b) => b.t), bars.map((b) => b.o), bars.map((b) => b.h), bars.map((b) => b.l), bars.map((b) => b.c)];
    this.plot.show(this.#uPlot, step, (this.#shown = data), [end - span, end]);
  }

  #legend(/** @type {{label: string, colour: string}[]} */ kind) {
    const legend = byId("chart-legend");
    const key = JSON.stringify(kind);
    if (legend.key === key) return;
    legend.key = key;
    legend.replaceChildren(
      ...kind.map(({ label, colour }) => {
        const swatch = make("span.swatch");
        swatch.style.background = colour;
        return make("li", {}, [swatch, label]);
      }),
    );
  }

  /** For who does not see it. */
  #describe() {
    const values = this.#shown.slice(1).flat().filter((value) => value != null);
    const text = values.length
      ? `Chart of ${this.#row?.instrument}: from ${format.brief(Math.min(...values.slice(-3600)))} to ${format.brief(Math.max(...values.slice(-3600)))}`
      : `Chart of ${this.#row?.instrument}: no data yet`;
    mark(byId("chart"), "aria-label", text);
  }

  #readout(/** @type {number | null} */ index) {
    const t = index === null ? undefined : this.#shown[0]?.[index];
    if (t === undefined || index === null) {
      say(byId("chart-readout"), "");
      return;
    }
    const parts = this.#names.map((name, i) => {
      const value = this.#shown[i + 1]?.[index];
      return value == null ? "" : `${name} ${format.number(String(value))}`;
    });
    say(byId("chart-readout"), [format.time(t * 1000), ...parts.filter(Boolean)].join("   "));
  }
}
