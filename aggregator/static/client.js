/**
 * The client of the exchange aggregator, for browsers and for Node 20 or newer.
 *
 *     import { Client } from "./client.js";
 *
 *     const client = new Client("ws://127.0.0.1:8000/ws");
 *     for await (const message of client.subscribe("bitcoinprice")) {
 *       if (message.type === "price_update") console.log(message.price);
 *     }
 *
 * docs/javascript.md is its manual, docs/protocol.md says what each message means. More than 300
 * lines, since a page or a program takes it as one file, without a build step.
 *
 * @module
 */

/**
 * @typedef {object} PriceUpdate
 * @property {"price_update"} type
 * @property {string} channel
 * @property {string} connector_id
 * @property {string} exchange
 * @property {string} instrument
 * @property {number} price as near as a double comes; all digits: `digits(message, "price")`
 * @property {string} timestamp
 * @property {any} [data] the venue's own payload
 * @property {number} seq
 * @property {number | null} exchange_us
 * @property {number} received_us
 * @property {number} published_us
 * @property {number} [bid]
 * @property {number} [ask]
 * @property {number} [volume_24h]
 * @property {number} [change_24h_pct]
 * @property {number} [age_us] in a snapshot only
 * @property {boolean} [stale] in a snapshot only
 * @property {number} [conflated] how many older messages it stands for besides itself
 */
/** @typedef {[price: string, size: string]} Level */
/**
 * @typedef {object} OrderbookUpdate
 * @property {"orderbook_update"} type
 * @property {string} channel
 * @property {string} connector_id
 * @property {string} exchange
 * @property {string} instrument
 * @property {"snapshot" | "delta"} action
 * @property {{bids: Level[], asks: Level[], sequence: number | null, flag?: string}} data
 * @property {string} timestamp
 * @property {number} seq
 * @property {number | null} exchange_us
 * @property {number} received_us
 * @property {number} published_us
 * @property {number} [age_us]
 * @property {boolean} [stale]
 * @property {number} [conflated]
 */
/**
 * @typedef {object} TradeExecuted
 * @property {"trade_executed"} type
 * @property {string} channel
 * @property {string} connector_id
 * @property {string} exchange
 * @property {string} instrument
 * @property {Record<"id" | "price" | "quantity" | "cost", string> & {side: "buy" | "sell"}} data
 * @property {boolean} [backfilled]
 * @property {string} timestamp
 * @property {number} seq
 * @property {number | null} exchange_us
 * @property {number} received_us
 * @property {number} published_us
 * @property {number} [age_us]
 * @property {boolean} [stale]
 */
/**
 * @typedef {object} CandleData
 * @property {string} interval
 * @property {number} start_us
 * @property {string} open
 * @property {string} high
 * @property {string} low
 * @property {string} close
 * @property {string | null} volume
 * @property {boolean} closed
 */
/**
 * @typedef {object} Candle
 * @property {"candle"} type
 * @property {string} channel
 * @property {string} connector_id
 * @property {string} exchange
 * @property {string} instrument
 * @property {CandleData} data
 * @property {string} timestamp
 * @property {number} seq
 * @property {number | null} exchange_us
 * @property {number} received_us
 * @property {number} published_us
 * @property {number} [age_us]
 * @property {boolean} [stale]
 * @property {number} [conflated]
 */
/**
 * @typedef {object} StatusData
 * @property {string} feed
 * @property {string | null} instrument
 * @property {string} state
 * @property {number} since_us
 * @property {string} reason
 * @property {any} [detail]
 */
/**
 * @typedef {object} SystemStatus
 * @property {"system_status"} type
 * @property {"system"} channel
 * @property {StatusData} data
 * @property {string} timestamp
 * @property {number} seq
 */
/**
 * @typedef {object} Heartbeat
 * @property {"heartbeat"} type
 * @property {"ok"} status
 * @property {string} channel
 * @property {string} timestamp
 * @property {number} seq
 */
/**
 * Something that you did not get and will not get. Two reasons are found here: `client`, a message
 * that never came or could not be read; `buffer`, those for which the iteration was too slow.
 *
 * @typedef {object} Gap
 * @property {"gap"} type
 * @property {string} channel
 * @property {string | null} instrument
 * @property {number | null} from_seq
 * @property {number | null} to_seq
 * @property {"slow_consumer" | "upstream" | "history" | "client" | "buffer"} reason
 * @property {string} timestamp
 * @property {any} [data]
 * @property {number} [seq]
 */
/**
 * A refusal of the daemon's.
 *
 * @typedef {object} Refusal
 * @property {"error"} type
 * @property {string} code
 * @property {string} message
 * @property {string} [channel]
 */
/** @typedef {{type: "test_message", message: string, timestamp: string}} TestMessage to all */
/** @typedef {PriceUpdate | OrderbookUpdate | TradeExecuted | Candle} MarketData */
/** @typedef {MarketData | SystemStatus | Heartbeat | Gap | Refusal} Message of iterations */

/**
 * How the connection is doing.
 *
 * @typedef {object} State
 * @property {"connecting" | "open" | "resuming" | "waiting" | "broken" | "closed"} name
 * @property {number} since milliseconds since the epoch
 * @property {number | null} until when the next attempt is made, of `waiting` and `broken`
 * @property {string | null} reason why the last connection ended
 * @property {number | null} code its close code
 */
/** @typedef {{reason: string, text: string}} Invalid what was not taken, and why */

/**
 * @typedef {object} Events
 * @property {PriceUpdate} price_update
 * @property {OrderbookUpdate} orderbook_update
 * @property {TradeExecuted} trade_executed
 * @property {Candle} candle
 * @property {SystemStatus} system_status
 * @property {Heartbeat} heartbeat
 * @property {Gap} gap
 * @property {Refusal} error
 * @property {TestMessage} test_message
 * @property {State} state
 * @property {Invalid} invalid
 */

/**
 * @typedef {object} ClientOptions
 * @property {any} [WebSocket] the implementation, where there is no global one
 * @property {number} [connectTimeoutMs] how long a handshake may take
 * @property {number} [answerTimeoutMs] how long the answer to a command may take
 * @property {string} [token] says who you are, for your own channels
 * @property {number} [pingMs] how often a sign of life is asked for; it has to come until the next
 * @property {number} [minBackoffMs] the longest first wait; it doubles with each failure
 * @property {number} [maxBackoffMs] the longest wait
 * @property {number} [breakAfter] after so many failures in a row the circuit breaks
 * @property {number} [breakMs] then the next attempt is made after about this time
 * @property {Record<string, number>} [maxAgeMs] how old messages may be, by channel
 * @property {number} [maxAheadMs] how far ahead of the daemon's clock a message's time may be
 */

/**
 * @typedef {object} SubscribeOptions
 * @property {number} [maxHz] of each instrument the latest value, at most so often a second
 * @property {boolean} [raw] price updates with the venue's own payload, `data`
 * @property {number} [buffer] how many messages may wait for the iteration
 * @property {"drop_oldest" | "conflate"} [policy] which of them stay, where it is too slow
 */

/** @type {Required<Omit<ClientOptions, "WebSocket">>} */
const DEFAULTS = {
  connectTimeoutMs: 10_000,
  answerTimeoutMs: 10_000,
  pingMs: 10_000,
  minBackoffMs: 1_000,
  maxBackoffMs: 30_000,
  breakAfter: 10,
  breakMs: 60_000,
  maxAgeMs: {},
  maxAheadMs: 3_600_000,
  token: "",
};
/** How long `close` waits for the other side. */
const CLOSE_TIMEOUT_MS = 1_000;
/** Channels named in one command: it stays far below the daemon's limit for a frame. */
const BATCH = 100;
/** After a refusal for too many commands. */
const RETRY_MS = 1_000;
/** So long after the last message that stands for others, missing numbers are a loss. */
const SETTLE_MS = 1_000;
/** A timer that is later than this found the program busy with something else. */
const LATE_MS = 100;
/** A channel is asked for its state again at most so often. */
const REFRESH_MS = 1_000;
/** The channels that `*:BTC/USDT` does not concern. */
const DAEMONS_OWN = new Set(["system", "heartbeat"]);
/** Under this a message keeps its text, with all digits. */
const SOURCE = Symbol("source");

/** The daemon takes no subscription of these channels. */
export class Refused extends Error {
  /** @param {Refusal} refusal */
  constructor(refusal) {
    super(refusal.channel ? `${refusal.channel}: ${refusal.message}` : refusal.message);
    this.name = "Refused";
    /** The refusal's code: `unknown_channel`, ... */
    this.code = refusal.code;
    /** The refusal as it came. */
    this.refusal = refusal;
  }
}

// Numbers with all their digits.

const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\]:,]|[^\s{}[\]:,"]+/g;

/**
 * Return the JSON text of a member of an object.
 *
 * @param {string} json
 * @param {string} key
 * @returns {string | undefined}
 */
function member(json, key) {
  const wanted = JSON.stringify(key);
  let depth = 0;
  let last = "";
  let start = -1;
  for (const { 0: token, index } of json.matchAll(TOKEN)) {
    if (token === "}" || token === "]") depth -= 1;
    if (start >= 0 && (depth === 0 || (depth === 1 && token === ","))) {
      return json.slice(start, index).trim();
    }
    if (token === "{" || token === "[") depth += 1;
    if (depth === 1 && token === ":" && last === wanted && start < 0) start = index + 1;
    last = token;
  }
  return undefined;
}

/**
 * Return a number of a message with every digit that the venue sent, as text.
 *
 *     digits(message, "price"), digits(message, "data", "last")
 *
 * @param {any} message as it came from a `Client`
 * @param {...string} path where it is
 * @returns {string | undefined} undefined where there is no number, or text, at this place
 */
export function digits(message, ...path) {
  /** @type {string | undefined} */
  let json = message[SOURCE];
  for (const key of path) {
    json = json?.startsWith("{") ? member(json, key) : undefined;
  }
  if (json?.startsWith('"')) return JSON.parse(json);
  return json !== undefined && /^[-\d]/.test(json) ? json : undefined;
}

const DECIMAL = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/;

/** @param {unknown} value */
const isDecimal = (value) => typeof value === "string" && DECIMAL.test(value);

/**
 * Return a number's sign, the place of its first digit, and its digits without zeros around them.
 *
 * @param {string} text
 * @returns {{sign: number, place: number, figures: string}}
 */
function decompose(text) {
  const [, minus, whole, fraction = "", exponent = "0"] = DECIMAL.exec(text) ?? ["", "", "0"];
  const all = whole + fraction;
  const rest = all.replace(/^0+/, "");
  const place = whole.length - (all.length - rest.length) + Number(exponent);
  if (rest === "") return { sign: 0, place: 0, figures: "" };
  return { sign: minus ? -1 : 1, place, figures: rest.replace(/0+$/, "") };
}

/**
 * Compare two decimal numbers, exactly.
 *
 * @param {string} one
 * @param {string} other
 * @returns {number} negative, 0 or positive
 */
function compare(one, other) {
  // Rounding keeps the order: only numbers with the same double need a closer look.
  const difference = Number(one) - Number(other);
  if (difference < 0 || difference > 0) return difference;
  const [a, b] = [decompose(one), decompose(other)];
  if (a.sign !== b.sign) return a.sign - b.sign;
  if (a.place !== b.place) return a.sign * (a.place - b.place);
  if (a.figures === b.figures) return 0;
  return a.figures < b.figures ? -a.sign : a.sign;
}

// Order books.

/**
 * Set the size at a price in levels that are sorted.
 *
 * @param {Level[]} levels best first
 * @param {1 | -1} direction 1 where the lowest price is the best
 * @param {Level} level
 * @param {boolean} keepZero whether a size of zero is kept, as in a change
 */
function setLevel(levels, direction, level, keepZero = false) {
  let low = 0;
  let high = levels.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (direction * compare(levels[middle][0], level[0]) < 0) low = middle + 1;
    else high = middle;
  }
  const held = low < levels.length && compare(levels[low][0], level[0]) === 0 ? 1 : 0;
  const zero = decompose(level[1]).sign === 0;
  if (zero && !keepZero) levels.splice(low, held);
  else levels.splice(low, held, level);
}

/**
 * The order book of one instrument on one channel.
 *
 *     const book = new Book("okx_books", "BTC/USDT");
 *     for await (const message of client.subscribe("okx_books:BTC/USDT")) {
 *       if (book.apply(message)) console.log(book.bids[0], book.asks[0]);
 *     }
 */
export class Book {
  /** Whether it is the venue's book: from a snapshot on, until a gap. */
  known = false;
  /** @type {Level[]} The best first; not to be changed. */
  bids = [];
  /** @type {Level[]} The best first; not to be changed. */
  asks = [];
  /** @type {string | null} Of the last message that was applied. */
  timestamp = null;
  /** @type {number | null} The venue's own number of this state. */
  sequence = null;

  /**
   * @param {string} channel
   * @param {string} instrument
   */
  constructor(channel, instrument) {
    this.channel = channel;
    this.instrument = instrument;
  }

  #forget() {
    Object.assign(this, { known: false, bids: [], asks: [], timestamp: null, sequence: null });
  }

  /**
   * Apply a message; those of other books, and what is no book, are passed over.
   *
   * @param {any} message
   * @returns {boolean} whether the book has changed
   */
  apply(message) {
    if (message.channel !== this.channel) return false;
    if (message.type === "gap") {
      const concerned = message.instrument === null || message.instrument === this.instrument;
      // What a slow client misses of a book comes as a snapshot, not as a gap.
      if (!concerned || message.reason === "slow_consumer") return false;
      this.#forget();
      return true;
    }
    if (message.instrument !== this.instrument) return false;
    // A polled book is a price, the book's mid, with all of the book as its payload.
    const polled = message.type === "price_update" && Array.isArray(message.data?.bids);
    if (!polled && message.type !== "orderbook_update") return false;
    if (polled || message.action === "snapshot") {
      this.#forget();
      this.known = true;
    }
    if (!this.known) return false;
    for (const level of message.data.bids) setLevel(this.bids, -1, level);
    for (const level of message.data.asks) setLevel(this.asks, 1, level);
    this.timestamp = message.timestamp;
    this.sequence = message.data.sequence ?? message.data.lastUpdateId ?? null;
    return true;
  }
}

/**
 * Return one change of a book, or state of it, that does what two in a row do.
 *
 * @param {OrderbookUpdate} older
 * @param {OrderbookUpdate} newer
 */
function merged(older, newer) {
  const isDelta = older.action === "delta";
  /** @type {(side: "bids" | "asks", direction: 1 | -1) => Level[]} */
  const side = (side, direction) => {
    /** @type {Level[]} */
    const levels = [];
    for (const level of older.data[side]) setLevel(levels, direction, level, isDelta);
    for (const level of newer.data[side]) setLevel(levels, direction, level, isDelta);
    return levels;
  };
  const data = { ...newer.data, bids: side("bids", -1), asks: side("asks", 1) };
  return { ...newer, action: older.action, data };
}

// What is taken: the fields that a message must have.

/** @type {(value: unknown) => boolean} */
const isText = (value) => typeof value === "string" && value !== "";
/** @type {(value: unknown) => boolean} */
const isSeq = (value) => Number.isSafeInteger(value) && /** @type {number} */ (value) > 0;
/** @type {(value: unknown) => boolean} */
const isSeqOrNull = (value) => value === null || isSeq(value);
/** Of the first block of Bitcoin: no price is older. */
const BEGINNING = Date.UTC(2009, 0, 3);
/** @type {(value: unknown) => boolean} */
const isTime = (value) =>
  typeof value === "string" &&
  /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/.test(value) &&
  Date.parse(value) >= BEGINNING;
/** @type {(value: any) => boolean} */
const isPosition = (value) => isText(value?.epoch) && Number.isSafeInteger(value.seq);
/** @type {(value: any) => boolean} */
const isLevel = (value) => Array.isArray(value) && isDecimal(value[0]) && isDecimal(value[1]);
/** @type {(value: any) => boolean} */
const isSide = (value) => Array.isArray(value) && value.every(isLevel);

const NUMBERED = { seq: isSeq, timestamp: isTime };
const TRADED = { ...NUMBERED, exchange: isText, instrument: isText };
/** @type {Record<string, Record<string, (value: any) => boolean>>} */
const REQUIRED = {
  price_update: { ...TRADED, price: Number.isFinite },
  orderbook_update: {
    ...TRADED,
    action: (value) => value === "snapshot" || value === "delta",
    data: (value) => isSide(value?.bids) && isSide(value?.asks),
  },
  trade_executed: {
    ...TRADED,
    data: (value) => isDecimal(value?.price) && isDecimal(value?.quantity) && isText(value?.side),
  },
  candle: {
    ...TRADED,
    data: (value) =>
      isText(value?.interval) &&
      [value.open, value.high, value.low, value.close].every(isDecimal) &&
      typeof value.closed === "boolean",
  },
  system_status: {
    ...NUMBERED,
    data: (value) => isText(value?.feed) && isText(value?.state),
  },
  heartbeat: NUMBERED,
  gap: { timestamp: isTime, reason: isText, from_seq: isSeqOrNull, to_seq: isSeqOrNull },
};
/** What is old may be left out of these; a change of a book that is left out makes it wrong. */
const MAY_BE_TOO_OLD = new Set(["price_update", "trade_executed", "candle"]);

/**
 * Return what is wrong with a message, or null.
 *
 * @param {any} message
 * @returns {string | null}
 */
function flaw(message) {
  if (!isText(message.channel)) return "channel";
  if ("seq" in message && !isSeq(message.seq)) return "seq";
  for (const [field, isGood] of Object.entries(REQUIRED[message.type] ?? {})) {
    if (!isGood(message[field])) return field;
  }
  return null;
}

// Iteration.

const REPLACEABLE = new Set(["price_update", "candle", "orderbook_update", "system_status"]);

/**
 * Messages of some channels, to be iterated over once. It ends with `break`, `close()` or the
 * client's `close()`; it throws `Refused` where nothing of it is left that could come.
 *
 * @implements {AsyncIterableIterator<Message>}
 */
export class Subscription {
  /** @type {Map<number | string, any>} In order, under a number; or under what it replaces. */
  #waiting = new Map();
  #number = 0;
  /** How many wait under a number: those are bounded. */
  #count = 0;
  /** @type {Map<string, {gap: any, isBook: boolean}>} What was dropped, by channel. */
  #lost = new Map();
  /** @type {{resolve: (result: any) => void, reject: (error: unknown) => void}[]} */
  #readers = [];
  #isRead = false;
  #hasEnded = false;
  /** @type {Refused | null} */
  #refused = null;
  #buffer;
  #policy;
  #owner;

  /**
   * @param {string[]} channels
   * @param {{buffer: number, policy: string}} options
   * @param {{leave: (who: Subscription) => void, refresh: (channel: string) => void}} owner
   */
  constructor(channels, { buffer, policy }, owner) {
    /** @type {Set<string>} The channels as they were asked for, without those refused. */
    this.channels = new Set(channels);
    /** How many messages were dropped, since the iteration was too slow. */
    this.dropped = 0;
    this.#buffer = buffer;
    this.#policy = policy;
    this.#owner = owner;
  }

  [Symbol.asyncIterator]() {
    // Kept from here on: who listens by `Client.on` alone should not hold what nobody reads.
    this.#isRead = true;
    return this;
  }

  /** @returns {Promise<IteratorResult<Message, undefined>>} */
  next() {
    this.#isRead = true;
    const message = this.#take();
    if (message) return Promise.resolve({ value: message, done: false });
    if (this.#refused) {
      const error = this.#refused;
      this.#refused = null;
      return Promise.reject(error);
    }
    if (this.#hasEnded) return Promise.resolve({ value: undefined, done: true });
    return new Promise((resolve, reject) => this.#readers.push({ resolve, reject }));
  }

  /** @returns {Promise<IteratorResult<Message, undefined>>} */
  return() {
    this.close();
    return Promise.resolve({ value: undefined, done: true });
  }

  /** End it: what no other subscription of the client wants is unsubscribed. */
  close() {
    this.#owner.leave(this);
    this._end();
  }

  /** @internal @param {any} message */
  _offer(message) {
    if (!this.#isRead || this.#hasEnded) return;
    const reader = this.#readers.shift();
    if (reader) reader.resolve({ value: message, done: false });
    else this.#keep(message);
  }

  /** @internal @param {string} channel @param {Refusal} refusal */
  _refuse(channel, refusal) {
    this.channels.delete(channel);
    if (this.channels.size > 0) {
      this._offer(refusal);
      return;
    }
    const reader = this.#readers.shift();
    if (reader) reader.reject(new Refused(refusal));
    else this.#refused = new Refused(refusal);
    this.#finish();
  }

  /** @internal */
  _end() {
    this.#waiting.clear();
    this.#lost.clear();
    this.#finish();
  }

  #finish() {
    this.#hasEnded = true;
    for (const reader of this.#readers.splice(0)) reader.resolve({ value: undefined, done: true });
  }

  #take() {
    for (const [channel, { gap, isBook }] of this.#lost) {
      this.#lost.delete(channel);
      // Now that there is room: the book as it is, since the changes up to it are lost.
      if (isBook) this.#owner.refresh(channel);
      return gap;
    }
    for (const [key, message] of this.#waiting) {
      this.#waiting.delete(key);
      if (typeof key === "number") this.#count -= 1;
      return message;
    }
    return undefined;
  }

  /** @param {any} message */
  #keep(message) {
    if (message.type === "gap") this.#part(message.channel);
    const key = this.#policy === "conflate" ? slotOf(message) : null;
    if (key === null) {
      this.#append(message);
      return;
    }
    // Taken out and put in again: at the end, so that numbers never go back.
    const older = this.#waiting.get(key);
    this.#waiting.delete(key);
    this.#waiting.set(key, older ? folded(older, message) : message);
  }

  /** @param {any} message */
  #append(message) {
    this.#waiting.set((this.#number += 1), message);
    this.#count += 1;
    while (this.#count > this.#buffer) this.#drop();
  }

  /**
   * Let nothing that follows stand for what waits now: a gap is between.
   *
   * @param {string} channel
   */
  #part(channel) {
    if (this.#policy !== "conflate") return;
    const waiting = [...this.#waiting.entries()];
    this.#waiting.clear();
    for (const [key, message] of waiting) {
      if (typeof key === "string" && message.channel === channel) this.#append(message);
      else this.#waiting.set(key, message);
    }
  }

  /** Drop the oldest of those that keep their order. */
  #drop() {
    const keys = this.#waiting.keys();
    let key = keys.next().value;
    while (typeof key === "string") key = keys.next().value;
    const message = this.#waiting.get(/** @type {number} */ (key));
    this.#waiting.delete(/** @type {number} */ (key));
    this.#count -= 1;
    this.dropped += 1;
    const { type, channel, seq = null, from_seq = seq, to_seq = seq } = message;
    const lost = this.#lost.get(channel);
    const from = lost?.gap.from_seq ?? from_seq;
    const to = to_seq ?? lost?.gap.to_seq ?? null;
    const gap = gapOf(channel, [from, to], "buffer", "the iteration is too slow");
    this.#lost.set(channel, { gap, isBook: type === "orderbook_update" || !!lost?.isBook });
  }
}

/**
 * Return what a newer message of the same makes superfluous, or null where all are wanted.
 *
 * @param {any} message
 * @returns {string | null}
 */
function slotOf({ type, channel, instrument, data }) {
  if (!REPLACEABLE.has(type)) return null;
  const of = type === "system_status" ? [data.feed, data.instrument] : instrument;
  return JSON.stringify([type, channel, of]);
}

/**
 * Return what stands for two messages of a slot.
 *
 * @param {any} older
 * @param {any} newer
 */
function folded(older, newer) {
  const conflated = (older.conflated ?? 0) + 1 + (newer.conflated ?? 0);
  const isChange = newer.type === "orderbook_update" && newer.action === "delta";
  return { ...(isChange ? merged(older, newer) : newer), conflated };
}

/**
 * Return a gap that was found here.
 *
 * @param {string} channel
 * @param {[from_seq: number | null, to_seq: number | null]} seqs
 * @param {Gap["reason"]} reason
 * @param {string} cause
 * @returns {Gap}
 */
function gapOf(channel, [from_seq, to_seq], reason, cause) {
  const where = { channel, instrument: null, from_seq, to_seq };
  return { type: "gap", ...where, reason, timestamp: new Date().toISOString(), data: { cause } };
}

// The client.

/**
 * What is known of a channel that messages come of.
 *
 * @typedef {object} Place
 * @property {string} epoch
 * @property {number} seq the highest number so far
 * @property {number} snapshotTo up to here messages are of the snapshot, not repeated
 * @property {Map<string, number>} latest by instrument, the highest number so far
 * @property {{from: number, to: number, missing: number} | null} hole what nothing stands for yet
 * @property {boolean} isNew whether nothing has come yet that was behind the snapshot
 * @property {boolean} [isCut] whether a connection was lost before its snapshot was whole
 * @property {number} refreshedAt when its state was asked for last
 */
/** @typedef {Record<string, {epoch: string, seq: number}>} Since */
/**
 * A subscription as the daemon is to have it.
 *
 * @typedef {object} Want
 * @property {string} name
 * @property {{max_hz?: number, raw?: boolean}} terms
 * @property {Set<Subscription>} users
 * @property {Since | null} since where to go on after a lost connection
 * @property {boolean} isAgain whether somebody came meanwhile who needs the snapshot
 */
/**
 * A command without its answer yet.
 *
 * @typedef {object} Command
 * @property {number} id
 * @property {Map<string, Want | undefined>} wants what it concerns, by name
 * @property {Since} since
 */

/**
 * A connection to the daemon that comes back by itself, with what was subscribed to, and goes on
 * where it was.
 */
export class Client {
  /** Counters of what the client has met. */
  stats = { connections: 0, messages: 0, gaps: 0, duplicates: 0, invalid: 0, tooOld: 0 };
  /** Milliseconds that the daemon's clock is ahead of ours. */
  clockOffsetMs = 0;
  /** @type {State} */
  state = { name: "connecting", since: Date.now(), until: null, reason: null, code: null };

  #url;
  #options;
  #WebSocket;
  /** @type {any} */
  #socket = null;
  /** @type {number | null} When it was opened, by the monotonic clock. */
  #openedAt = null;
  /** @type {Map<string, Set<(payload: any) => void>>} */
  #listeners = new Map();
  /** @type {Map<string, Want>} What the daemon is to send, by name. */
  #wanted = new Map();
  /** @type {Map<string, Want>} What it has acknowledged on this connection. */
  #have = new Map();
  /** @type {Map<string, Place>} */
  #channels = new Map();
  /** @type {Command | null} One at a time: so none is refused for coming too soon. */
  #command = null;
  #lastId = 0;
  #failures = 0;
  #wasHeard = true;
  #pingedAt = 0;
  /** @type {Set<{id: any}>} All end with the connection, or with the wait for it. */
  #timers = new Set();
  /** @type {Map<string, {id: any}>} Of them, those that wait for holes to be accounted for. */
  #settling = new Map();

  /**
   * Connect. Without an address: to the daemon that served this file.
   *
   * @param {string | URL} [url] `ws://HOST:PORT/ws`
   * @param {ClientOptions} [options]
   */
  constructor(url, { WebSocket = globalThis.WebSocket, ...options } = {}) {
    if (!WebSocket) {
      throw new TypeError(
        "there is no WebSocket here: pass one, new Client(url, { WebSocket }), " +
          "or run Node 20 with --experimental-websocket",
      );
    }
    const unknown = Object.keys(options).filter((key) => !(key in DEFAULTS));
    if (unknown.length) throw new TypeError(`unknown option: ${unknown.join(", ")}`);
    this.#url = String(url ?? new URL("ws", import.meta.url)).replace(/^http/, "ws");
    this.#options = { ...DEFAULTS, ...options };
    this.#WebSocket = WebSocket;
    this.#connect();
  }

  /**
   * Subscribe to `channel`, `channel:INSTRUMENT` or `*:INSTRUMENT`, or to several of them.
   *
   * @param {string | string[]} channels
   * @param {SubscribeOptions} [options]
   * @returns {Subscription} to be iterated over, or not where listeners (`on`) are enough
   */
  subscribe(channels, options = {}) {
    const { maxHz, raw = true, buffer = 10_000, policy = "drop_oldest", ...rest } = options;
    if (this.state.name === "closed") throw new Error("the client is closed");
    const names = [...new Set([channels].flat())];
    if (!names.length || !names.every(isText)) throw new TypeError("a channel is a text");
    if (Object.keys(rest).length) throw new TypeError(`unknown option: ${Object.keys(rest)}`);
    if (!(buffer >= 1)) throw new RangeError("buffer is at least 1");
    if (policy !== "conflate" && policy !== "drop_oldest") {
      const why = policy === "block" ? ": a program can't make a WebSocket wait" : "";
      throw new RangeError(`policy is "drop_oldest" or "conflate"${why}`);
    }
    const subscription = new Subscription(names, { buffer, policy }, {
      leave: (who) => this.#leave(who),
      refresh: (channel) => this.#refresh(channel),
    });
    const terms = { ...(maxHz !== undefined && { max_hz: maxHz }), ...(!raw && { raw }) };
    for (const name of names) {
      const { users = [], since = null } = this.#wanted.get(name) ?? {};
      // A new object, so that it is sent again: whoever comes later needs the snapshot, too.
      const everybody = new Set([...users, subscription]);
      this.#wanted.set(name, { name, terms, users: everybody, since, isAgain: since !== null });
    }
    // Together with what else is subscribed to in this turn.
    queueMicrotask(() => this.#sync());
    return subscription;
  }

  /**
   * Call a function with every message of a type (`price_update`, `gap`, `error`, ...), with each
   * new `state`, or with what was `invalid`.
   *
   * @template {keyof Events} K
   * @param {K} type
   * @param {(payload: Events[K]) => void} listener
   * @returns {() => void} ends it
   */
  on(type, listener) {
    const listeners = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, listeners.add(listener));
    return () => void listeners.delete(listener);
  }

  /** Make the next attempt now, while `waiting` or `broken`. */
  retry() {
    if (this.state.until !== null) this.#connect();
  }

  /**
   * End everything, for good: every iteration, listener and timer. It never takes longer than a
   * second, whatever the other side does.
   *
   * @returns {Promise<void>}
   */
  async close() {
    if (this.state.name === "closed") return;
    const socket = this.#detach();
    this.#setState("closed");
    for (const { users } of this.#wanted.values()) for (const each of users) each._end();
    this.#wanted.clear();
    this.#channels.clear();
    this.#listeners.clear();
    if (socket) await ended(socket);
  }

  // The connection.

  #connect() {
    this.#stopTimers();
    // A page can set no header: the token is offered as a subprotocol, which is not answered.
    const { token } = this.#options;
    const offers = token ? [["aggregator", `bearer.${token}`]] : [];
    const socket = new this.#WebSocket(this.#url, ...offers);
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.#opened();
    socket.onmessage = (/** @type {any} */ event) => this.#received(event.data);
    socket.onerror = () => this.#lost("the connection failed");
    socket.onclose = (/** @type {any} */ { code, reason }) => this.#lost(reason || "closed", code);
    const { connectTimeoutMs } = this.#options;
    this.#unless(connectTimeoutMs, () => this.#lost("no answer to the handshake"));
    const { reason, code } = this.state;
    this.#setState("connecting", { reason, code });
  }

  #opened() {
    this.#stopTimers();
    this.#openedAt = performance.now();
    this.stats.connections += 1;
    this.#wasHeard = true;
    this.#ping();
    this.#sync();
    const isBack = [...this.#wanted.values()].some((want) => want.since);
    this.#setState(isBack ? "resuming" : "open");
  }

  #ping() {
    if (!this.#wasHeard) {
      this.#lost("no sign of life");
      return;
    }
    this.#wasHeard = false;
    this.#pingedAt = Date.now();
    this.#send({ type: "ping", id: "ping" });
    this.#unless(this.#options.pingMs, () => this.#ping());
  }

  /**
   * @param {string} reason
   * @param {number | null} [code]
   */
  #lost(reason, code = null) {
    const { minBackoffMs, maxBackoffMs, breakAfter, breakMs } = this.#options;
    for (const channel of [...this.#settling.keys()]) this.#settle(channel);
    // Where nothing came behind the snapshot yet, all of that may not have come either.
    for (const place of this.#channels.values()) place.isCut = place.isNew && place.snapshotTo > 0;
    if (this.state.name === "closed") return; // by who was told of that
    // One that held for so long was a good one, even if it was silent.
    if (performance.now() - (this.#openedAt ?? Infinity) > maxBackoffMs) this.#failures = 0;
    void ended(this.#detach());
    for (const name of this.#have.keys()) {
      const want = this.#wanted.get(name);
      if (want) want.since = this.#positions(name);
    }
    this.#have.clear();
    this.#failures += 1;
    // Full jitter: when a daemon restarts its clients do not come back all at once.
    const isBroken = this.#failures >= breakAfter;
    const longest = Math.min(maxBackoffMs, minBackoffMs * 2 ** (this.#failures - 1));
    const wait = isBroken ? breakMs * (0.5 + Math.random()) : longest * Math.random();
    const until = Math.round(Date.now() + wait);
    this.#later(wait, () => this.#connect());
    this.#setState(isBroken ? "broken" : "waiting", { until, reason, code });
  }

  /** Let go of the socket; return it. */
  #detach() {
    const socket = this.#socket;
    this.#socket = null;
    this.#openedAt = null;
    this.#command = null;
    this.#stopTimers();
    return socket;
  }

  /**
   * The last thing that anybody does: listeners may close the client, or let it try again.
   *
   * @param {State["name"]} name
   * @param {Partial<State>} [more]
   */
  #setState(name, more) {
    const state = { name, since: Date.now(), until: null, reason: null, code: null, ...more };
    this.state = Object.freeze(state);
    this.#emit("state", this.state);
  }

  /**
   * @param {number} ms
   * @param {() => void} action
   */
  #later(ms, action) {
    /** @type {{id: any}} */
    const timer = { id: null };
    timer.id = setTimeout(() => {
      this.#timers.delete(timer);
      action();
    }, ms);
    this.#timers.add(timer);
    return timer;
  }

  /**
   * Do something if it has not become needless by then. A program that was busy for so long itself
   * reads first what has come meanwhile.
   *
   * @param {number} ms
   * @param {() => void} action
   */
  #unless(ms, action) {
    const due = performance.now() + ms;
    const timer = this.#later(ms, () => {
      if (performance.now() < due + LATE_MS) {
        action();
        return;
      }
      timer.id = setTimeout(() => {
        this.#timers.delete(timer);
        action();
      }, LATE_MS);
      this.#timers.add(timer);
    });
    return timer;
  }

  /** @param {{id: any} | undefined} timer */
  #stop(timer) {
    if (!timer) return;
    clearTimeout(timer.id);
    this.#timers.delete(timer);
  }

  #stopTimers() {
    for (const { id } of this.#timers) clearTimeout(id);
    this.#timers.clear();
    this.#settling.clear();
  }

  // Commands: what the daemon has is brought to what is wanted, one command after the other.

  /** @param {object} command */
  #send(command) {
    this.#socket.send(JSON.stringify(command));
  }

  #sync() {
    if (this.#openedAt === null || this.#command) return;
    const gone = [...this.#have.keys()].filter((name) => !this.#wanted.has(name)).slice(0, BATCH);
    if (gone.length) {
      const wants = new Map(gone.map((name) => [name, undefined]));
      this.#ask({ type: "unsubscribe", channels: gone }, wants);
      return;
    }
    const missing = [...this.#wanted.values()].filter((want) => this.#have.get(want.name) !== want);
    if (!missing.length) {
      if (this.state.name === "resuming") this.#setState("open");
      return;
    }
    // What has the same terms goes into one command.
    const kind = (/** @type {Want} */ { terms, since }) => JSON.stringify([terms, since === null]);
    const batch = missing.filter((want) => kind(want) === kind(missing[0])).slice(0, BATCH);
    const channels = batch.map((want) => want.name);
    const since = earliest(batch.map((want) => want.since ?? {}));
    const resume = Object.keys(since).length ? { since } : {};
    const wants = new Map(batch.map((want) => [want.name, want]));
    this.#ask({ type: "subscribe", channels, ...batch[0].terms, ...resume }, wants, since);
  }

  /**
   * @param {object} command
   * @param {Map<string, Want | undefined>} wants
   * @param {Since} [since]
   */
  #ask(command, wants, since = {}) {
    this.#lastId += 1;
    const asked = { id: this.#lastId, wants, since };
    this.#command = asked;
    this.#send({ ...command, id: asked.id });
    this.#unless(this.#options.answerTimeoutMs, () => {
      if (this.#command === asked) this.#lost("no answer to a command");
    });
  }

  /** @param {any} answer */
  #answered(answer) {
    const command = this.#command;
    if (!command || answer.id !== command.id) return;
    for (const name of answer.channels) {
      const want = command.wants.get(name);
      if (want) {
        want.since = null;
        this.#have.set(name, want.isAgain ? { ...want } : want);
        want.isAgain = false;
      } else {
        this.#have.delete(name);
      }
    }
    for (const [channel, position] of Object.entries(answer.positions ?? {})) {
      if (!isPosition(position)) continue;
      this.#begin(channel, position, command.since[channel], answer.recovered?.[channel]);
    }
    this.#settled(command, answer.channels);
  }

  /**
   * Go on with the next command when all of this one is answered.
   *
   * @param {Command} command
   * @param {string[]} names those that are
   */
  #settled(command, names) {
    for (const name of names) command.wants.delete(name);
    if (command.wants.size) return; // their refusals follow
    this.#command = null;
    this.#sync();
  }

  /** @param {any} refusal */
  #refused(refusal) {
    const command = this.#command;
    const isOurs = command !== null && refusal.id === command.id;
    if (refusal.code === "rate_limited") {
      // Several that came together are refused together, without their numbers.
      if (isOurs || (command && "dropped" in refusal)) {
        this.#later(RETRY_MS, () => {
          this.#command = null;
          this.#sync();
        });
      }
      return;
    }
    this.#emit("error", refusal);
    const all = isOurs ? [...command.wants.keys()] : [];
    const names = "channel" in refusal ? [refusal.channel] : all;
    for (const name of names) this.#refuse(name, refusal);
    if (isOurs) this.#settled(command, names);
  }

  /**
   * @param {string} name
   * @param {Refusal} refusal
   */
  #refuse(name, refusal) {
    const want = this.#wanted.get(name);
    this.#wanted.delete(name);
    this.#have.delete(name);
    for (const each of want?.users ?? []) each._refuse(name, refusal);
  }

  /** @param {Subscription} who */
  #leave(who) {
    for (const [name, { users }] of this.#wanted) {
      if (users.delete(who) && !users.size) this.#wanted.delete(name);
    }
    for (const channel of [...this.#channels.keys()]) {
      if (!this.#touching(channel).length) this.#channels.delete(channel);
    }
    queueMicrotask(() => this.#sync());
  }

  /**
   * Ask for the present state of a channel, by subscribing again.
   *
   * @param {string} channel
   */
  #refresh(channel) {
    const place = this.#channels.get(channel);
    if (!place || this.#openedAt === null) return;
    const wait = place.refreshedAt + REFRESH_MS - performance.now();
    place.refreshedAt = Math.max(performance.now(), place.refreshedAt + REFRESH_MS);
    if (wait > REFRESH_MS) return; // one is on its way
    this.#later(Math.max(0, wait), () => {
      // Something else than what is wanted, so that it is sent again.
      for (const want of this.#touching(channel)) this.#have.set(want.name, { ...want });
      this.#sync();
    });
  }

  // Messages.

  /** @param {unknown} text */
  #received(text) {
    this.#wasHeard = true;
    let message;
    try {
      message = JSON.parse(/** @type {string} */ (text));
    } catch {
      this.#invalid("it is no JSON", text);
      return;
    }
    switch (message?.type) {
      case undefined:
        this.#invalid("it is no message", text);
        break;
      case "pong":
        // Answers are behind the snapshots that were asked for before.
        for (const place of this.#channels.values()) place.isNew = false;
        if (isTime(message.timestamp)) {
          this.clockOffsetMs = Date.parse(message.timestamp) - (this.#pingedAt + Date.now()) / 2;
        }
        break;
      case "subscribed":
      case "unsubscribed":
        if (Array.isArray(message.channels)) this.#answered(message);
        else this.#invalid(`${message.type}: channels is missing or wrong`, text);
        break;
      case "error":
        this.#refused(message);
        break;
      default:
        message[SOURCE] = text;
        if ("channel" in message) this.#published(message, text);
        else this.#emit(message.type, message);
    }
  }

  /**
   * @param {any} message
   * @param {unknown} text
   */
  #published(message, text) {
    const place = this.#channels.get(message.channel);
    const age = Date.now() + this.clockOffsetMs - Date.parse(message.timestamp);
    const wrong = flaw(message) ?? (age < -this.#options.maxAheadMs ? "timestamp" : null);
    if (wrong !== null) {
      this.#invalid(`${message.type}: ${wrong} is missing or wrong`, text);
      if (place) this.#unreadable(place, message);
      return;
    }
    if (!place) return; // not wanted any more
    this.stats.messages += 1;
    if (!this.#isNews(place, message)) return;
    const limit = this.#options.maxAgeMs[message.channel];
    if (age > limit && MAY_BE_TOO_OLD.has(message.type)) {
      this.stats.tooOld += 1;
      this.#emit("invalid", { reason: `it is ${Math.round(age)} ms old`, text });
      return;
    }
    this.#deliver(message);
  }

  /**
   * @param {string} reason
   * @param {unknown} text
   */
  #invalid(reason, text) {
    this.stats.invalid += 1;
    this.#emit("invalid", { reason, text: String(text) });
  }

  /**
   * What can't be read is a loss like one on the way.
   *
   * @param {Place} place
   * @param {any} message
   */
  #unreadable(place, message) {
    const seq = isSeq(message.seq) ? message.seq : null;
    if (seq !== null) this.#advance(place, message.channel, seq, seq, 0);
    this.#deliver(gapOf(message.channel, [seq, seq], "client", "a message that can't be read"));
    if (message.type === "orderbook_update") this.#refresh(message.channel);
  }

  /** @param {any} message */
  #deliver(message) {
    const { type, channel, instrument } = message;
    const isForAll = type === "gap" && (instrument ?? null) === null;
    const wants = isForAll
      ? this.#touching(channel)
      : [channel, `${channel}:${instrument}`, `*:${instrument}`].map((n) => this.#wanted.get(n));
    /** @type {Set<Subscription>} */
    const users = new Set(wants.flatMap((want) => [...(want?.users ?? [])]));
    if (!users.size) return;
    if (type === "gap") this.stats.gaps += 1;
    for (const user of users) user._offer(message);
    this.#emit(type, message);
  }

  /**
   * @param {string} type
   * @param {any} payload
   */
  #emit(type, payload) {
    for (const listener of [...(this.#listeners.get(type) ?? [])]) {
      try {
        listener(payload);
      } catch (error) {
        // The listener's fault, and said as such; the others go on.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }

  // Numbers.

  /**
   * Return the subscriptions that concern a channel.
   *
   * @param {string} channel
   */
  #touching(channel) {
    return [...this.#wanted.values()].filter(({ name }) => {
      const [of] = name.split(":");
      return of === channel || (of === "*" && !DAEMONS_OWN.has(channel));
    });
  }

  /**
   * Return how far the channels of a subscription have come.
   *
   * @param {string} name
   * @returns {Since}
   */
  #positions(name) {
    const [wanted] = name.split(":");
    /** @type {Since} */
    const positions = {};
    for (const [channel, { epoch, seq, isCut }] of this.#channels) {
      const isConcerned = wanted === "*" ? !DAEMONS_OWN.has(channel) : channel === wanted;
      if (isConcerned && !isCut) positions[channel] = { epoch, seq };
    }
    return positions;
  }

  /**
   * Go on from an acknowledgement.
   *
   * @param {string} channel
   * @param {any} position
   * @param {{epoch: string, seq: number} | undefined} since what was asked for
   * @param {boolean | undefined} isRecovered
   */
  #begin(channel, { epoch, seq }, since, isRecovered) {
    const old = this.#channels.get(channel);
    this.#stop(this.#settling.get(channel));
    this.#settling.delete(channel);
    const asked = since ?? (old?.isCut ? old : undefined);
    if (isRecovered && old) {
      // What was missed follows, with the next numbers.
      old.snapshotTo = 0;
      return;
    }
    const latest = old && old.epoch === epoch ? old.latest : new Map();
    const refreshedAt = old?.refreshedAt ?? -Infinity;
    const place = { epoch, seq, snapshotTo: seq, latest, hole: null, refreshedAt, isNew: true };
    this.#channels.set(channel, place);
    if (!asked || isRecovered !== undefined) return; // else the daemon says itself what is lost
    const isSame = asked.epoch === epoch;
    const first = isSame ? asked.seq + 1 : 1;
    if (isSame && first > seq) return;
    // Of the run before nobody can say any more what was lost of it.
    const lost = first > seq ? [null, null] : [first, seq];
    const cause = "cut off before there was anything to go on from";
    this.#deliver(gapOf(channel, lost, "client", cause));
  }

  /**
   * Keep account of the numbers; return whether a message has not been here yet.
   *
   * @param {Place} place
   * @param {any} message
   */
  #isNews(place, message) {
    const { channel, seq, conflated = 0, type, from_seq, to_seq } = message;
    if (seq === undefined) {
      if (type === "gap" && from_seq !== null) this.#advance(place, channel, from_seq, to_seq, 0);
      return true;
    }
    const key = message.instrument ?? "";
    const latest = place.latest.get(key) ?? 0;
    place.latest.set(key, Math.max(latest, seq));
    if ("age_us" in message || seq <= place.snapshotTo) {
      this.#advance(place, channel, seq, place.seq, conflated);
      return true;
    }
    if (seq <= latest) {
      this.stats.duplicates += 1;
      return false;
    }
    place.snapshotTo = 0;
    place.isNew = false;
    this.#failures = 0; // only what is new shows that all of the way works
    this.#advance(place, channel, seq, seq, conflated);
    return true;
  }

  /**
   * Take the numbers `from` to `to` for accounted for, and those that a message stands for.
   *
   * Messages that stand for others come in the order of the newest, so what is missing now may be
   * accounted for by a later one: only what nothing stands for in the end is a loss.
   *
   * @param {Place} place
   * @param {string} channel
   * @param {number} from
   * @param {number} to
   * @param {number} conflated
   */
  #advance(place, channel, from, to, conflated) {
    const terms = this.#wanted.get(channel)?.terms;
    const isWhole = terms !== undefined && terms.max_hz === undefined;
    const missing = isWhole ? Math.max(0, from - place.seq - 1) : 0;
    if (missing) {
      place.hole ??= { from: place.seq + 1, to: 0, missing: 0 };
      place.hole.to = from - 1;
      place.hole.missing += missing;
    }
    place.seq = Math.max(place.seq, to);
    if (!place.hole || !(missing || conflated)) return;
    place.hole.missing -= conflated;
    this.#stop(this.#settling.get(channel));
    this.#settling.delete(channel);
    if (place.hole.missing <= 0) place.hole = null;
    else this.#settling.set(channel, this.#unless(SETTLE_MS, () => this.#settle(channel)));
  }

  /**
   * Say that what is still missing is lost, and ask for the present state.
   *
   * @param {string} channel
   */
  #settle(channel) {
    this.#settling.delete(channel);
    const place = this.#channels.get(channel);
    if (!place?.hole) return;
    const { from, to, missing } = place.hole;
    place.hole = null;
    const what = missing === 1 ? "1 number is" : `${missing} numbers are`;
    this.#deliver(gapOf(channel, [from, to], "client", `${what} missing`));
    this.#refresh(channel);
  }
}

/**
 * Return the earliest of several places to go on from: what comes twice then is left out here.
 *
 * @param {Since[]} all
 * @returns {Since}
 */
function earliest(all) {
  /** @type {Since} */
  const found = {};
  for (const [channel, place] of all.flatMap(Object.entries)) {
    if (!(found[channel]?.seq <= place.seq)) found[channel] = place;
  }
  return found;
}

/**
 * Close a socket, and wait until it is closed, but not for long.
 *
 * @param {any} socket
 * @returns {Promise<void>}
 */
function ended(socket) {
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      // Where there is such a thing: a page can only leave it to the browser.
      socket.terminate?.();
      resolve();
    }, CLOSE_TIMEOUT_MS);
    socket.onopen = () => socket.close();
    socket.onmessage = null;
    socket.onerror = () => {};
    socket.onclose = () => {
      clearTimeout(timer);
      resolve();
    };
    if (socket.readyState === 3) socket.onclose();
    else socket.close(1000);
  });
}
