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
    this.#last = this.#now;
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

  /** @param {string} name @returns {number | undefined} since the reading before; of a new run nothing */
  grown(name) {
    const [now, before] = [this.#now?.sums.get(name), this.#last?.sums.get(name)];
    return now === undefined || before === undefined || now < before ? undefined : now - before;
  }
}
