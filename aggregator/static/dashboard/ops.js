/** What operators may do from here: say something to every client. */

import { byId, make, say } from "./dom.js";
import * as format from "./format.js";
import { tokenIn, Unanswered } from "./source.js";
import { toast } from "./toast.js";

const MOST = 20;
/** Characters of a message: it has to be read on a phone as well. */
const LONGEST = 2_000;
/** All that a browser puts into a header. */
const SENDABLE = /^[\x20-\x7e\xa0-\xff]*$/;

/** @param {unknown} error @param {boolean} hasToken @returns {string} why it was not sent, in words */
function reason(error, hasToken) {
  if (error instanceof DOMException && error.name === "TimeoutError") return "No answer from the daemon in 10 s: it may have been sent or not.";
  if (!(error instanceof Unanswered)) return "Not sent: the daemon can't be reached.";
  const { status, message } = error;
  switch (status) {
    case 401:
      return hasToken ? "Not sent: the token is not that of an operator, or is wrong." : "Not sent: a token of operators is needed.";
    case 403:
      return `Not sent: not allowed, ${message}.`;
    case 413:
      return "Not sent: the message is too long for the daemon.";
    case 429:
      return "Not sent: too many wrong tokens came from here. Wait a minute.";
    default:
      return `Not sent: ${message}.`;
  }
}

/** The form, and what has arrived. */
export class Ops {
  /** @type {Map<string, number>} When they were sent, by text. */
  #sent = new Map();

  /** @param {import("./source.js").Source} source */
  constructor(source) {
    this.source = source;
    byId("ops-token").value = source.token("operator");
    byId("broadcast").addEventListener("submit", (/** @type {Event} */ event) => void this.#send(event));
    source.on("test_message", (message) => this.#arrived(message));
  }

  async #send(/** @type {Event} */ event) {
    event.preventDefault();
    const field = byId("broadcast-text");
    const button = byId("broadcast-send");
    const token = tokenIn(byId("ops-token").value);
    const text = field.value;
    if (text.length > LONGEST) {
      this.#result("bad", `Not sent: ${format.count(text.length)} characters, at most ${format.count(LONGEST)} can be.`);
      return;
    }
    if (!SENDABLE.test(token)) {
      this.#result("bad", "Not sent: the token has characters that a browser can't send.");
      return;
    }
    this.source.keep("operator", token);
    this.#result("", "Sending");
    this.#sent.set(text, performance.now());
    button.disabled = true;
    try {
      const { clients } = await this.source.post("ws/test", { message: text });
      this.#result("good", `Sent to ${format.count(clients)} ${clients === 1 ? "client" : "clients"}.`);
      field.value = "";
    } catch (error) {
      this.#sent.delete(text);
      this.#result("bad", reason(error, (token || this.source.token("reader")) !== ""));
    } finally {
      button.disabled = false;
    }
  }

  #result(/** @type {string} */ kind, /** @type {string} */ text) {
    const result = byId("broadcast-result");
    result.className = `result ${kind}`;
    say(result, text);
  }

  #arrived(/** @type {any} */ { message, timestamp }) {
    toast("Message from the operator", message);
    const sent = this.#sent.get(message);
    this.#sent.delete(message);
    const took = sent === undefined ? "" : format.latency((performance.now() - sent) / 1000);
    const cells = [format.time(Date.parse(timestamp)), message, took && `back after ${took}`];
    const row = make("tr", {}, cells.map((text) => make("td", {}, [text])));
    const list = byId("broadcasts");
    list.prepend(row);
    while (list.children.length > MOST) list.lastElementChild.remove();
    byId("broadcasts-empty").hidden = true;
  }
}
