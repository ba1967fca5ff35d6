import { createSSRApp, h } from "vue";
import { renderToString } from "vue/server-renderer";
import { Hub } from "broadcast-hub-client";
import { hubPlugin, useChannel, useConnection, usePresence } from "broadcast-hub-client/vue";

const Prices = {
  setup() {
    const { messages } = useChannel("prices", { last: 1 });
    usePresence("prices");
    const { state } = useConnection();
    return () => h("p", `${messages.value.length} ${state.value}`);
  },
};

renderToString(createSSRApp(Prices).use(hubPlugin, new Hub("/live"))).then((html) => console.log(html));
