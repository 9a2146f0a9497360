/** A row of the market's table: elements that are used again for another instrument. */

import { colours } from "./colours.js";
import { dress, make, mark, say, sayPrice } from "./dom.js";
import * as format from "./format.js";

/** So long a price is marked that has changed. */
const FLASH_MS = 350;
/** The small chart is drawn at most so often. */
const SPARK_MS = 1_000;
/** From here on the venues are remarkably far apart, in basis points. */
const WIDE_BPS = 10;
const SPARK_PX = { width: 96, height: 30 };

let number = 0;

/** @param {ReturnType<import("./quotes.js").Row["spread"]>} spread @returns {boolean} whether both prices could be had */
const isWide = (spread) => spread !== null && spread.bps >= WIDE_BPS && spread.skew === null;

/** A cell of a venue. */
class VenueCell {
  #flash = 0;

  /** @param {string} venue */
  constructor(venue) {
    this.venue = venue;
    this.price = make("span.price");
    this.change = make("span.change");
    this.age = make("span.age");
    this.sides = make("span.sides");
    this.volume = make("span.volume");
    this.why = make("span.why");
    const parts = [this.price, this.change, this.age, this.sides, this.volume, this.why];
    this.element = make("div.cell.venue", { role: "gridcell", "data-venue": venue }, parts);
  }

  /**
   * @param {any} cell
   * @param {number} now
   * @param {ReturnType<import("./quotes.js").Row["spread"]>} spread
   */
  paint(cell, now, spread) {
    const quote = cell?.primary;
    if (!quote) {
      sayPrice(this.price, cell ? [format.NOTHING, ""] : ["", ""]);
      for (const each of [this.change, this.age, this.sides, this.volume, this.why]) say(each, "");
      dress(this.element, cell ? "cell venue" : "cell venue absent");
      mark(this.element, "title", cell ? "no price yet" : null);
      return;
    }
    const { stale } = quote;
    const text = quote.text("price");
    sayPrice(this.price, format.price(text, quote.places));
    const change = stale === null ? cell.having("change_24h_pct")?.message.change_24h_pct : undefined;
    say(this.change, change === undefined ? "" : format.change(change));
    dress(this.change, change === undefined ? "change" : `change ${change < 0 ? "down" : change > 0 ? "up" : ""}`);
    say(this.age, format.duration(now - quote.at));
    const sides = cell.having("bid");
    const [bid, ask_] = [sides?.text("bid"), sides?.text("ask")];
    say(this.sides, stale === null && bid && ask_ ? format.alike(bid, ask_).join(" / ") : "");
    const volume = cell.having("volume_24h")?.text("volume_24h");
    say(this.volume, stale !== null || volume === undefined ? "" : format.brief(Number(volume)));
    say(this.why, stale ?? "");
    let name = "cell venue";
    if (stale !== null) name += " stale";
    else if (quote.isLate) name += " late";
    if (isWide(spread)) name += cell === spread?.low ? " lowest" : cell === spread?.high ? " highest" : "";
    if (stale === null && performance.now() - cell.changedAt < FLASH_MS) {
      name += cell.direction > 0 ? " rose" : " fell";
      clearTimeout(this.#flash);
      this.#flash = setTimeout(() => this.element.classList.remove("rose", "fell"), FLASH_MS);
    }
    dress(this.element, name);
    mark(this.element, "title", stale);
  }
}

/** A row. */
export class MarketRow {
  /** @type {import("./quotes.js").Row | null} */
  row = null;
  index = -1;
  #height = 0;
  #version = -1;
  #drawnAt = -Infinity;

  /** @param {string[]} venues */
  constructor(venues) {
    this.link = make("a", { tabindex: "-1" });
    this.canvas = make("canvas", { "aria-hidden": "true" });
    this.canvas.width = SPARK_PX.width * devicePixelRatio;
    this.canvas.height = SPARK_PX.height * devicePixelRatio;
    this.spread = make("div.cell.spread", { role: "gridcell" });
    this.cells = venues.map((venue) => new VenueCell(venue));
    this.element = make("div.row", { role: "row", id: `row-${(number += 1)}` }, [
      make("div.cell.name", { role: "rowheader" }, [this.link]),
      make("div.cell.spark", { role: "gridcell" }, [this.canvas]),
      this.spread,
      ...this.cells.map(({ element }) => element),
    ]);
    this.element.hidden = true;
    this.element.addEventListener("click", () => this.link.click());
    this.link.addEventListener("click", (/** @type {Event} */ event) => event.stopPropagation());
  }

  /** Stand for another instrument, or for none. */
  at(/** @type {import("./quotes.js").Row | undefined} */ row, /** @type {number} */ index, /** @type {number} */ height) {
    if (this.index !== index || this.#height !== height) {
      this.index = index;
      this.#height = height;
      this.element.style.transform = `translateY(${index * height}px)`;
      mark(this.element, "aria-rowindex", String(index + 2));
    }
    if (this.row === (row ?? null)) return;
    this.row = row ?? null;
    this.element.hidden = !row;
    this.#version = -1;
    this.#drawnAt = -Infinity;
    if (!row) return;
    say(this.link, row.instrument);
    mark(this.link, "title", row.instrument);
    this.link.href = `#${encodeURI(row.instrument)}`;
  }

  /** @param {number} now by the daemon's clock @param {boolean} isAll whether more than its own has changed */
  paint(now, isAll) {
    const row = /** @type {import("./quotes.js").Row} */ (this.row);
    if (!isAll && this.#version === row.version) return;
    this.#version = row.version;
    const spread = row.spread();
    say(this.spread, spread ? format.points(spread.bps) : format.NOTHING);
    dress(this.spread, isWide(spread) ? "cell spread wide" : "cell spread");
    mark(this.spread, "title", spread?.skew ? `${spread.low.venue} and ${spread.high.venue}: ${format.duration(spread.skew)} apart in time, not both can be had` : null);
    for (const each of this.cells) each.paint(row.cells.get(each.venue), now, spread);
    const at = performance.now();
    if (at - this.#drawnAt < SPARK_MS) return;
    this.#drawnAt = at;
    row.spark.draw(this.canvas, now, colours().accent);
  }
}
