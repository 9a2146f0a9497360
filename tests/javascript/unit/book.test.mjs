import assert from "node:assert/strict";
import { test } from "node:test";
import { Book } from "../../../aggregator/static/client.js";
import { book, price } from "./fake_socket.mjs";

const kept = (...messages) => {
  const it = new Book("prices", "BTC/USDT");
  for (const message of messages) it.apply(message);
  return it;
};

test("prices are compared as numbers, and keep the digits that came", () => {
  const it = kept(
    book(1, "snapshot", [["1.50", "1"], ["1.4", "1"]], [["1.6", "1"], ["1E+1", "2"]]),
    book(2, "delta", [["1.5", "2"], ["1.45", "3"]], [["10.0", "0.00"], ["1.7", "4"]]),
  );
  assert.deepEqual(it.bids, [["1.5", "2"], ["1.45", "3"], ["1.4", "1"]]);
  assert.deepEqual(it.asks, [["1.6", "1"], ["1.7", "4"]]);
  assert.equal(it.sequence, 2);
});

test("numbers that are the same double are two prices", () => {
  const near = ["0.10000000000000000001", "0.1", "0.10000000000000000002"];
  const it = kept(book(1, "snapshot", [], near.map((each) => [each, "1"])));
  assert.deepEqual(it.asks.map(([each]) => each), ["0.1", near[0], near[2]]);
  it.apply(book(2, "delta", [], [["0.100000000000000000010", "0"]]));
  assert.deepEqual(it.asks.map(([each]) => each), ["0.1", "0.10000000000000000002"]);
});

test("a size below every double is no zero, and a zero may be long", () => {
  const it = kept(book(1, "snapshot", [["1", "1e-400"], ["2", "0.000e5"]], []));
  assert.deepEqual(it.bids, [["1", "1e-400"]]);
});

test("random changes give what a sorted table of numbers gives", () => {
  let seed = 7;
  const random = (below) => (seed = (seed * 48271) % 2147483647) % below;
  const it = kept(book(1, "snapshot", [], []));
  const table = new Map();
  for (let n = 2; n < 2000; n += 1) {
    const level = [(random(200) / 10).toFixed(1 + random(3)), String(random(3))];
    it.apply(book(n, "delta", [level], [level]));
    if (Number(level[1])) table.set(Number(level[0]), level);
    else table.delete(Number(level[0]));
  }
  const sorted = [...table].sort(([a], [b]) => a - b).map(([, level]) => level);
  assert.ok(sorted.length > 50);
  assert.deepEqual(it.asks, sorted);
  assert.deepEqual(it.bids, sorted.toReversed());
});

test("a change without a snapshot changes nothing", () => {
  const it = new Book("prices", "BTC/USDT");
  assert.equal(it.apply(book(1, "delta", [["1", "1"]], [])), false);
  assert.deepEqual([it.known, it.bids], [false, []]);
});

test("gaps end what is known, except of other instruments and of slow clients", () => {
  const gap = { type: "gap", channel: "prices", instrument: null, reason: "upstream" };
  const cases = [
    [{}, false],
    [{ instrument: "BTC/USDT" }, false],
    [{ reason: "client" }, false],
    [{ instrument: "A/B" }, true],
    [{ channel: "other" }, true],
    [{ reason: "slow_consumer" }, true],
  ];
  for (const [more, known] of cases) {
    const it = kept(book(1, "snapshot", [["1", "1"]], []), { ...gap, ...more });
    assert.equal(it.known, known, JSON.stringify(more));
  }
});

test("what is about something else is passed over", () => {
  const it = kept(book(1, "snapshot", [["1", "1"]], []));
  const other = book(2, "snapshot", [], []);
  assert.equal(it.apply({ ...other, instrument: "A/B" }), false);
  assert.equal(it.apply({ ...other, channel: "other" }), false);
  assert.equal(it.apply(price(2)), false);
  assert.deepEqual(it.bids, [["1", "1"]]);
});

test("a polled book is a snapshot each time", () => {
  const data = { lastUpdateId: 9, bids: [["1.0", "1"]], asks: [["2.0", "1"]] };
  const it = kept(book(1, "snapshot", [["7", "1"]], []), price(2, "BTC/USDT", { data }));
  assert.deepEqual([it.bids, it.asks, it.sequence], [data.bids, data.asks, 9]);
});
