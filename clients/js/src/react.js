/**
 * Channels, presence and the connection as React hooks.
 *
 *     <HubProvider hub={hub}><Prices /></HubProvider>
 *
 *     const { data, error } = useChannel("prices", { last: 1 });
 *
 * A hook subscribes when its component is mounted and unsubscribes when it goes, also twice, as
 * StrictMode does. On a server it returns what there is before the first message.
 */

import {
  createContext,
  createElement,
  useCallback,
  useContext,
  useEffect,
  useRef,
  useState,
  useSyncExternalStore,
} from "react";
import { followChannel, followPresence, NOBODY, NOTHING } from "./feed.js";

/** @typedef {import("./hub.js").Hub} Hub */
/** @typedef {import("./feed.js").PresenceState} PresenceState */
/**
 * @template [T=any]
 * @typedef {import("./feed.js").ChannelOptions<T>} ChannelOptions
 */
/**
 * @template [T=any]
 * @typedef {import("./feed.js").ChannelState<T>} ChannelState
 */

const Context = createContext(/** @type {Hub | undefined} */ (undefined));

/**
 * Gives `hub` to the hooks of all components below.
 * @param {{ hub: Hub, children?: import("react").ReactNode }} props
 */
export function HubProvider({ hub, children }) {
  return createElement(Context.Provider, { value: hub }, children);
}

/**
 * The hub of the nearest `HubProvider`; throws where there is none.
 * @returns {Hub}
 */
export function useHub() {
  const hub = useContext(Context);
  if (!hub) throw new Error("no hub here: put <HubProvider hub={new Hub(url)}> around the application");
  return hub;
}

/**
 * The newest messages of a channel. Each component gets its own `last` or `since`, also where
 * another one listens to the same channel. Callbacks may change from one rendering to the next.
 * @template [T=any]
 * @param {string | null | undefined} channel nothing is subscribed to without one
 * @param {ChannelOptions<T>} [options]
 * @returns {ChannelState<T>}
 */
export function useChannel(channel, options = {}) {
  const hub = useHub();
  const [state, change] = useState(/** @type {ChannelState<T>} */ (NOTHING));
  const { keep, since, last, fill } = options;
  const newest = useRef(options);
  useEffect(() => {
    newest.current = options;
  });
  useEffect(() => {
    change(NOTHING);
    if (channel == null) return;
    return followChannel(
      hub,
      channel,
      {
        keep,
        since,
        last,
        fill,
        onMessage: (message) => newest.current.onMessage?.(message),
        onGap: (gap) => newest.current.onGap?.(gap),
      },
      change,
    );
  }, [hub, channel, keep, since, last, fill]);
  return state;
}

/**
 * Who is in a channel that keeps presence.
 * @param {string | null | undefined} channel nobody without one
 * @returns {PresenceState}
 */
export function usePresence(channel) {
  const hub = useHub();
  const [state, change] = useState(NOBODY);
  useEffect(() => {
    change(NOBODY);
    return channel == null ? undefined : followPresence(hub, channel, change);
  }, [hub, channel]);
  return state;
}

/**
 * How the connection is: `connecting`, `connected`, `waiting` or `closed`, and over which transport.
 * @returns {{ state: Hub["state"], transport: Hub["transport"], hub: Hub }}
 */
export function useConnection() {
  const hub = useHub();
  const listen = useCallback((/** @type {() => void} */ changed) => hub.on("state", changed), [hub]);
  const state = useSyncExternalStore(listen, () => hub.state, () => hub.state);
  const transport = useSyncExternalStore(listen, () => hub.transport, () => hub.transport);
  return { state, transport, hub };
}
