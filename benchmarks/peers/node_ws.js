// Node with the `ws` package: `send` to one client after the other.
"use strict";
const { WebSocketServer } = require("ws");

const orders = JSON.parse(process.argv[2]);
const ANSWER = '{"type":"subscribed"}';
const FULL_BYTES = 65536;
const LOOK_AT = 16;

const clients = [];
let seq = 1000000000;
let next = 0;
let at = 0;

function wallUs() {
  return Math.round((performance.timeOrigin + performance.now()) * 1000);
}

// As in pace.py: whether some of the clients, in turn, are behind.
function full() {
  at = (at + LOOK_AT) % Math.max(1, clients.length);
  return clients.slice(at, at + LOOK_AT).some((client) => client.bufferedAmount > FULL_BYTES);
}

function publish(due) {
  const [head, received, published, tail] = orders.parts;
  seq += 1;
  const message = Buffer.from(`${head}${seq}${received}${due}${published}${wallUs()}${tail}`);
  for (const client of clients) client.send(message, { binary: false });
}

function saturate() {
  if (full()) {
    setTimeout(saturate, 1);
    return;
  }
  publish(wallUs());
  setImmediate(saturate);
}

function keepPace() {
  const now = wallUs();
  if (next > now) {
    setTimeout(keepPace, 1);
    return;
  }
  publish(Math.floor(next));
  next += 1e6 / orders.rate;
  setImmediate(keepPace);
}

const server = new WebSocketServer(
  { host: "127.0.0.1", port: 0, backlog: 4096, perMessageDeflate: false, clientTracking: false },
  () => console.log(JSON.stringify({ port: server.address().port })),
);
server.on("connection", (client) => {
  client.on("error", () => {});
  client.on("message", () => {
    client.send(ANSWER);
    clients.push(client);
  });
});
process.stdin.once("data", () => {
  next = wallUs();
  if (orders.rate) keepPace();
  else saturate();
});
process.stdin.on("end", () => process.exit(0));
