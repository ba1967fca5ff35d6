import { createSSRApp, h } from "vue";
import { renderToString } from "vue/server-renderer";
import { Hub } from "broadcast-hub-client";
import { hubPlugin, useChannel, useConnection, usePattern, usePresence, useTable } from "broadcast-hub-client/vue";

const Prices = {
  setup() {
    const { messages } = useChannel("prices", { last: 1 });
    usePresence("prices", { data: 1 });
    usePattern("prices:*");
    useTable("prices");
    const { state } = useConnection();
    return () => h("p", `${messages.value.length} ${state.value}`);
  },
};

renderToString(createSSRApp(Prices).use(hubPlugin, new Hub("/live"))).then((html) => console.log(html));
