/** The small charts at the start: samples of what the daemon has kept of its channels. */

import { ask } from "./frame.js";
import { BAD } from "./quotes.js";
import { place } from "./source.js";

/** Places in a channel's history that are looked at, evenly apart. */
const LOOKS = 20;
/** Messages that are read of a channel in all, about. */
const MOST = 6_000;
/** A feed that had stopped for a shorter time is not seen to have: the samples are farther apart. */
const SHORT_MS = 5_000;
/** Of one look, whatever the number of instruments. */
const [LEAST_EACH, MOST_EACH] = [50, 1_000];

/**
 * Read them, one channel after the other; what can't be had begins with what comes.
 *
 * @param {import("./source.js").Source} source
 * @param {import("./store.js").Store} store
 */
export async function fill(source, store) {
  for (const feed of [...store.feeds.values()]) {
    if (feed.kind !== "price") continue;
    await sample(source, store, feed).catch(() => {});
    ask();
  }
  await breaks(source, store).catch(() => {});
  ask();
}

/**
 * Feeds that had stopped: what stands on both sides of that is not joined.
 *
 * @param {import("./source.js").Source} source
 * @param {import("./store.js").Store} store
 */
async function breaks(source, store) {
  const { messages } = await source.get(`history/system?limit=${MOST_EACH}`);
  /** @type {Map<any, number>} Since when, by feed. */
  const stopped = new Map();
  for (const { data } of messages) {
    const feed = store.feeds.get(data?.feed);
    if (!feed || data.instrument !== null) continue;
    const [from, at] = [stopped.get(feed), data.since_us / 1000];
    if (BAD.has(data.state)) {
      stopped.set(feed, from ?? at);
    } else if (from !== undefined) {
      stopped.delete(feed);
      if (at - from >= SHORT_MS) store.interrupt(from, feed);
    }
  }
  for (const [feed, from] of stopped) store.interrupt(from, feed);
}

/**
 * @param {import("./source.js").Source} source
 * @param {import("./store.js").Store} store
 * @param {import("./quotes.js").Feed} feed
 */
async function sample(source, store, { name, instruments }) {
  const path = `history/${place(name)}`;
  const { seq, epoch, first_seq: first } = await source.get(`${path}?limit=1`);
  if (first === null) return;
  const kept = seq - first + 1;
  // Twice as many as there are instruments: most of them are among it.
  const each = Math.min(MOST_EACH, Math.max(LEAST_EACH, 2 * instruments.size));
  const looks = Math.max(1, Math.min(LOOKS, Math.floor(MOST / each), Math.ceil(kept / each)));
  const step = looks > 1 ? Math.max(0, kept - each) / (looks - 1) : 0;
  for (let look = 0; look < looks; look++) {
    const since = first - 1 + Math.floor(look * step);
    const { messages } = await source.get(`${path}?since_seq=${since}&epoch=${epoch}&limit=${each}`);
    for (const message of messages) store.older(message);
  }
}
