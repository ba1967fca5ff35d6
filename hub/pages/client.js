export * from "./client/served.js";
