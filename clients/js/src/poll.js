/**
 * Where no stream gets through: long polling. Each answer says how far every channel is, and the
 * next poll repeats that, so the hub notices an answer that was lost on the way.
 */

import { now } from "./backoff.js";
import { openHttp } from "./http.js";
import { MAX_PLACES, MAX_WAIT_SECONDS } from "./limits.js";

/** @param {import("./connection.js").Link} link */
export const openPoll = (link) =>
  openHttp(link, async (get, push) => {
    let connection = "";
    let wait = 0; // the first answer tells at once whether polling works
    let places = new URLSearchParams();
    for (;;) {
      const path = `poll?session=true&wait=${wait}&connection=${connection}&${places}`;
      const response = await get(path);
      const { welcome, pushes, positions } = await response.json();
      link.heardAt = now(); // also where it brings nothing
      if (welcome.connection !== connection) push(welcome);
      pushes.forEach(push);
      ({ connection } = welcome);
      wait = Math.min(MAX_WAIT_SECONDS, welcome.heartbeat_seconds);
      places = new URLSearchParams();
      for (const channel in positions) {
        if (`${places}`.length > MAX_PLACES) break;
        places.append("channel", channel);
        places.append("since", `${channel}=${positions[channel]}`);
      }
    }
  });
