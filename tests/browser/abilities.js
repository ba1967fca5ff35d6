/** Plays one scenario of `tests/clients/abilities.json` with the client that the hub serves. */

import { Hub } from "/client.js";

const CAMEL = { every_ms: "everyMs", get_state: "getState", from_time: "fromTime", ttl_seconds: "ttlSeconds" };
const named = (options = {}) => Object.fromEntries(Object.entries(options).map(([name, value]) => [CAMEL[name] ?? name, value]));

/** Resolves with what each subscription heard; `check` is given what a step asks for and what came. */
globalThis.play = async ({ steps }, transport) => {
  const hub = new Hub(undefined, { transports: [transport], storage: undefined });
  const told = {};
  const handles = {};
  const published = {};
  const wrong = [];
  const check = (step, came, wanted) =>
    JSON.stringify(came) === JSON.stringify(wanted) || wrong.push([step, came]);

  const deadline = Date.now() + 20_000;
  const until = async (condition) => {
    while (!condition()) {
      if (Date.now() > deadline) throw new Error(`waited for ${condition}, told: ${JSON.stringify(told)}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };

  /** A subscription of its own, before the one that gets messages: what the member said last. */
  const listenToMembers = (channel, name) => {
    const heard = (told[name] = []);
    hub.subscribe(channel, { onPresence: ({ member }) => heard.splice(0, 1, member?.data), onError: ({ code }) => heard.push(code) });
  };

  const subscribe = ({ pattern, channel, since_of, ...given }, name, refused) => {
    const heard = (told[name] = []);
    const record = ({ channel, data, key, remove, end, state, joined }) => {
      if (joined) return ["joined", joined, data];
      if (state) return ["state", data];
      if (remove) return ["removed", key];
      if (end) return ["end", data];
      return pattern ? [channel, data] : data;
    };
    const options = named(given);
    if (since_of) options.since = handles[since_of].positions;
    if (given.state) options.onState = ({ rows }) => heard.push(["rows", Object.fromEntries(rows.map(({ key, data }) => [key, data]))]);
    if (given.get_state) {
      const { data, position_of } = given.get_state;
      options.getState = async () => ({ data, position: published[position_of].position });
    }
    const started = new Promise((resolve) => {
      options.onSubscribed = resolve;
      options.onError = resolve;
    });
    options.onGap = ({ reason }) => heard.push(["gap", reason]);
    const handle = (handles[name] = pattern ? hub.subscribePattern(pattern, options) : hub.subscribe(channel, options));
    (async () => {
      try {
        for await (const message of handle) heard.push(record(message));
        heard.push("over");
      } catch (error) {
        heard.push(["refused", error.code]);
      }
    })();
    return refused ? undefined : Promise.race([started, until(() => false)]);
  };

  for (const step of steps) {
    if (step.publish) {
      const [channel, data, options] = step.publish;
      const answer = await hub.publish(channel, data, named(options));
      if (step.as) published[step.as] = answer;
    } else if (step.publish_each) {
      const results = await hub.publish(...step.publish_each);
      check(step, results.map(({ code }) => code ?? "ok"), step.is);
    } else if (step.subscribe) {
      if (step.and_members) listenToMembers(step.subscribe.channel, step.and_members);
      await subscribe(step.subscribe, step.as, step.refused);
    } else if (step.wait) await until(() => told[step.wait[0]].length >= step.wait[1]);
    else if (step.wait_for) await until(() => told[step.wait_for[0]].includes(step.wait_for[1]));
    else if (step.leave) {
      handles[step.leave].unsubscribe();
      await until(() => told[step.leave].at(-1) === "over");
      told[step.leave].pop();
    } else if (step.update) await hub.presenceUpdate(...step.update);
    else if (step.members) {
      check(step, (await hub.presence(step.members)).members.map(({ data }) => data), step.are);
      check(step, await hub.presenceCount(step.members), step.are.length);
    } else if (step.history) {
      const [channel, options] = step.history;
      const page = await hub.history(channel, named(options));
      check(step, page.publications.map(({ data }) => data), step.is);
      if (step.then) {
        const next = await hub.history(channel, { ...named(options), since: page.next });
        check(step, [next.publications.map(({ data }) => data), next.next], [step.then, null]);
      }
    } else wrong.push([step, "no such step"]);
  }
  check("transport", hub.transport, transport);
  hub.close();
  return { told, wrong };
};
