/** One instrument at all its venues: who is cheapest, who is dearest, how far apart. */

import { byId, dress, headsOf, make, mark, say, sayPrice } from "./dom.js";
import * as format from "./format.js";

const COLUMNS = ["price", "apart", "bid", "ask", "width", "change", "volume", "age"];
const REDRAW_MS = 150;

/** A venue's row. */
class VenueRow {
  /** @param {import("./quotes.js").Cell} cell */
  constructor(cell) {
    this.cell = cell;
    this.name = make("th", { scope: "row" }, [cell.venue]);
    const heads = headsOf("compare");
    this.cells = Object.fromEntries(COLUMNS.map((name, i) => [name, make(`td.${name}`, { "data-head": heads[i + 1] })]));
    this.element = make("tr", {}, [this.name, ...Object.values(this.cells)]);
  }

  /** @param {number} now @param {number} lowest @param {{bid: number, ask: number}} best */
  paint(now, lowest, best) {
    const { cell, cells } = this;
    const quote = cell.primary;
    const stale = quote?.stale ?? null;
    dress(this.element, stale === null ? (quote?.isLate ? "late" : "") : "stale");
    mark(this.element, "title", stale);
    sayPrice(cells.price, format.price(quote?.text("price"), quote?.places));
    const apart = quote && stale === null ? (quote.value / lowest - 1) * 10_000 : NaN;
    say(cells.apart, Number.isNaN(apart) ? format.NOTHING : apart === 0 ? "lowest" : `+${format.points(apart)}`);
    const sides = cell.having("bid");
    const [bid, ask] = [sides?.text("bid"), sides?.text("ask")];
    const [bidText, askText] = bid && ask ? format.alike(bid, ask) : [format.NOTHING, format.NOTHING];
    say(cells.bid, bidText);
    say(cells.ask, askText);
    dress(cells.bid, Number(bid) === best.bid ? "bid best" : "bid");
    dress(cells.ask, Number(ask) === best.ask ? "ask best" : "ask");
    const width = bid && ask ? ((Number(ask) - Number(bid)) / ((Number(ask) + Number(bid)) / 2)) * 10_000 : NaN;
    say(cells.width, Number.isNaN(width) ? format.NOTHING : format.points(width));
    const change = cell.having("change_24h_pct")?.message.change_24h_pct;
    say(cells.change, change === undefined ? format.NOTHING : format.change(change));
    const volume = cell.having("volume_24h")?.text("volume_24h");
    say(cells.volume, volume === undefined ? format.NOTHING : format.brief(Number(volume)));
    say(cells.age, quote ? format.duration(now - quote.at) : format.NOTHING);
  }
}

/** The table. */
export class Compare {
  /** @type {import("./quotes.js").Row | null} */
  #row = null;
  /** @type {VenueRow[]} */
  #venues = [];
  #drawnAt = -Infinity;

  /** Show an instrument, or with null none. */
  open(/** @type {import("./quotes.js").Row | null} */ row) {
    this.#row = row;
    this.#venues = [...(row?.cells.values() ?? [])].map((cell) => new VenueRow(cell));
    byId("compare").replaceChildren(...this.#venues.map(({ element }) => element));
    this.#drawnAt = -Infinity;
  }

  /** @param {number} now by the daemon's clock */
  paint(now) {
    const row = this.#row;
    const at = performance.now();
    if (!row || at - this.#drawnAt < REDRAW_MS) return;
    this.#drawnAt = at;
    if (row.cells.size !== this.#venues.length) this.open(row);
    const spread = row.spread();
    const present = this.#venues.map(({ cell }) => cell.primary).filter((quote) => quote?.stale === null);
    const lowest = Math.min(...present.map((quote) => /** @type {any} */ (quote).value));
    const of = (/** @type {"bid" | "ask"} */ side) =>
      this.#venues.map(({ cell }) => Number(cell.having(side)?.text(side) ?? NaN)).filter((value) => !Number.isNaN(value));
    const best = { bid: Math.max(...of("bid")), ask: Math.min(...of("ask")) };
    for (const venue of this.#venues) venue.paint(now, lowest, best);
    const apart = spread ? `${spread.low.venue} is lowest, ${spread.high.venue} highest: ${format.points(spread.bps)} bp apart.` : "";
    const crossed = best.bid > best.ask ? ` The best bid is ${format.points((best.bid / best.ask - 1) * 10_000)} bp above the best ask.` : "";
    const late = spread?.skew ? ` These prices are ${format.duration(spread.skew)} apart in time: not both can be had.` : "";
    say(byId("compare-said"), apart ? apart + crossed + late : "One venue with a present price: nothing to compare.");
  }
}
