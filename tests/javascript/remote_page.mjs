/** A `Remote` in a page: the test gives it `report` and calls `order`. */

import * as library from "/client.js";
import { Remote } from "./remote.mjs";

const remote = new Remote(library, globalThis.report);
globalThis.order = (order) => void remote.do(order);
