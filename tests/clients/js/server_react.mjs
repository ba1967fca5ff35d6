import { createElement } from "react";
import { renderToStaticMarkup } from "react-dom/server";
import { Hub } from "broadcast-hub-client";
import { HubProvider, useChannel, useConnection, usePresence } from "broadcast-hub-client/react";

function Prices() {
  const { messages } = useChannel("prices", { last: 1 });
  usePresence("prices");
  const { state } = useConnection();
  return createElement("p", null, `${messages.length} ${state}`);
}

const hub = new Hub("/live");
console.log(renderToStaticMarkup(createElement(HubProvider, { hub }, createElement(Prices))));
