/** How the connection is doing, always in sight; and the token where one is wanted. */

import { byId, dress, mark, say } from "./dom.js";
import * as format from "./format.js";
import { ask, onFrame } from "./frame.js";
import { tokenIn } from "./source.js";

/** A gap is told in the head for so long; the status has it for longer. */
const TOLD_MS = 20_000;
/** Of a daemon that wants to know everybody: no good token. */
const UNAUTHORIZED = 4001;
const IS_LOST = new Set(["waiting", "broken", "closed"]);

/** The chips in the head. */
export class Connection {
  #gap = { messages: 0, unknown: 0, until: 0 };
  #announced = "";

  /**
   * @param {import("./source.js").Source} source
   * @param {import("./store.js").Store} store
   * @param {() => Promise<void>} refresh asks the daemon which channels there are
   */
  constructor(source, store, refresh) {
    this.source = source;
    this.store = store;
    this.refresh = refresh;
    this.wantsToken = false;
    this.wasAway = false;
    source.on("state", (state) => this.#changed(state));
    source.on("gap", (gap) => this.#lost(gap));
    byId("retry").addEventListener("click", () => (this.wantsToken ? byId("token-dialog").showModal() : source.client?.retry()));
    byId("token-form").addEventListener("submit", (/** @type {Event} */ event) => this.#submit(event));
    byId("token-forget").addEventListener("click", () => this.#take(""));
    onFrame((now) => this.#paint(now));
  }

  #changed(/** @type {any} */ state) {
    if (IS_LOST.has(state.name)) this.wasAway = true;
    // Who is not let in learns the reason over HTTP alone.
    if (state.name === "waiting" || state.code === UNAUTHORIZED) void this.refresh();
    if (state.name === "open" && this.wasAway) {
      this.wasAway = false;
      void this.refresh();
    }
    ask();
  }

  #lost(/** @type {any} */ { from_seq: from, to_seq: to }) {
    if (Date.now() > this.#gap.until) this.#gap = { messages: 0, unknown: 0, until: 0 };
    if (from === null || to === null) this.#gap.unknown += 1;
    else this.#gap.messages += to - from + 1;
    this.#gap.until = Date.now() + TOLD_MS;
    ask();
  }

  // The token.

  /** Say that nothing comes without a token. */
  refused(/** @type {string} */ text) {
    this.wantsToken = true;
    this.source.leave();
    say(byId("token-said"), text);
    const dialog = byId("token-dialog");
    if (!dialog.open) dialog.showModal();
    ask();
  }

  #submit(/** @type {Event} */ event) {
    event.preventDefault();
    const field = byId("token");
    const token = tokenIn(field.value);
    field.value = "";
    // Others can't be offered to a socket.
    if (/^[!#$%&'*+.^`|~\w-]+$/.test(token)) this.#take(token);
    else say(byId("token-said"), "A token has no spaces, and letters, digits and dots alone.");
  }

  #take(/** @type {string} */ token) {
    this.source.keep("reader", token);
    byId("token-dialog").close();
    this.wantsToken = false;
    this.source.connect();
    void this.refresh();
  }

  // What is seen.

  /** @param {number} now @returns {[kind: string, text: string]} */
  #state(now) {
    const { client } = this.source;
    if (this.wantsToken || !client) return ["lost", "Token needed"];
    const { name, until } = client.state;
    const left = until === null ? "" : format.duration(until - now + 999);
    switch (name) {
      case "open":
        return ["open", "Connected"];
      case "resuming":
        return ["resuming", "Resuming"];
      case "waiting":
        return ["lost", `Connection lost, again in ${left}`];
      case "broken":
        return ["lost", `No connection, again in ${left}`];
      case "closed":
        return ["lost", "Closed"];
      default:
        return [this.wasAway ? "lost" : "connecting", "Connecting"];
    }
  }

  /** @param {number} now */
  #paint(now) {
    const [kind, text] = this.#state(now);
    mark(document.body, "data-connection", kind);
    dress(byId("connection"), `chip ${kind}`);
    say(byId("connection-text"), text);
    byId("retry").hidden = !this.wantsToken && !text.includes("again");
    say(byId("retry"), this.wantsToken ? "Give a token" : "Retry now");
    const { messages, unknown, until } = this.#gap;
    const gap = byId("gap");
    gap.hidden = now > until;
    const parts = [messages ? `gap of ${format.count(messages)} messages` : "", unknown ? `${unknown} gaps at a venue` : ""];
    say(gap, parts.filter(Boolean).join(", ").replace(/^g/, "G"));
    const feeds = [...this.store.feeds.values()];
    const bad = feeds.filter(({ state }) => state !== "live" && state !== "limited" && state !== null);
    const stale = byId("stale");
    stale.hidden = bad.length === 0 || kind !== "open";
    say(stale, `${bad.length} of ${feeds.length} feeds not live`);
    // Once for each change, without the seconds: a screen reader says it.
    const announced = text.replace(/, again.*/, "") + (stale.hidden ? "" : `; ${stale.textContent}`);
    if (announced !== this.#announced) say(byId("announcer"), announced);
    this.#announced = announced;
  }
}
