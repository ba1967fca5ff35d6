/** The module that a hub serves as `/client.js`: without an address, the hub is the one that served this. */
export * from "./hub.js";
