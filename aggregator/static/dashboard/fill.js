/** The small charts at the start: samples of what the daemon has kept of its channels. */

import { ask } from "./frame.js";
import { place } from "./source.js";

/** Places in a channel's history that are looked at, evenly apart. */
const LOOKS = 20;
/** Messages that are read of a channel in all, about. */
const MOST = 6_000;
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
