/** A page as an application has it: two components of one channel, under StrictMode. */

import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { Hub } from "broadcast-hub-client";
import { HubProvider, useChannel, useConnection, usePattern, usePresence, useTable } from "broadcast-hub-client/react";

const hub = new Hub(new URLSearchParams(location.search).get("hub"));
const seen = (globalThis.seen = { newest: [], all: [] });
globalThis.hub = hub;

function Newest({ channel }) {
  const { data, error } = useChannel(channel, { last: 1, onMessage: ({ data }) => seen.newest.push(data) });
  return <p id="newest">{error ? error.code : (data ?? "nothing")}</p>;
}

function List({ channel }) {
  const { messages } = useChannel(channel, { last: 5, keep: 3, onMessage: ({ data }) => seen.all.push(data) });
  return <p id="list">{messages.map(({ data }) => data).join(",")}</p>;
}

function Present() {
  const { members } = usePresence("chat:1");
  return <p id="present">{members.length}</p>;
}

function Everything() {
  const { messages } = usePattern("p:*", { keep: 3 });
  return <p id="everything">{messages.map(({ channel, data }) => `${channel}=${data}`).join(",")}</p>;
}

function Table({ id }) {
  const { rows, whole } = useTable("keyed:t");
  return <p id={id}>{whole ? rows.map(({ key, data }) => `${key}=${data}`).join(",") : "not yet"}</p>;
}

function Mood() {
  const [mood, setMood] = useState("fine");
  const { members } = usePresence("chat:1", { data: mood });
  return <button id="mood" onClick={() => setMood("busy")}>{members.map(({ data }) => data).join(",")}</button>;
}

function App() {
  const { state, transport } = useConnection();
  const [channel, setChannel] = useState("prices");
  return (
    <>
      <p id="connection">{`${state} ${transport}`}</p>
      <button id="other" onClick={() => setChannel("other")} />
      <button id="none" onClick={() => setChannel(null)} />
      <Newest channel={channel} />
      <List channel={channel} />
      <Mood />
      <Present />
      <Everything />
      <Table id="table" />
      <Table id="again" />
    </>
  );
}

createRoot(document.getElementById("root")).render(
  <StrictMode>
    <HubProvider hub={hub}>
      <App />
    </HubProvider>
  </StrictMode>,
);
