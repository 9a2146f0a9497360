/** The last minutes of a price, in few points. */

const STEP_MS = 5_000;
const POINTS = 60;

/** Five minutes, a point for each five seconds: the last price in them. */
export class Spark {
  #values = new Float64Array(POINTS).fill(NaN);
  /** The number of the newest step, since the epoch. */
  #newest = 0;

  /** @param {number} ms when, since the epoch @param {number} value */
  add(ms, value) {
    const step = Math.floor(ms / STEP_MS);
    if (step <= this.#newest - POINTS) return;
    this.#forward(step);
    this.#values[step % POINTS] = value;
  }

  /** Add what is older than all that came so far, without overwriting it. */
  fill(/** @type {number} */ ms, /** @type {number} */ value) {
    const step = Math.floor(ms / STEP_MS);
    if (step <= this.#newest - POINTS) return;
    if (step > this.#newest) this.#forward(step);
    if (step < this.#newest || Number.isNaN(this.#values[step % POINTS])) this.#values[step % POINTS] = value;
  }

  /** @param {number} step */
  #forward(step) {
    if (step - this.#newest >= POINTS) this.#values.fill(NaN);
    else for (let each = this.#newest + 1; each <= step; each++) this.#values[each % POINTS] = NaN;
    this.#newest = Math.max(step, this.#newest);
  }

  /**
   * Draw it.
   *
   * @param {HTMLCanvasElement} canvas
   * @param {number} now in milliseconds since the epoch
   * @param {string} colour
   */
  draw(canvas, now, colour) {
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    const { width, height } = canvas;
    context.clearRect(0, 0, width, height);
    this.#forward(Math.floor(now / STEP_MS));
    let [low, high] = [Infinity, -Infinity];
    for (const value of this.#values) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
    if (low === Infinity) return;
    const pad = 2 * devicePixelRatio;
    const scale = high > low ? (height - 2 * pad) / (high - low) : 0;
    context.beginPath();
    let [x, y] = [0, 0];
    let isFirst = true;
    for (let i = 0; i < POINTS; i++) {
      const value = this.#values[(this.#newest + 1 + i) % POINTS];
      if (Number.isNaN(value)) continue;
      x = pad + (i / (POINTS - 1)) * (width - 2 * pad);
      y = scale ? height - pad - (value - low) * scale : height / 2;
      if (isFirst) context.moveTo(x, y);
      else context.lineTo(x, y);
      isFirst = false;
    }
    context.strokeStyle = context.fillStyle = colour;
    context.lineWidth = 1.25 * devicePixelRatio;
    context.lineJoin = "round";
    context.stroke();
    context.fillRect(x - pad / 2, y - pad / 2, pad, pad);
  }
}
