/** The module that a hub serves as `/client.js`: without an address, the hub is the one that served this. */

import { home } from "./home.js";

// `/client.js`, or a file below `/client/`.
const { url } = import.meta;
home.url = new URL(/\/client\/[^/?#]*$/.test(url) ? ".." : ".", url).href;

export * from "./hub.js";
