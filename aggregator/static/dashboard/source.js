/** The way to the daemon: its socket, which comes back by itself, and its answers over HTTP. */

import { Client } from "../client.js";

/** So often the daemon is asked for a sign of life; a cut cable is noticed after twice as long. */
const PING_MS = 5_000;
/** So long an order waits for its answer. */
const PATIENCE_MS = 10_000;
const KEYS = { reader: "token", operator: "ops_token" };

/** An answer that is none: `status`, and what the daemon says. */
export class Unanswered extends Error {
  /** @param {number} status @param {string} text */
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

/** A connection to the daemon, and what this page wants of it. */
export class Source {
  /** @type {Client | null} */
  client = null;
  /** @type {[string, (payload: any) => void][]} */
  #listeners = [];
  /** @type {Map<string, {subscription: any, terms: string}>} By name. */
  #have = new Map();
  /** @type {Map<string, object>} */
  #wanted = new Map();

  /** @param {"reader" | "operator"} role @returns {string} of this tab alone; in no address */
  token(role) {
    return sessionStorage.getItem(KEYS[role]) ?? "";
  }

  /** @param {"reader" | "operator"} role @param {string} token */
  keep(role, token) {
    if (token) sessionStorage.setItem(KEYS[role], token);
    else sessionStorage.removeItem(KEYS[role]);
  }

  /** Listen, on this connection and on those that replace it. */
  on(/** @type {string} */ type, /** @type {(payload: any) => void} */ listener) {
    this.#listeners.push([type, listener]);
    this.client?.on(/** @type {any} */ (type), listener);
  }

  /** Connect, with the token that was given; what was wanted is wanted again. */
  connect() {
    void this.client?.close();
    this.#have.clear();
    this.client = new Client(undefined, { token: this.token("reader"), pingMs: PING_MS });
    for (const [type, listener] of this.#listeners) this.client.on(/** @type {any} */ (type), listener);
    this.want(this.#wanted);
  }

  /** Have nothing to do with the daemon, until `connect`. */
  leave() {
    void this.client?.close();
    this.client = null;
    this.#have.clear();
  }

  /** @returns {number} the daemon's clock, in milliseconds since the epoch */
  now() {
    return Date.now() + (this.client?.clockOffsetMs ?? 0);
  }

  /** @param {Map<string, object>} wanted the terms, by subscription; all others end */
  want(wanted) {
    this.#wanted = wanted;
    if (!this.client || this.client.state.name === "closed") return;
    for (const [name, terms] of wanted) {
      const text = JSON.stringify(terms);
      const held = this.#have.get(name);
      if (held?.terms === text) continue;
      const subscription = this.client.subscribe(name, terms);
      held?.subscription.close();
      this.#have.set(name, { subscription, terms: text });
    }
    for (const [name, { subscription }] of this.#have) {
      if (wanted.has(name)) continue;
      subscription.close();
      this.#have.delete(name);
    }
  }

  /** Let go of a subscription that the daemon has refused. */
  refused(/** @type {string} */ name) {
    this.#have.delete(name);
    this.#wanted.delete(name);
  }

  /**
   * Ask for something over HTTP.
   *
   * @param {string} path
   * @param {"json" | "text"} [kind]
   * @returns {Promise<any>}
   */
  async get(path, kind = "json") {
    return await this.#answer(await fetch(path, { headers: bearer(this.token("reader")) }), kind);
  }

  /** Send something as an operator; raise what `fetch` does, and TimeoutError where no answer comes. */
  async post(/** @type {string} */ path, /** @type {object} */ content) {
    const headers = {
      ...bearer(this.token("operator") || this.token("reader")),
      "Content-Type": "application/json",
    };
    const body = JSON.stringify(content);
    const signal = AbortSignal.timeout(PATIENCE_MS);
    return await this.#answer(await fetch(path, { method: "POST", headers, body, signal }), "json");
  }

  /** @param {Response} response @param {"json" | "text"} kind */
  async #answer(response, kind) {
    if (response.ok) return await response[kind]();
    const said = await response.json().catch(() => ({}));
    throw new Unanswered(response.status, said.message ?? `HTTP ${response.status}`);
  }
}

/** @param {string} text what was pasted @returns {string} the token in it: what stands before it in a header often comes along */
export const tokenIn = (text) => text.trim().replace(/^bearer\s+/i, "");

/** @param {string} token @returns {Record<string, string>} */
const bearer = (token) => (token ? { Authorization: `Bearer ${token}` } : {});

/** @param {string} channel @param {string} [instrument] as they stand in a path */
export const place = (channel, instrument) =>
  [channel, ...(instrument ? instrument.split("/") : [])].map(encodeURIComponent).join("/");
