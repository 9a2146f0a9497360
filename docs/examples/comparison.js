// Compares an instrument on all channels that have it: who is cheapest, who is dearest, how far
// they are apart. What is stale is left out.
//
//     node comparison.js [ADDRESS] [INSTRUMENT]
//
// Node 20 wants --experimental-websocket.

import { Client, digits } from "../../aggregator/static/client.js";

const [address = "ws://127.0.0.1:8000/ws", instrument = "BTC/USDT"] = process.argv.slice(2);
const client = new Client(address);

/** The last message of each channel. */
const quotes = new Map();
/** The feeds of which no data come. */
const silent = new Set();

client.on("system_status", ({ data }) => {
  if (data.instrument !== null && data.instrument !== instrument) return;
  if (data.state === "stale" || data.state === "down") silent.add(data.feed);
  if (data.state === "live") silent.delete(data.feed);
});
client.subscribe("system");

client.on("price_update", (message) => {
  // A snapshot says itself whether it is stale; what comes later is fresh.
  quotes.set(message.channel, message);
  compare();
});
client.subscribe(`*:${instrument}`, { raw: false });

function compare() {
  const fresh = [...quotes.values()].filter(({ channel, stale }) => !stale && !silent.has(channel));
  if (fresh.length < 2) return;
  fresh.sort((one, other) => one.price - other.price);
  const [low, high] = [fresh[0], fresh.at(-1)];
  const spread = high.price - low.price;
  const points = (10_000 * spread) / low.price;
  const show = (message) => `${message.exchange} ${digits(message, "price")} (${message.channel})`;
  console.log(
    `${instrument} low ${show(low)} high ${show(high)}`,
    `spread ${spread.toFixed(2)} = ${points.toFixed(1)} bp of ${fresh.length}`,
  );
}
