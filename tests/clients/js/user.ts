/** What a TypeScript application writes: it has to compile against the package's types. */

import { Hub, HubError, LoggedOutError } from "broadcast-hub-client";
import type { Gap, History, Message, Published, Rows, State, Subscription } from "broadcast-hub-client";

declare const token: () => Promise<string>;
declare const show: (text: string) => void;

const hub = new Hub("https://hub.example.com", { token, transports: ["websocket", "sse", "poll"], probeMs: 2000 });
const stop = new AbortController();

const prices: Subscription = hub.subscribe("prices", ({ data, offset }: Message) => show(`${offset} ${data.eur}`), {
  since: "k3f9:41",
  fill: true,
  signal: stop.signal,
  onGap: ({ from, to, reason }: Gap) => show(`${from} to ${to}: ${reason}`),
  onPresence: ({ op, member }) => show(`${op} ${member?.id}`),
  onError: (error: HubError) => show(`${error.code} ${error.retryable}`),
});

export async function run(): Promise<void> {
  const { epoch, offset }: Published = await prices.publish({ eur: 1.08 }, { key: "eur", echo: false });
  const { publications }: History = await hub.history("prices", { since: `${epoch}:${offset - 1}`, limit: 10 });
  const { members } = await hub.presence("prices");
  for await (const { data, position } of hub.subscribe("chat:42", { last: 10, joined: true })) show(`${position} ${data}`);
  show(`${publications[0]?.time} ${members[0]?.sub}`);
}

export async function more(): Promise<void> {
  const results: (Published | HubError)[] = await hub.publish(["a", "b"], { eur: 1 }, { tags: { desk: "fx" }, ttlSeconds: 60 });
  for (const result of results) show(result instanceof HubError ? result.code : result.position);
  const { next, complete, publications }: History = await hub.history("a", { fromTime: new Date(), reverse: true });
  show(`${next} ${complete} ${publications.length}`);
  // @ts-expect-error options have one naming style
  await hub.history("a", { from_time: 1 });
}

const all: Subscription = hub.subscribePattern("prices:*", ({ channel, data }: Message) => show(`${channel} ${data.eur}`), {
  since: { "prices:eur": "k3f9:41" },
  filter: { desk: "fx" },
});
show(Object.keys(all.positions).join());
hub.subscribe("prices:fx", ({ key, remove }: Message) => show(`${key} ${remove}`), {
  state: true,
  everyMs: 500,
  onState: ({ rows, begins, more, position }: Rows) => show(`${rows[0]?.key} ${begins} ${more} ${position}`),
});
// @ts-expect-error a pattern resumes by the positions of its channels
hub.subscribePattern("prices:*", () => {}, { since: "k3f9:41" });
// @ts-expect-error rows are of a channel
hub.subscribePattern("prices:*", () => {}, { state: true });

interface Price {
  eur: number;
}
hub.subscribe<Price>("prices", ({ data }) => show(data.eur.toFixed(2)), { last: 1 });
// @ts-expect-error a price has no dollars
hub.subscribe<Price>("prices", ({ data }) => show(data.usd));
export async function loop(): Promise<void> {
  for await (const { data } of hub.subscribe<Price>("prices")) show(data.eur.toFixed(2));
  const { position, duplicate }: Published = await hub.publish("prices", { eur: 1 }, { idempotencyKey: "a" });
  show(`${position} ${duplicate} ${new LoggedOutError().code}`);
  hub.connect();
}

const off: () => void = hub.on("state", ({ state, transport, retryInMs }: State) => show(`${state} ${transport} ${retryInMs}`));
off();

new Hub();
new Hub(new URL("https://hub.example.com/live"));

// @ts-expect-error there is no such transport
new Hub("", { transports: ["carrier pigeon"] });
// @ts-expect-error a channel is a string
hub.subscribe(42, () => {});
// @ts-expect-error there is no such event
hub.on("gap", () => {});
hub.close();
