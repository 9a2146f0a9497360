/** Numbers and times as the reader writes them; no digit of a venue's number is lost. */

/** @type {Map<number, Intl.NumberFormat>} By the number of decimals. */
const exact = new Map();
const compact = new Intl.NumberFormat(undefined, { notation: "compact", maximumSignificantDigits: 4 });
const percent = new Intl.NumberFormat(undefined, {
  style: "percent",
  minimumFractionDigits: 2,
  maximumFractionDigits: 2,
  signDisplay: "exceptZero",
});
const tenths = new Intl.NumberFormat(undefined, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const hundredths = new Intl.NumberFormat(undefined, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const whole = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const precise = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
  fractionalSecondDigits: 3,
});

/** What stands where there is nothing. */
export const NOTHING = "–";
/** The most decimals that a browser writes. */
const MOST = 100;
const MINUTE = 60;
const HOUR = 3600;
const DAY = 86_400;

/** @param {string} text @returns {string} without an exponent */
function plain(text) {
  const [, sign, whole_, fraction = "", exponent] = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(text) ?? [];
  if (exponent === undefined) return text;
  const point = whole_.length + Number(exponent);
  if (!(Math.abs(point) < 100)) return text;
  const shifted = ("0".repeat(Math.max(0, 1 - point)) + whole_ + fraction).padEnd(Math.max(point, 1), "0");
  const at = Math.max(point, 1);
  return sign + shifted.slice(0, at) + (shifted.length > at ? `.${shifted.slice(at)}` : "");
}

/** @param {string} text @returns {number} how many decimals a number is written with */
export const decimals = (text) => plain(text).split(".")[1]?.length ?? 0;

/** @param {string} text a decimal number @param {number} count of decimals: at least as many as are not zero */
export function written(text, count) {
  const places = Math.min(count, MOST);
  let formatter = exact.get(places);
  if (!formatter) {
    const options = { minimumFractionDigits: places, maximumFractionDigits: places };
    formatter = new Intl.NumberFormat(undefined, options);
    exact.set(places, formatter);
  }
  // As text: a number would lose what is beyond some 15 digits.
  return formatter.format(/** @type {any} */ (plain(text)));
}

/** @param {string} text @returns {string} in the reader's locale, with exactly its digits */
export const number = (text) => written(text, decimals(text));

/**
 * Return a price, and apart from it the zeros that end its decimals; two decimals are never apart.
 *
 * @param {string | undefined} text
 * @param {number} [places] decimals, at least; so that numbers below each other are aligned
 * @returns {[string, string]}
 */
export function price(text, places = 0) {
  if (text === undefined) return [NOTHING, ""];
  const all = written(text, Math.max(places, decimals(text)));
  const spare = Math.max(places, decimals(text)) - (plain(text).split(".")[1] ?? "").replace(/0+$/, "").length;
  const apart = Math.max(0, Math.min(spare, Math.max(places, decimals(text)) - 2));
  return apart ? [all.slice(0, -apart), all.slice(-apart)] : [all, ""];
}

/** @param {string} text @returns {number} decimals up to the last that is not zero, two at least */
export const needed = (text) => Math.max(Math.min(2, decimals(text)), (plain(text).split(".")[1] ?? "").replace(/0+$/, "").length);

/** @param {string[]} texts @returns {string[]} with as many decimals as the longest of them needs */
export function alike(...texts) {
  const count = Math.max(...texts.map(needed));
  return texts.map((text) => written(text, count));
}

/** @param {number} value in per cent */
export const change = (value) => percent.format(value / 100);

/** @param {number} value @returns {string} short: 1.6K */
export const brief = (value) => compact.format(value);

/** @param {number} value @returns {string} in basis points */
export const points = (value) => (Math.abs(value) < 1 ? hundredths : tenths).format(value);

/** @param {number} value @returns {string} without decimals */
export const count = (value) => whole.format(value);

/** @param {number} value @returns {string} per second, short */
export const rate = (value) => (value < 1 ? hundredths.format(value) : value < 100 ? tenths.format(value) : whole.format(value));

/** @param {number} ms @returns {string} how long */
export function duration(ms) {
  const s = Math.max(0, ms) / 1000;
  if (s < MINUTE) return `${Math.floor(s)} s`;
  if (s < HOUR) return `${Math.floor(s / MINUTE)} min`;
  if (s < 2 * DAY) return `${Math.floor(s / HOUR)} h`;
  return `${Math.floor(s / DAY)} d`;
}

/** @param {number} seconds @returns {string} a short time: 1.2 ms, 340 ms, 2.1 s */
export function latency(seconds) {
  if (seconds >= 10) return duration(seconds * 1000);
  if (seconds >= 1) return `${tenths.format(seconds)} s`;
  const ms = seconds * 1000;
  return `${ms < 10 ? tenths.format(ms) : whole.format(ms)} ms`;
}

/** @param {number} ms since the epoch */
export const time = (ms) => clock.format(ms);

/** @param {number} ms since the epoch @returns {string} to the millisecond, without the hour */
export const fine = (ms) => precise.format(ms);
