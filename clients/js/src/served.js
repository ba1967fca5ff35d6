/** What a hub serves as `/client.js`: without an address, the hub is the one that served this. */

import { home } from "./home.js";

home.url = new URL(".", import.meta.url).href;

export * from "./hub.js";
