export * from "./client/hub.js";
