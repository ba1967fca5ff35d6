import { createElement } from "react";
import { renderToStaticMarkup } from "react-dom/server";
import { Hub } from "broadcast-hub-client";
import { HubProvider, useChannel, useConnection, usePattern, usePresence, useTable } from "broadcast-hub-client/react";

function Prices() {
  const { messages } = useChannel("prices", { last: 1 });
  usePresence("prices", { data: 1 });
  usePattern("prices:*");
  useTable("prices");
  const { state } = useConnection();
  return createElement("p", null, `${messages.length} ${state}`);
}

const hub = new Hub("/live");
console.log(renderToStaticMarkup(createElement(HubProvider, { hub }, createElement(Prices))));
