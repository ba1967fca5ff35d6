/** A page as an application has it: two components of one channel. */

import { createApp, h, ref } from "vue";
import { Hub } from "broadcast-hub-client";
import { hubPlugin, useChannel, useConnection, usePattern, usePresence, useTable } from "broadcast-hub-client/vue";

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

const Everything = {
  setup() {
    const { messages } = usePattern("p:*", { keep: 3 });
    return () => h("p", { id: "everything" }, messages.value.map(({ channel, data }) => `${channel}=${data}`).join(","));
  },
};

const Table = {
  props: ["id"],
  setup({ id }) {
    const { rows, whole } = useTable("keyed:t");
    const text = () => rows.value.map(({ key, data }) => `${key}=${data}`).join(",");
    return () => h("p", { id }, whole.value ? text() : "not yet");
  },
};

const Mood = {
  setup() {
    const mood = ref("fine");
    const { members } = usePresence("chat:1", { data: mood });
    const text = () => members.value.map(({ data }) => data).join(",");
    return () => h("button", { id: "mood", onClick: () => (mood.value = "busy") }, text());
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
      h(Mood),
      h(Present),
      h(Everything),
      h(Table, { id: "table" }),
      h(Table, { id: "again" }),
    ];
  },
};

createApp(App).use(hubPlugin, hub).mount("#root");
