/** What operators may do from here: say something to every client. */

import { byId, make, say } from "./dom.js";
import * as format from "./format.js";
import { toast } from "./toast.js";

const MOST = 20;

/** The form, and what has arrived. */
export class Ops {
  /** @type {Map<string, number>} When they were sent, by text. */
  #sent = new Map();

  /** @param {import("./source.js").Source} source */
  constructor(source) {
    this.source = source;
    byId("broadcast").addEventListener("submit", (/** @type {Event} */ event) => void this.#send(event));
    source.on("test_message", (message) => this.#arrived(message));
  }

  async #send(/** @type {Event} */ event) {
    event.preventDefault();
    const field = byId("broadcast-text");
    const button = byId("broadcast-send");
    const token = byId("ops-token").value.trim();
    this.source.keep("operator", token);
    const text = field.value;
    this.#sent.set(text, performance.now());
    button.disabled = true;
    try {
      const { clients } = await this.source.post("ws/test", { message: text });
      this.#result("good", `Sent to ${format.count(clients)} ${clients === 1 ? "client" : "clients"}.`);
      field.value = "";
    } catch (error) {
      this.#sent.delete(text);
      this.#result("bad", `Not sent: ${/** @type {Error} */ (error).message}`);
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
