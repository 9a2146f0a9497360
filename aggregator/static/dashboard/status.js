/** How the daemon and its feeds are doing, with the reasons that the daemon itself gives. */

import { byId, dress, headsOf, make, mark, say } from "./dom.js";
import * as format from "./format.js";
import { ask } from "./frame.js";
import { Pace, Readings } from "./metrics.js";
import { place } from "./source.js";

/** Between two rounds of questions, while this is looked at. */
const ROUND_MS = 3_000;
/** Feeds that are asked about at a time. */
const AT_ONCE = 4;
const MOST_EVENTS = 200;
const COLUMNS = ["state", "age", "latency", "rate", "budget", "error"];
/** Rates are those of the last half minute: a feed that is polled brings nothing in most of it. */
const RATE_MS = { least: 3 * ROUND_MS - 500, most: 12 * ROUND_MS };

/** A feed's two lines in the table. */
class FeedRow {
  #pace = new Pace(RATE_MS.least, RATE_MS.most);

  /** @param {import("./quotes.js").Feed} feed */
  constructor(feed) {
    this.name = make("th", { scope: "row" }, [make("span.feed-name", {}, [feed.name]), make("span.connector", {}, [feed.connector ?? ""])]);
    const heads = headsOf("feeds");
    this.cells = Object.fromEntries(COLUMNS.map((name, i) => [name, make(`td.of-${name}`, { "data-head": heads[i + 1] })]));
    this.badge = make("span.state");
    this.cells.state.append(this.badge);
    this.verdict = make("td.verdict", { colspan: String(COLUMNS.length + 1) });
    this.elements = [make("tr.feed", {}, [this.name, ...Object.values(this.cells)]), make("tr.why", {}, [this.verdict])];
  }

  /** Take the answer of `GET /why/CHANNEL`. */
  take(/** @type {any} */ why) {
    const { feed, source, last_message: message, seq, epoch } = why;
    this.#pace.take(seq, epoch, performance.now());
    const { rate } = this.#pace;
    say(this.cells.rate, rate === undefined ? format.NOTHING : `${format.rate(rate)}/s`);
    const age = feed.last_data_age_s;
    say(this.cells.age, age === null ? format.NOTHING : format.duration(age * 1000));
    const lag = message?.lag_s ?? null;
    say(this.cells.latency, lag === null ? format.NOTHING : format.latency(Math.max(0, lag)));
    const budget = source?.budget ?? null;
    say(this.cells.budget, budget === null ? format.NOTHING : budgetText(budget));
    const error = feed.last_error;
    say(this.cells.error, error === null ? format.NOTHING : `${error.kind}, ${format.duration(error.age_s * 1000)} ago`);
    mark(this.cells.error, "title", error?.text ?? null);
    say(this.verdict, why.verdict);
    this.paint(feed.state);
  }

  /** @param {string} state */
  paint(state) {
    dress(this.badge, `state ${state}`);
    say(this.badge, state);
  }
}

/** @param {any} budget @returns {string} */
function budgetText({ left, per_minute: limit, blocked_s: blocked }) {
  if (blocked) return `blocked for ${format.duration(blocked * 1000)}`;
  if (!limit) return "no limit";
  return left === null ? `${format.count(limit)}/min` : `${format.count(left)} of ${format.count(limit)}/min`;
}

/** The view. */
export class Status {
  /** @type {Map<string, FeedRow>} */
  #rows = new Map();
  #shape = -1;
  #states = -1;
  #timer = 0;
  #isShown = false;
  #readings = new Readings();

  /** @param {import("./source.js").Source} source @param {import("./store.js").Store} store */
  constructor(source, store) {
    this.source = source;
    this.store = store;
    source.on("gap", (gap) => this.#gap(gap));
    source.on("system_status", ({ data, timestamp }) => this.#event(data, timestamp));
  }

  show(/** @type {boolean} */ isShown) {
    this.#isShown = isShown;
    clearTimeout(this.#timer);
    if (isShown) void this.#round();
  }

  async #round() {
    clearTimeout(this.#timer);
    await Promise.allSettled([this.#daemon(), this.#feeds()]);
    clearTimeout(this.#timer);
    if (this.#isShown) this.#timer = setTimeout(() => void this.#round(), ROUND_MS);
  }

  async #feeds() {
    const waiting = [...this.store.feeds.keys()];
    const work = async () => {
      for (let name = waiting.shift(); name !== undefined && this.#isShown; name = waiting.shift()) {
        const why = await this.source.get(`why/${place(name)}`);
        this.#rows.get(name)?.take(why);
      }
    };
    await Promise.allSettled(Array.from({ length: AT_ONCE }, work));
  }

  async #daemon() {
    this.#readings.take(await this.source.get("metrics", "text"), performance.now());
    const r = this.#readings;
    const flushes = r.grown("aggregator_flushes_total");
    const spent = r.grown("aggregator_flush_seconds_total");
    const started = r.value("process_start_time_seconds");
    const memory = r.value("process_resident_memory_bytes");
    const lag = r.value("aggregator_loop_lag_max_seconds");
    const deliveries = r.rate("aggregator_deliveries_total");
    const [sessions, lagging] = [r.value("aggregator_sessions"), r.value("aggregator_sessions_lagging")];
    const cpu = r.rate("process_cpu_seconds_total");
    /** @type {Record<string, string>} */
    const tiles = {
      sessions: sessions === undefined ? format.NOTHING : format.count(sessions),
      lagging: lagging === undefined ? format.NOTHING : format.count(lagging),
      deliveries: deliveries === undefined ? format.NOTHING : `${format.rate(deliveries)}/s`,
      flush: flushes && spent !== undefined ? format.latency(spent / flushes) : format.NOTHING,
      lag: lag === undefined ? format.NOTHING : format.latency(lag),
      cpu: cpu === undefined ? format.NOTHING : format.change(cpu * 100).replace("+", ""),
      memory: memory === undefined ? format.NOTHING : `${format.count(memory / 1e6)} MB`,
      uptime: started === undefined ? format.NOTHING : format.duration(this.source.now() - started * 1000),
    };
    for (const [name, text] of Object.entries(tiles)) say(byId(`tile-${name}`), text);
  }

  // What happens.

  #gap(/** @type {any} */ { channel, instrument, from_seq: from, to_seq: to, reason, timestamp, data }) {
    const size = from === null || to === null ? "?" : format.count(to - from + 1);
    const range = from === null || to === null ? "" : from === to ? ` (${from})` : ` (${from} to ${to})`;
    const where = instrument ? `${channel}:${instrument}` : channel;
    this.#log("gaps", timestamp, [where, `${size}${range}`, data?.cause ? `${reason}: ${data.cause}` : reason]);
  }

  #event(/** @type {any} */ { feed, instrument, state, reason }, /** @type {string} */ timestamp) {
    const badge = make(`span.state.${state}`, {}, [state]);
    this.#log("events", timestamp, [instrument ? `${feed}:${instrument}` : feed, badge, reason]);
    ask();
  }

  #log(/** @type {string} */ id, /** @type {string} */ timestamp, /** @type {(string | Node)[]} */ cells) {
    const list = byId(id);
    const all = [format.time(Date.parse(timestamp)), ...cells];
    list.prepend(make("tr", {}, all.map((text) => make("td", {}, [text]))));
    while (list.children.length > MOST_EVENTS) list.lastElementChild.remove();
    byId(`${id}-empty`).hidden = true;
  }

  // What is seen.

  paint() {
    if (this.#shape !== this.store.shape) {
      this.#shape = this.store.shape;
      const rows = new Map();
      for (const feed of this.store.feeds.values()) rows.set(feed.name, this.#rows.get(feed.name) ?? new FeedRow(feed));
      const isNew = rows.size !== this.#rows.size;
      this.#rows = rows;
      byId("feeds").replaceChildren(...[...rows.values()].flatMap(({ elements }) => elements));
      if (isNew && this.#isShown) void this.#round();
    }
    if (this.#states === this.store.states) return;
    this.#states = this.store.states;
    for (const feed of this.store.feeds.values()) this.#rows.get(feed.name)?.paint(feed.state ?? "unknown");
  }
}
