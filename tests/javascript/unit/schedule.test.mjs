import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { Client } from "../../../aggregator/static/client.js";
import { FakeSocket, book, price } from "./fake_socket.mjs";

const OPTIONS = { WebSocket: FakeSocket, breakAfter: 5 };
let client;

beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: Date.parse(price(1).timestamp) });
  mock.method(Math, "random", () => 1);
  FakeSocket.all = [];
});

afterEach(() => {
  void client.close();
  mock.timers.tick(10_000);
  mock.timers.reset();
  mock.restoreAll();
});

const wait = ({ until, since }) => until - since;

/** Let the present connection, or attempt, fail; return how long the client waits then. */
function failed() {
  FakeSocket.last.onclose({ code: 1006, reason: "" });
  return wait(client.state);
}

test("waits double up to the longest, then the circuit breaks", () => {
  client = new Client("ws://x/ws", { ...OPTIONS, maxBackoffMs: 3_000 });
  const waits = [];
  for (let n = 0; n < 4; n += 1) {
    waits.push(failed());
    assert.equal(client.state.name, "waiting");
    mock.timers.tick(waits.at(-1));
    assert.equal(FakeSocket.all.length, n + 2);
  }
  assert.deepEqual(waits, [1_000, 2_000, 3_000, 3_000]);
  assert.equal(failed(), 90_000);
  assert.equal(client.state.name, "broken");
  mock.timers.tick(90_000);
  assert.equal(client.state.name, "connecting");
  assert.equal(failed(), 90_000);
});

test("a wait is a random part of the longest", () => {
  mock.method(Math, "random", () => 0.25);
  client = new Client("ws://x/ws", OPTIONS);
  assert.equal(failed(), 250);
});

test("the count begins anew with data, not with answers or a snapshot", async () => {
  client = new Client("ws://x/ws", OPTIONS);
  client.subscribe("prices");
  failed();
  mock.timers.tick(1_000);
  FakeSocket.last.open();
  FakeSocket.last.acknowledge(3);
  FakeSocket.last.say(price(3, "BTC/USDT", { age_us: 1, stale: false }));
  FakeSocket.last.say({ type: "pong", timestamp: "2026-11-20T07:56:05.562Z", id: "ping" });
  assert.equal(failed(), 2_000);
  mock.timers.tick(2_000);
  FakeSocket.last.open();
  FakeSocket.last.acknowledge(3);
  FakeSocket.last.say(price(4));
  assert.equal(failed(), 1_000);
});

test("the count begins anew after a connection that held for long, even if nothing came", () => {
  let now = 0;
  mock.method(performance, "now", () => now);
  client = new Client("ws://x/ws", OPTIONS);
  mock.timers.tick(failed());
  mock.timers.tick(failed());
  FakeSocket.last.open();
  now = 29_000;
  assert.equal(failed(), 4_000);
  mock.timers.tick(4_000);
  FakeSocket.last.open();
  now = 60_000;
  assert.equal(failed(), 1_000);
});

test("what comes before the acknowledgement, or after the end, is not taken", async () => {
  client = new Client("ws://x/ws", OPTIONS);
  const seen = [];
  client.on("price_update", ({ seq }) => seen.push(seq));
  const subscription = client.subscribe("prices");
  FakeSocket.last.open();
  FakeSocket.last.say(price(1));
  FakeSocket.last.acknowledge(1);
  FakeSocket.last.say(price(2));
  subscription.close();
  FakeSocket.last.say(price(3));
  assert.deepEqual(seen, [2]);
});

test("a ping goes out every so often; without a sign of life the connection is dead", () => {
  client = new Client("ws://x/ws", OPTIONS);
  FakeSocket.last.open();
  const pings = () => FakeSocket.all[0].sent.length;
  assert.equal(pings(), 1);
  FakeSocket.last.say({ type: "pong", timestamp: "2026-11-20T07:56:05.562Z", id: "ping" });
  mock.timers.tick(10_000);
  assert.equal(pings(), 2);
  mock.timers.tick(10_000);
  assert.deepEqual([client.state.name, client.state.reason], ["waiting", "no sign of life"]);
});

test("two hundred channels are three commands, each after the last one's answer", async () => {
  client = new Client("ws://x/ws", OPTIONS);
  client.subscribe(Array.from({ length: 201 }, (_, n) => `c${n}`));
  FakeSocket.last.open();
  const counts = [];
  for (let n = 0; n < 3; n += 1) {
    counts.push(FakeSocket.last.commands.at(-1).channels.length);
    assert.equal(FakeSocket.last.commands.length, n + 1);
    FakeSocket.last.acknowledge();
  }
  assert.deepEqual(counts, [100, 100, 1]);
  assert.equal(FakeSocket.last.commands.length, 3);
});

test("what was subscribed to in several commands goes on from its own place", () => {
  client = new Client("ws://x/ws", OPTIONS);
  const subscriptions = Array.from({ length: 101 }, (_, n) => client.subscribe(`c:${n}/X`));
  const back = (recovered) => {
    mock.timers.tick(failed());
    FakeSocket.last.open();
    const { id, channels, since } = FakeSocket.last.commands[0];
    const positions = { c: { epoch: "e", seq: 9 } };
    FakeSocket.last.say({ type: "subscribed", channels, positions, recovered, id });
    return since;
  };
  FakeSocket.last.open();
  FakeSocket.last.acknowledge(5);
  FakeSocket.last.acknowledge(5);
  // Its answer is behind the snapshots: they are whole.
  FakeSocket.last.say({ type: "pong", timestamp: "2026-11-20T07:56:05.562Z", id: "ping" });
  assert.deepEqual(back({ c: true }), { c: { epoch: "e", seq: 5 } });
  FakeSocket.last.say({ ...price(6, "1/X"), channel: "c" });
  // Of the second hundred nothing has come since; one of them is in the first command now.
  subscriptions[0].close();
  assert.deepEqual(back({ c: true }), { c: { epoch: "e", seq: 5 } });
});

test("a channel is asked for its state once a second at most", () => {
  let now = 0;
  mock.method(performance, "now", () => now);
  client = new Client("ws://x/ws", OPTIONS);
  client.subscribe("prices");
  FakeSocket.last.open();
  FakeSocket.last.acknowledge();
  const counts = [];
  for (const seq of [1, 2, 3]) {
    FakeSocket.last.say(book(seq, "delta", [["x", "1"]], []));
    mock.timers.tick(0);
    FakeSocket.last.acknowledge(seq);
    counts.push(FakeSocket.last.commands.length);
  }
  now = 1_000;
  mock.timers.tick(1_000);
  assert.deepEqual([...counts, FakeSocket.last.commands.length], [2, 2, 2, 3]);
});

for (const at of ["connecting", "open", "waiting"]) {
  test(`a listener may close the client when it is ${at}`, () => {
    client = new Client("ws://x/ws", OPTIONS);
    const told = [];
    client.on("state", ({ name }) => {
      told.push(name);
      if (name === at) void client.close();
    });
    FakeSocket.last.open();
    if (at !== "open") mock.timers.tick(Math.max(0, failed()));
    mock.timers.tick(100_000);
    assert.deepEqual(told.slice(-2), [at, "closed"]);
    assert.equal(FakeSocket.all.length, at === "connecting" ? 2 : 1);
  });
}

test("an acknowledgement without a proper position is survived", () => {
  client = new Client("ws://x/ws", OPTIONS);
  client.subscribe("prices");
  FakeSocket.last.open();
  const { id, channels } = FakeSocket.last.commands[0];
  for (const positions of [{ prices: null }, { prices: { epoch: 5, seq: 1 } }, null, "x"]) {
    FakeSocket.last.say({ type: "subscribed", channels, positions, id });
  }
  assert.equal(client.state.name, "open");
});

test("a listener may let it try again at once", () => {
  client = new Client("ws://x/ws", OPTIONS);
  client.on("state", ({ name }) => name === "waiting" && client.retry());
  failed();
  FakeSocket.last.open();
  mock.timers.tick(5_000);
  assert.deepEqual([client.state.name, FakeSocket.all.length], ["open", 2]);
});

test("a listener that throws keeps nobody from the message", () => {
  client = new Client("ws://x/ws", OPTIONS);
  const thrown = [];
  mock.method(globalThis, "queueMicrotask", (action) => thrown.push(action));
  const seen = [];
  client.on("state", () => {
    throw new Error("mine");
  });
  client.on("state", ({ name }) => seen.push(name));
  FakeSocket.last.open();
  assert.deepEqual(seen, ["open"]);
  assert.throws(thrown[0], /mine/);
});

test("what comes from a connection that is given up is not taken", () => {
  client = new Client("ws://x/ws", OPTIONS);
  const [first] = FakeSocket.all;
  first.open();
  failed();
  assert.equal(first.onmessage, null);
});

for (const [what, heard, name] of [["answers", true, "open"], ["no answer", false, "waiting"]]) {
  test(`a program that was busy reads first what waits: ${what}`, () => {
    let now = 0;
    mock.method(performance, "now", () => now);
    client = new Client("ws://x/ws", OPTIONS);
    FakeSocket.last.open();
    now = 15_000;
    mock.timers.tick(10_000);
    assert.equal(client.state.name, "open");
    if (heard) FakeSocket.last.say({ type: "pong", id: "ping" });
    mock.timers.tick(100);
    assert.equal(client.state.name, name);
  });
}
