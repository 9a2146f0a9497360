/**
 * A client that does what a test says, and reports what it meets: in Node (remote_node.mjs) and in
 * a page (remote_page.mjs) the same.
 */

export class Remote {
  #library;
  #report;
  #sockets = [];
  #subscriptions = new Map();

  constructor(library, report) {
    this.#library = library;
    this.#report = report;
  }

  /** Do what is ordered: `{"do": "subscribe", ...}`. */
  async do({ do: what, ...order }) {
    await this[what](order);
  }

  connect({ url, options }) {
    const sockets = this.#sockets;
    class WebSocket extends globalThis.WebSocket {
      constructor(...args) {
        super(...args);
        sockets.push(this);
      }
    }
    this.client = new this.#library.Client(url, { WebSocket, ...options });
    for (const type of ["error", "test_message", "invalid"]) {
      this.client.on(type, (payload) => this.#report({ event: type, ...payload }));
    }
    this.client.on("state", (state) => this.#report({ event: "state", ...state }));
    this.#report({ event: "state", ...this.client.state });
  }

  /** Subscribe, and report what the iteration gives; with `book`, the book after each message. */
  async subscribe({ name, channels, options, book }) {
    const { Book, digits } = this.#library;
    const subscription = this.client.subscribe(channels, options);
    this.#subscriptions.set(name, subscription);
    const kept = book && new Book(...book);
    try {
      for await (const message of subscription) {
        kept?.apply(message);
        const { known, bids, asks } = kept ?? {};
        const report = { event: "message", of: name, message, digits: digits(message, "price") };
        this.#report({ ...report, ...(book && { book: { known, bids, asks } }) });
      }
      this.#report({ event: "done", of: name });
    } catch (error) {
      this.#report({ event: "thrown", of: name, name: error.name, code: error.code });
    }
  }

  listen({ type }) {
    this.client.on(type, (message) => this.#report({ event: "heard", message }));
  }

  end({ name }) {
    this.#subscriptions.get(name).close();
  }

  /** Lose the connection. */
  drop() {
    this.#sockets.at(-1).close();
  }

  retry() {
    this.client.retry();
  }

  address() {
    this.#report({ event: "address", url: this.#sockets.at(-1).url });
  }

  stats() {
    this.#report({ event: "stats", ...this.client.stats });
  }

  async close() {
    const start = performance.now();
    await this.client.close();
    this.#report({ event: "closed", took: performance.now() - start });
  }
}
