/** What a price did, second by second, for as long as a view is open. */

/** An hour. */
const MOST = 3_600;
/** Trimmed in one go, not with each second. */
const SLACK = 300;

/** @typedef {{t: number, o: number, h: number, l: number, c: number}} Bar from `t`, in seconds */

/** Bars of one second, oldest first; seconds without a price have none. */
export class Series {
  /** @type {Bar[]} */
  bars = [];
  /** @type {number[]} Seconds from which on the price was not known, until the next bar. */
  breaks = [];

  /** @param {number} ms when, since the epoch @param {number} value */
  add(ms, value) {
    const t = Math.floor(ms / 1000);
    const last = this.bars.at(-1);
    if (last && t <= last.t) {
      last.h = Math.max(last.h, value);
      last.l = Math.min(last.l, value);
      last.c = value;
      return;
    }
    this.bars.push({ t, o: value, h: value, l: value, c: value });
    if (this.bars.length > MOST + SLACK) this.bars.splice(0, SLACK);
  }

  /** Say that nobody knows the price from now on. */
  interrupt(/** @type {number} */ ms) {
    const last = this.bars.at(-1);
    if (!last || (this.breaks.at(-1) ?? -1) > last.t) return;
    this.breaks.push(Math.max(Math.floor(ms / 1000), last.t + 1));
    if (this.breaks.length > MOST) this.breaks.shift();
  }

  /** Put before it what is older. */
  prepend(/** @type {Series} */ older) {
    const first = this.bars[0]?.t ?? Infinity;
    this.bars.unshift(...older.bars.filter(({ t }) => t < first));
  }

  /**
   * Return bars of a longer interval.
   *
   * @param {number} step in seconds
   * @returns {Bar[]}
   */
  folded(step) {
    /** @type {Bar[]} */
    const folded = [];
    for (const { t, o, h, l, c } of this.bars) {
      const start = t - (t % step);
      const last = folded.at(-1);
      if (last?.t === start) {
        last.h = Math.max(last.h, h);
        last.l = Math.min(last.l, l);
        last.c = c;
      } else {
        folded.push({ t: start, o, h, l, c });
      }
    }
    return folded;
  }
}
