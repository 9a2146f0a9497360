/** The page: what is shown, what is wanted for it, and the ways between. */

import { choose } from "./colours.js";
import { Connection } from "./connection.js";
import { byId, mark } from "./dom.js";
import { fill } from "./fill.js";
import { ask, onFrame } from "./frame.js";
import { Instrument } from "./instrument.js";
import { Market } from "./market.js";
import { Ops } from "./ops.js";
import { Source, Unanswered } from "./source.js";
import { Status } from "./status.js";
import { Store } from "./store.js";

const MARKET = ["price_update", "orderbook_update", "trade_executed", "candle"];
/** Whole books are many messages: of each the best prices, so often a second. */
const BOOK_HZ = 1;
/** The small charts are filled when the first prices have long been painted. */
const FILL_AFTER_MS = 1_000;
/** Where the answer could not be had, though there is a connection. */
const AGAIN_MS = 3_000;
const TITLE = document.title;

const store = new Store();
const source = new Source();
const now = () => source.now();
const market = new Market(store, now);
const instrument = new Instrument(source, store);
const status = new Status(source, store);
const connection = new Connection(source, store, refresh);
new Ops(source);

// What is wanted.

/** The terms of each subscription, as the view wants it. */
function wants() {
  /** @type {Map<string, object>} */
  const wanted = new Map([["system", {}]]);
  for (const { name, kind } of store.feeds.values()) {
    // Of the instrument that is open all of its book comes; with it, one rate for the channel.
    if (kind === "book" && instrument.name !== null) continue;
    wanted.set(name, kind === "book" ? { raw: false, maxHz: BOOK_HZ } : { raw: false });
  }
  for (const [name, terms] of instrument.wants()) wanted.set(name, terms);
  return wanted;
}

let isAsking = false;
let isFilled = false;

/** Ask which channels there are, and want them. */
async function refresh() {
  if (isAsking) return;
  isAsking = true;
  try {
    const { channels } = await source.get("channels");
    store.channels(channels, now());
    source.want(wants());
    ask();
    if (!isFilled) setTimeout(() => void fill(source, store), FILL_AFTER_MS);
    isFilled = true;
  } catch (error) {
    if (error instanceof Unanswered && error.status === 401) connection.refused(error.message);
    // A daemon that is away is the connection's to tell; it asks again when there is one.
    else if (source.client?.state.name === "open") setTimeout(() => void refresh(), AGAIN_MS);
  } finally {
    isAsking = false;
  }
}

// What comes.

let hasData = false;
for (const type of MARKET) {
  source.on(type, (message) => {
    store.market(message, now());
    if (!hasData) requestAnimationFrame(() => performance.mark("data"));
    hasData = true;
    ask();
  });
}
source.on("state", ({ name }) => {
  if (name !== "open" && name !== "resuming") store.interrupt(now());
});
source.on("gap", (gap) => {
  store.gap(gap);
  ask();
});
/** Feeds that the daemon names and does not list, as an engine may say something of its own. */
const strangers = new Set();
source.on("system_status", ({ data }) => {
  if (store.status(data, now())) {
    strangers.delete(data.feed);
  } else if (!strangers.has(data.feed)) {
    // It may be new: the configuration is another one then.
    strangers.add(data.feed);
    void refresh();
  }
  ask();
});
source.on("error", ({ channel }) => {
  if (channel === undefined) return;
  source.refused(channel);
  void refresh();
});

// What is shown.

const views = ["market", "instrument", "status", "ops"];
let view = "";

/** @returns {[view: string, instrument: string | null]} what the address names */
function route() {
  let name = location.hash.slice(1);
  try {
    name = decodeURIComponent(name);
  } catch {
    // A lone per cent sign: as it is.
  }
  if (name === "") return ["market", null];
  return name === "status" || name === "ops" ? [name, null] : ["instrument", name];
}

function show() {
  const [next, name] = route();
  const isOther = next !== view;
  view = next;
  for (const each of views) byId(each).hidden = each !== view;
  for (const link of document.querySelectorAll("nav a")) {
    mark(link, "aria-current", link.getAttribute("data-view") === view ? "page" : null);
  }
  instrument.open(name);
  status.show(view === "status");
  source.want(wants());
  document.title = name ? `${name} · ${TITLE}` : TITLE;
  // Who uses a screen reader hears where they are; the first view is no change.
  if (isOther && document.readyState === "complete") byId(`${view}-title`).focus({ preventScroll: true });
  ask();
}

let shape = store.shape;
onFrame((wall) => {
  if (shape !== store.shape) {
    shape = store.shape;
    source.want(wants());
  }
  if (view === "market") market.paint(wall);
  if (view === "instrument" && instrument.paint(now())) source.want(wants());
  if (view === "status") status.paint();
});

addEventListener("hashchange", show);
addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key === "k") {
    event.preventDefault();
    if (view !== "market") {
      history.pushState(null, "", "#");
      show();
    }
    byId("filter").focus();
  } else if (event.key === "Escape" && !(/** @type {Element} */ (event.target).closest("input, textarea, select, dialog"))) {
    location.hash = "";
  }
});

// Its address would be that of an instrument.
byId("skip").addEventListener("click", (/** @type {Event} */ event) => {
  event.preventDefault();
  byId("main").focus();
});

const theme = byId("theme");
theme.value = document.documentElement.dataset.theme ?? "auto";
theme.addEventListener("change", () => choose(theme.value));

source.connect();
void refresh();
show();
