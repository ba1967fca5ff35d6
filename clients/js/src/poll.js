/**
 * Where no stream gets through: long polling. Each answer says how far every channel is, and the
 * next poll repeats that, so the hub notices an answer that was lost on the way.
 */

import { openHttp } from "./http.js";
import { MAX_WAIT_SECONDS } from "./limits.js";

/** @param {import("./connection.js").Link} link */
export const openPoll = (link) =>
  openHttp(link, async (get, push) => {
    let wanted = link.wanted();
    let connection = "";
    let wait = 0; // the first answer tells at once whether polling works
    for (;;) {
      const path = `poll?session=true&wait=${wait}&connection=${connection}`;
      const response = await get(path, wanted);
      const { welcome, pushes, positions } = await response.json();
      link.heardAt = Date.now(); // also where it brings nothing
      if (welcome.connection !== connection) push(welcome);
      pushes.forEach(push);
      ({ connection } = welcome);
      wait = Math.min(MAX_WAIT_SECONDS, welcome.heartbeat_seconds);
      wanted = Object.entries(positions).map(([channel, since]) => ({ channel, since }));
    }
  });
