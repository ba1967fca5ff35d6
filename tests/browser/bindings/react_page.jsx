/** A page as an application has it: two components of one channel, under StrictMode. */

import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { Hub } from "broadcast-hub-client";
import { HubProvider, useChannel, useConnection, usePresence } from "broadcast-hub-client/react";

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
      <Present />
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
