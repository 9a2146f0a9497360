/** What `GET /metrics` says, and what has become of it since the last time. */

const LINE = /^(\w+)(?:\{(.*)\})? (\S+)$/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** @param {string} text @returns {Map<string, {labels: Record<string, string>, value: number}[]>} by name */
export function parse(text) {
  const found = new Map();
  for (const line of text.split("\n")) {
    const match = LINE.exec(line);
    if (!match) continue;
    const labels = Object.fromEntries([...(match[2] ?? "").matchAll(LABEL)].map((each) => [each[1], each[2]]));
    const all = found.get(match[1]) ?? [];
    all.push({ labels, value: Number(match[3]) });
    found.set(match[1], all);
  }
  return found;
}

/** What grew for a shorter time says nothing of a second. */
const LEAST_MS = 1_000;
/** What was read longer ago says nothing of the present. */
const MOST_MS = 15_000;
const STARTED = "process_start_time_seconds";

/** The rate of a counter over its last readings. */
export class Pace {
  /** @type {{count: number, run: string, at: number}[]} Oldest first. */
  #read = [];

  /** @param {number} leastMs for a shorter time there is none @param {number} mostMs older readings do not count */
  constructor(leastMs, mostMs) {
    this.leastMs = leastMs;
    this.mostMs = mostMs;
  }

  /** @param {number} count @param {string} run of the daemon: of another the count begins anew @param {number} at in milliseconds, monotonic */
  take(count, run, at) {
    this.#read = [...this.#read.filter((each) => each.run === run && at - each.at <= this.mostMs), { count, run, at }];
  }

  /** @returns {number | undefined} per second */
  get rate() {
    const [first, last] = [this.#read[0], this.#read[this.#read.length - 1]];
    if (!first || last.at - first.at < this.leastMs) return undefined;
    return ((last.count - first.count) / (last.at - first.at)) * 1000;
  }
}

/** Values, and their rates between two readings. */
export class Readings {
  /** @type {{at: number, sums: Map<string, number>} | null} */
  #last = null;
  /** @type {{at: number, sums: Map<string, number>} | null} */
  #now = null;

  /** @param {string} text @param {number} at in milliseconds, monotonic */
  take(text, at) {
    const sums = new Map();
    for (const [name, all] of parse(text)) sums.set(name, all.reduce((sum, { value }) => sum + value, 0));
    const before = this.#now;
    const isOther = !before || at - before.at > MOST_MS || before.sums.get(STARTED) !== sums.get(STARTED);
    if (isOther) this.#last = null;
    // Two readings right after each other are one.
    else if (!this.#last || before.at - this.#last.at >= LEAST_MS) this.#last = before;
    this.#now = { at, sums };
  }

  /** @param {string} name @returns {number | undefined} the sum over all labels */
  value(name) {
    return this.#now?.sums.get(name);
  }

  /** @param {string} name @returns {number | undefined} per second */
  rate(name) {
    const grown = this.grown(name);
    if (grown === undefined || !this.#now || !this.#last) return undefined;
    return grown / ((this.#now.at - this.#last.at) / 1000);
  }

  /** @param {string} name @returns {number | undefined} since the reading before; after too short a time nothing */
  grown(name) {
    const [now, before] = [this.#now?.sums.get(name), this.#last?.sums.get(name)];
    if (now === undefined || before === undefined) return undefined;
    return /** @type {any} */ (this.#now).at - /** @type {any} */ (this.#last).at < LEAST_MS ? undefined : now - before;
  }
}
