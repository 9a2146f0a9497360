/** The last minutes of a price, in few points. */

const STEP_MS = 5_000;
const POINTS = 60;
/** Stands where the price is not known to have stayed: no line goes over it. */
const BREAK = Infinity;

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

  /** Say that nobody knows the price from then on, until the next comes. */
  interrupt(/** @type {number} */ ms) {
    let step = Math.floor(ms / STEP_MS);
    if (step <= this.#newest - POINTS) return;
    this.#forward(step);
    // What was known in this step is shown; the next is broken, if nothing comes in it.
    if (Number.isFinite(this.#values[step % POINTS])) this.#forward((step += 1));
    if (Number.isNaN(this.#values[step % POINTS])) this.#values[step % POINTS] = BREAK;
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
      if (value === BREAK) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
    if (low === Infinity) return;
    const pad = 2 * devicePixelRatio;
    const scale = high > low ? (height - 2 * pad) / (high - low) : 0;
    context.beginPath();
    let [x, y] = [0, 0];
    let isJoined = false;
    for (let i = 0; i < POINTS; i++) {
      const value = this.#values[(this.#newest + 1 + i) % POINTS];
      if (value === BREAK) isJoined = false;
      if (!Number.isFinite(value)) continue;
      x = pad + (i / (POINTS - 1)) * (width - 2 * pad);
      y = scale ? height - pad - (value - low) * scale : height / 2;
      if (!isJoined) context.moveTo(x, y);
      // Where it began as well: a price between two breaks is a dot.
      context.lineTo(x, y);
      isJoined = true;
    }
    context.strokeStyle = context.fillStyle = colour;
    context.lineWidth = 1.25 * devicePixelRatio;
    context.lineJoin = context.lineCap = "round";
    context.stroke();
    context.fillRect(x - pad / 2, y - pad / 2, pad, pad);
  }
}
