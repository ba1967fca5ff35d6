/**
 * Where no stream gets through: long polling. Each answer says how far every channel is, and the
 * next poll repeats that, the newest channels first, so the hub notices an answer that was lost
 * on the way. Only a new session can tell its content.
 */

import { now } from "./backoff.js";
import { openHttp } from "./http.js";
import { MAX_PLACES, MAX_WAIT_SECONDS } from "./limits.js";

/** @param {import("./connection.js").Link} link */
export const openPoll = (link) =>
  openHttp(link, async (get, push) => {
    let connection = "";
    let wait = 0; // the first answer tells at once whether polling works
    let places = "";
    let asked = "";
    for (let count = 0; ; count += 1) {
      const path = `poll?session=true&wait=${wait}&connection=${connection}${places}`;
      // A service worker that keeps every GET would answer at once, for ever.
      const answer = await (await get(path === asked ? `${path}&again=${count}` : path)).json();
      asked = path;
      const { welcome } = answer;
      link.heardAt = now(); // also where it brings nothing
      if (!connection) push(welcome);
      else if (welcome.connection !== connection) return "an answer was lost";
      answer.pushes.forEach(push);
      ({ connection } = welcome);
      wait = Math.min(MAX_WAIT_SECONDS, welcome.heartbeat_seconds);
      places = "";
      for (const [channel, position] of Object.entries(answer.positions).reverse()) {
        if (places.length > MAX_PLACES) break;
        const name = encodeURIComponent(channel);
        // A pattern stands there for as long as it has no channel.
        places += `&${channel.includes("*") ? "pattern" : "channel"}=${name}&since=${name}=${position}`;
      }
    }
  });
