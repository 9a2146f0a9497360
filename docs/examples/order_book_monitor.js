// Keeps an order book and prints its top: best prices, spread, and how much stands near them.
//
//     node order_book_monitor.js [ADDRESS] [CHANNEL] [INSTRUMENT]
//
// Node 20 wants --experimental-websocket.

import { Book, Client } from "../../aggregator/static/client.js";

const [
  address = "ws://127.0.0.1:8000/ws",
  channel = "binance_orderbook",
  instrument = "BTC/USDT",
] = process.argv.slice(2);
const LEVELS = 10;

const client = new Client(address);
const book = new Book(channel, instrument);

/** The sum of the sizes of the best levels. */
const near = (levels) => levels.slice(0, LEVELS).reduce((sum, [, size]) => sum + Number(size), 0);

// If this program were slow, one message would stand for several: the book is right all the same.
for await (const message of client.subscribe(`${channel}:${instrument}`, { policy: "conflate" })) {
  if (!book.apply(message)) continue;
  if (!book.known) {
    console.error("the book is not known: a snapshot follows");
    continue;
  }
  const [[bid] = [], [ask] = []] = [book.bids[0], book.asks[0]];
  const [bids, asks] = [near(book.bids), near(book.asks)];
  const imbalance = (100 * (bids - asks)) / (bids + asks);
  console.log(
    `${book.timestamp} ${instrument} bid ${bid} ask ${ask} spread ${(ask - bid).toPrecision(3)}`,
    `${bids.toFixed(3)} : ${asks.toFixed(3)} (${imbalance.toFixed(0)} %)`,
  );
}
