// Prints prices as they come, and says when one can't be trusted.
//
//     node price_tracking.js [ADDRESS] [CHANNEL...]
//
// Node 20 wants --experimental-websocket.

import { Client, digits } from "../../aggregator/static/client.js";

const [address = "ws://127.0.0.1:8000/ws", ...channels] = process.argv.slice(2);
if (!channels.length) channels.push("bitcoinprice", "ethprice");

const client = new Client(address);
client.on("state", ({ name, reason, until }) => {
  const seconds = until && ((until - Date.now()) / 1000).toFixed(1);
  console.error(name, reason ?? "", until ? `next attempt in ${seconds} s` : "");
});

/** The last price of each channel and instrument, to tell up from down. */
const last = new Map();

for await (const message of client.subscribe([...channels, "system"])) {
  switch (message.type) {
    case "price_update": {
      const { channel, instrument, price, timestamp } = message;
      const key = `${channel} ${instrument}`;
      const change = Math.sign(price - (last.get(key) ?? price));
      last.set(key, price);
      const mark = { "-1": "▼", 0: " ", 1: "▲" }[change];
      // `price` is for computing; what is shown has the venue's own digits.
      console.log(timestamp, mark, key, digits(message, "price"), message.stale ? "STALE" : "");
      break;
    }
    case "system_status":
      if (message.data.state !== "live") {
        console.error(message.data.feed, message.data.state, message.data.reason);
      }
      break;
    case "gap":
      console.error(`lost: ${message.channel} ${message.from_seq} to ${message.to_seq}`);
      break;
    case "error":
      console.error(`refused: ${message.channel}: ${message.message}`);
  }
}
