/** A `Remote` in Node: orders come as lines of JSON on standard input, reports go out likewise. */

import { createInterface } from "node:readline";
import * as library from "../../aggregator/static/client.js";
import { Remote } from "./remote.mjs";

const remote = new Remote(library, (report) => console.log(JSON.stringify(report)));
for await (const line of createInterface({ input: process.stdin })) {
  void remote.do(JSON.parse(line));
}
