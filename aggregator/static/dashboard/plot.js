/** Charts, by uPlot: lines of several venues, or candles. */

import { colours } from "./colours.js";

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAYS = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
const DAY_S = 86_400;
/** @type {Promise<any> | null} */
let loading = null;

/** @returns {Promise<any>} uPlot, which is fetched when the first chart is wanted */
export function library() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = new URL("vendor/uPlot.iife.min.js", import.meta.url).href;
    script.onload = () => resolve(/** @type {any} */ (globalThis).uPlot);
    script.onerror = () => reject(new Error("uPlot can't be loaded"));
    document.head.append(script);
  });
  return loading;
}

/** @param {any} u @param {number[]} splits */
const times = (u, splits) => splits.map((s) => (u.scales.x.max - u.scales.x.min > DAY_S ? DAYS : CLOCK).format(s * 1000));

/** @param {any} _u @param {number[]} splits @param {number} _axis @param {number} _space @param {number} step */
function prices(_u, splits, _axis, _space, step) {
  const places = Math.min(20, Math.max(0, Math.ceil(-Math.log10(step) - 1e-9)));
  const format = new Intl.NumberFormat(undefined, { minimumFractionDigits: places, maximumFractionDigits: places });
  return splits.map((split) => format.format(split));
}

/** @param {any} u @param {string[] | null} values @returns {number} as wide as the longest number */
const widthOf = (u, values) => Math.max(64, 18 + 7.2 * Math.max(0, ...(values ?? []).map((value) => value.length)));

/** @param {any} u uPlot, whose series are time, open, high, low, close @param {number} step in seconds */
function drawCandles(u, step) {
  const { ctx } = u;
  const [t, open, high, low, close] = u.data;
  const { up, down } = colours();
  const width = Math.max(1, Math.abs(u.valToPos(step, "x", true) - u.valToPos(0, "x", true)) * 0.7);
  ctx.save();
  ctx.beginPath();
  ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
  ctx.clip();
  for (let i = 0; i < t.length; i++) {
    const x = Math.round(u.valToPos(t[i] + step / 2, "x", true));
    const [o, h, l, c] = [open[i], high[i], low[i], close[i]].map((value) => u.valToPos(value, "y", true));
    ctx.fillStyle = ctx.strokeStyle = c <= o ? up : down;
    ctx.lineWidth = Math.max(1, Math.round(devicePixelRatio));
    ctx.beginPath();
    ctx.moveTo(x, h);
    ctx.lineTo(x, l);
    ctx.stroke();
    const body = Math.max(1, Math.abs(o - c));
    ctx.fillRect(x - width / 2, Math.min(o, c), width, body);
  }
  ctx.restore();
}

/** A chart in an element, made anew where its kind, its lines or the theme change. */
export class Plot {
  /** @type {any} */
  #plot = null;
  #key = "";

  /**
   * @param {HTMLElement} host
   * @param {(index: number | null) => void} onCursor the place in the data that is pointed at
   */
  constructor(host, onCursor) {
    this.host = host;
    this.onCursor = onCursor;
    new ResizeObserver(() => this.#plot?.setSize(this.#size())).observe(host);
  }

  #size() {
    return { width: this.host.clientWidth, height: this.host.clientHeight };
  }

  /** Forget all of it. */
  clear() {
    this.#plot?.destroy();
    this.#plot = null;
    this.#key = "";
  }

  /**
   * Show data.
   *
   * @param {any} uPlot
   * @param {{label: string, colour: string}[] | number} kind lines, or the candles' length in seconds
   * @param {any[][]} data times, then the values of each line; or open, high, low, close
   * @param {[number, number]} range of time, in seconds
   */
  show(uPlot, kind, data, range) {
    const key = JSON.stringify([kind, colours()]);
    if (key !== this.#key) {
      this.clear();
      this.#key = key;
      this.#plot = new uPlot(this.#options(kind), data, this.host);
    }
    this.#plot.batch(() => {
      this.#plot.setData(data, false);
      this.#plot.setScale("x", { min: range[0], max: range[1] });
    });
  }

  /** @param {{label: string, colour: string}[] | number} kind */
  #options(kind) {
    const { muted, line } = colours();
    const grid = { stroke: line, width: 1 };
    const axis = { stroke: muted, grid, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const isLines = typeof kind !== "number";
    const lines = isLines
      ? kind.map(({ label, colour }) => ({
          label,
          stroke: colour,
          width: 1.5,
          fill: kind.length === 1 ? `${colour}22` : undefined,
          points: { show: false },
        }))
      : ["open", "high", "low", "close"].map((label) => ({ label, paths: () => null, points: { show: false } }));
    return {
      ...this.#size(),
      series: [{}, ...lines],
      legend: { show: false },
      cursor: { y: false, points: { show: isLines }, drag: { x: false, y: false } },
      scales: { x: { time: true }, y: { range: (/** @type {any} */ _u, /** @type {number} */ low, /** @type {number} */ high) => around(low, high) } },
      axes: [
        { ...axis, values: times, space: 90, size: 34 },
        { ...axis, side: 1, values: prices, size: widthOf, space: 44 },
      ],
      hooks: {
        draw: isLines ? [] : [(/** @type {any} */ u) => drawCandles(u, /** @type {number} */ (kind))],
        setCursor: [(/** @type {any} */ u) => this.onCursor(u.cursor.idx ?? null)],
      },
    };
  }
}

/** @param {number | null} low @param {number | null} high @returns {[number, number]} a range with some room */
function around(low, high) {
  if (low === null || high === null) return [0, 1];
  const room = high > low ? (high - low) * 0.08 : Math.abs(high) * 0.0005 || 1;
  return [low - room, high + room];
}
