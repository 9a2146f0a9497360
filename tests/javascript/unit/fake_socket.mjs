/** A WebSocket that is only what a test does with it. */

export class FakeSocket {
  static all = [];

  static get last() {
    return FakeSocket.all.at(-1);
  }

  readyState = 0;
  sent = [];

  constructor(url) {
    this.url = url;
    FakeSocket.all.push(this);
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close() {
    this.readyState = 3;
    queueMicrotask(() => this.onclose?.({ code: 1005, reason: "" }));
  }

  open() {
    this.readyState = 1;
    this.onopen();
  }

  say(message) {
    this.onmessage({ data: JSON.stringify(message) });
  }

  /** The commands so far, without pings. */
  get commands() {
    return this.sent.filter(({ type }) => type !== "ping");
  }

  /** Say yes to the last command. */
  acknowledge(seq = 0) {
    const { type, channels, id } = this.commands.at(-1);
    const names = new Set(channels.map((name) => name.split(":")[0]));
    const positions = Object.fromEntries([...names].map((name) => [name, { epoch: "e", seq }]));
    this.say({ type: `${type}d`, channels, positions, id });
  }
}

/** Let everything happen that is due in this turn. */
export const turn = () => new Promise((resolve) => setImmediate(resolve));

export const price = (seq, instrument = "BTC/USDT", more = {}) => ({
  type: "price_update",
  connector_id: "prices",
  exchange: "okx",
  instrument,
  price: seq + 0.5,
  timestamp: "2026-11-20T07:56:05.562Z",
  channel: "prices",
  seq,
  ...more,
});

export const trade = (seq) => ({
  ...price(seq),
  type: "trade_executed",
  data: { id: String(seq), side: "buy", price: "1", quantity: "2", cost: "2" },
});

export const book = (seq, action, bids, asks) => ({
  ...price(seq),
  type: "orderbook_update",
  action,
  data: { bids, asks, sequence: seq },
});
