/** A page as an application has it: two components of one channel. */

import { createApp, h, ref } from "vue";
import { Hub } from "broadcast-hub-client";
import { hubPlugin, useChannel, useConnection, usePresence } from "broadcast-hub-client/vue";

const hub = new Hub(new URLSearchParams(location.search).get("hub"));
const seen = (globalThis.seen = { newest: [], all: [] });
globalThis.hub = hub;

const channel = ref("prices");

const Newest = {
  setup() {
    const { data, error } = useChannel(channel, { last: 1, onMessage: ({ data }) => seen.newest.push(data) });
    return () => h("p", { id: "newest" }, error.value ? error.value.code : (data.value ?? "nothing"));
  },
};

const List = {
  setup() {
    const { messages } = useChannel(channel, { last: 5, keep: 3, onMessage: ({ data }) => seen.all.push(data) });
    return () => h("p", { id: "list" }, messages.value.map(({ data }) => data).join(","));
  },
};

const Present = {
  setup() {
    const { members } = usePresence("chat:1");
    return () => h("p", { id: "present" }, String(members.value.length));
  },
};

const App = {
  setup() {
    const { state, transport } = useConnection();
    const to = (name) => () => (channel.value = name);
    return () => [
      h("p", { id: "connection" }, `${state.value} ${transport.value}`),
      h("button", { id: "other", onClick: to("other") }),
      h("button", { id: "none", onClick: to(null) }),
      h(Newest),
      h(List),
      h(Present),
    ];
  },
};

createApp(App).use(hubPlugin, hub).mount("#root");
