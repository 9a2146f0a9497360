import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { Book, Client, digits } from "../../../aggregator/static/client.js";
import { FakeSocket, book, price, trade, turn } from "./fake_socket.mjs";

let client;

afterEach(() => client.close());

/** Subscribe, and let these messages come before anybody takes one. */
async function waiting(options, ...messages) {
  client = new Client("ws://x/ws", { WebSocket: FakeSocket });
  FakeSocket.last.open();
  const iterator = client.subscribe("prices", options)[Symbol.asyncIterator]();
  await turn();
  FakeSocket.last.acknowledge();
  for (const message of messages) FakeSocket.last.say(message);
  return iterator;
}

async function taken(iterator, count) {
  const found = [];
  while (found.length < count) found.push((await iterator.next()).value);
  return found;
}

test("all that is in the buffer comes, in order", async () => {
  const iterator = await waiting({}, price(1), price(2), trade(3));
  assert.deepEqual((await taken(iterator, 3)).map(({ seq }) => seq), [1, 2, 3]);
});

test("beyond the buffer the oldest go, and one gap of the channel says which", async () => {
  const iterator = await waiting({ buffer: 2 }, price(1), price(2), price(3), price(4));
  const [gap, ...rest] = await taken(iterator, 3);
  assert.deepEqual([gap.from_seq, gap.to_seq, gap.reason], [1, 2, "buffer"]);
  assert.deepEqual(rest.map(({ seq }) => seq), [3, 4]);
  assert.equal(iterator.dropped, 2);
});

test("where changes of a book were dropped the book is asked for", async () => {
  const changes = [2, 3, 4].map((seq) => book(seq, "delta", [], []));
  const iterator = await waiting({ buffer: 2 }, book(1, "snapshot", [], []), ...changes);
  const [gap] = await taken(iterator, 1);
  assert.equal(gap.type, "gap");
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(FakeSocket.last.commands.map(({ type }) => type), ["subscribe", "subscribe"]);
});

test("conflating, the newest of each instrument stays and says how many it is", async () => {
  const messages = [price(1), price(2, "A/B"), price(3), price(4, "BTC/USDT", { conflated: 2 })];
  const iterator = await waiting({ policy: "conflate", buffer: 1 }, ...messages);
  const found = await taken(iterator, 2);
  assert.deepEqual(found.map(({ seq, conflated }) => [seq, conflated]), [[2, undefined], [4, 4]]);
  assert.equal(digits(found[1], "price"), "4.5");
});

test("conflating, trades are all kept up to the buffer", async () => {
  const messages = [trade(1), price(2), trade(3), price(4), trade(5)];
  const iterator = await waiting({ policy: "conflate", buffer: 2 }, ...messages);
  const found = await taken(iterator, 4);
  assert.deepEqual(found.map(({ seq, type }) => seq ?? type), ["gap", 3, 4, 5]);
});

test("conflating, changes of a book become one that does the same", async () => {
  const messages = [
    book(1, "snapshot", [["1.0", "1"], ["0.9", "1"]], []),
    book(2, "delta", [["1", "0"], ["1.1", "5"]], []),
    book(3, "delta", [["0.90", "2"]], [["2", "1"]]),
  ];
  const iterator = await waiting({ policy: "conflate" }, ...messages);
  const [state] = await taken(iterator, 1);
  assert.deepEqual([state.action, state.conflated, state.seq], ["snapshot", 2, 3]);
  assert.deepEqual(state.data.bids, [["1.1", "5"], ["0.90", "2"]]);
  assert.deepEqual(state.data.asks, [["2", "1"]]);
  for (const [n, size] of [[4, "0"], [5, "7"], [6, "0.0"]]) {
    FakeSocket.last.say(book(n, "delta", [["1.1", size]], []));
  }
  const [change] = await taken(iterator, 1);
  assert.equal(change.action, "delta");
  const kept = new Book("prices", "BTC/USDT");
  kept.apply(state);
  kept.apply(change);
  assert.deepEqual(kept.bids, [["0.90", "2"]]);
});

test("conflating, nothing is folded across a gap", async () => {
  const gap = { type: "gap", channel: "prices", instrument: null, from_seq: null, to_seq: null };
  const lost = { ...gap, reason: "upstream", seq: 2, timestamp: "2026-11-20T07:56:05.562Z" };
  const [state, change] = [book(1, "snapshot", [], []), book(3, "delta", [], [])];
  const iterator = await waiting({ policy: "conflate" }, state, lost, change);
  const found = await taken(iterator, 3);
  assert.deepEqual(found.map(({ type, action }) => action ?? type), ["snapshot", "gap", "delta"]);
});

test("conflating, each feed and instrument has its own state", async () => {
  const status = (seq, feed, instrument) => ({
    ...price(seq),
    type: "system_status",
    instrument: undefined,
    data: { feed, instrument, state: "live" },
  });
  const messages = [status(1, "a", null), status(2, "b", null), status(3, "a", "A/B")];
  const iterator = await waiting({ policy: "conflate" }, ...messages, status(4, "a", null));
  assert.deepEqual((await taken(iterator, 3)).map(({ seq }) => seq), [2, 3, 4]);
});

test("what is only listened to is not kept", async () => {
  client = new Client("ws://x/ws", { WebSocket: FakeSocket });
  FakeSocket.last.open();
  const heard = [];
  const end = client.on("price_update", ({ seq }) => heard.push(seq));
  const subscription = client.subscribe("prices", { buffer: 1 });
  await turn();
  FakeSocket.last.acknowledge();
  for (let seq = 1; seq < 5; seq += 1) FakeSocket.last.say(price(seq));
  end();
  FakeSocket.last.say(price(5));
  assert.deepEqual(heard, [1, 2, 3, 4]);
  assert.equal(subscription.dropped, 0);
});

test("`break` gives the subscription back", async () => {
  const iterator = await waiting({}, price(1));
  for await (const { seq } of iterator) {
    assert.equal(seq, 1);
    break;
  }
  await turn();
  assert.equal(FakeSocket.last.commands.at(-1).type, "unsubscribe");
  assert.deepEqual(await iterator.next(), { value: undefined, done: true });
});

test("closing ends everybody who waits", async () => {
  const iterator = await waiting({});
  const results = [iterator.next(), iterator.next()];
  void client.close();
  for (const result of await Promise.all(results)) assert.equal(result.done, true);
  assert.throws(() => client.subscribe("prices"), /closed/);
});

test("what can't be is said at once", () => {
  client = new Client("ws://x/ws", { WebSocket: FakeSocket });
  assert.throws(() => client.subscribe("prices", { policy: "block" }), /can't make/);
  assert.throws(() => client.subscribe("prices", { buffer: 0 }), RangeError);
  assert.throws(() => client.subscribe("prices", { maxHertz: 1 }), /unknown option: maxHertz/);
  assert.throws(() => client.subscribe([]), TypeError);
  assert.throws(() => new Client("ws://x/ws", { WebSocket: FakeSocket, pingS: 1 }), /pingS/);
  assert.throws(() => new Client("ws://x/ws", { WebSocket: null }), /there is no WebSocket here/);
});

test("numbers within the payload have their digits, too", async () => {
  const data = { last: "1.50", deep: { quoted: 'a " , } b', list: [{ last: 7 }], n: 5 }, n: -0.5 };
  const iterator = await waiting({}, price(1, "BTC/USDT", { data }));
  const [message] = await taken(iterator, 1);
  assert.equal(digits(message, "data", "last"), "1.50");
  assert.equal(digits(message, "data", "deep", "n"), "5");
  assert.equal(digits(message, "data", "n"), "-0.5");
  for (const path of [["data"], ["data", "deep", "list"], ["nothing"], ["price", "x"], []]) {
    assert.equal(digits(message, ...path), undefined);
  }
});
