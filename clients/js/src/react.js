/**
 * Channels, presence and the connection as React hooks.
 *
 *     <HubProvider hub={hub}><Prices /></HubProvider>
 *
 *     const { data, error } = useChannel("prices", { last: 1 });
 *
 * A hook subscribes when its component is mounted and unsubscribes when it goes, also twice, as
 * StrictMode does. On a server it returns the values of before the first message.
 */

"use client"; // a server component that takes a hook is told so by name

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
import { followChannel, followPresence, followTable, NO_ROWS, NOBODY, NOTHING } from "./feed.js";

/** @typedef {import("./hub.js").Hub} Hub */
/** @typedef {import("./feed.js").PresenceState} PresenceState */
/** @typedef {import("./feed.js").PresenceOptions} PresenceOptions */
/**
 * @template [T=any]
 * @typedef {import("./feed.js").PatternOptions<T>} PatternOptions
 */
/**
 * @template [T=any]
 * @typedef {import("./feed.js").TableOptions<T>} TableOptions
 */
/**
 * @template [T=any]
 * @typedef {import("./feed.js").TableState<T>} TableState
 */
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
 * Follow by `follow`, and anew whenever the hub, the name or an option that is not a function
 * changes. Callbacks may change from one rendering to the next.
 * @template {object} State
 * @template {{ onMessage?: (message: any) => void, onGap?: (gap: any) => void, getState?: () => any }} Wanted
 * @param {string | null | undefined} name nothing is subscribed to without one
 * @param {Wanted} options
 * @param {State} empty
 * @param {(hub: Hub, name: string, options: Wanted, change: (state: State) => void) => () => void} follow
 *   the same at each rendering
 * @returns {State}
 */
function useFollowing(name, options, empty, follow) {
  const hub = useHub();
  const [state, change] = useState(empty);
  const asked = JSON.stringify({ ...options, getState: !!options.getState }); // leaves functions out
  const newest = useRef(options);
  useEffect(() => {
    newest.current = options;
  });
  useEffect(() => {
    change(empty);
    if (name == null) return;
    const on = {
      ...newest.current,
      onMessage: (/** @type {any} */ message) => newest.current.onMessage?.(message),
      onGap: (/** @type {any} */ gap) => newest.current.onGap?.(gap),
    };
    if (on.getState) on.getState = () => newest.current.getState?.();
    return follow(hub, name, on, change);
  }, [hub, name, asked, empty, follow]);
  return state;
}

/** @type {typeof followChannel} */
const followPattern = (hub, pattern, options, change) =>
  followChannel(hub, pattern, options, change, "subscribePattern");

/**
 * The newest messages of a channel. Each component gets its own `last` or `since`, also where
 * another one listens to the same channel.
 * @template [T=any]
 * @param {string | null | undefined} channel nothing is subscribed to without one
 * @param {ChannelOptions<T>} [options]
 * @returns {ChannelState<T>}
 */
export function useChannel(channel, options = {}) {
  return useFollowing(channel, options, NOTHING, followChannel);
}

/**
 * The newest messages of all channels that a pattern matches, now and later.
 * @template [T=any]
 * @param {string | null | undefined} pattern such as `prices:*`
 * @param {PatternOptions<T>} [options]
 * @returns {ChannelState<T>}
 */
export function usePattern(pattern, options = {}) {
  return useFollowing(pattern, options, NOTHING, /** @type {any} */ (followPattern));
}

/**
 * The rows of a keyed channel, kept current.
 * @template [T=any]
 * @param {string | null | undefined} channel
 * @param {TableOptions<T>} [options]
 * @returns {TableState<T>}
 */
export function useTable(channel, options = {}) {
  return useFollowing(channel, options, NO_ROWS, followTable);
}

/**
 * The members of a channel that keeps presence.
 * @param {string | null | undefined} channel no members without one
 * @param {PresenceOptions} [options]
 * @returns {PresenceState}
 */
export function usePresence(channel, options = {}) {
  const hub = useHub();
  const { data } = options;
  const [state, change] = useState(NOBODY);
  const said = JSON.stringify(data);
  const first = useRef(said);
  useEffect(() => {
    change(NOBODY);
    first.current = said;
    return channel == null ? undefined : followPresence(hub, channel, change, { ...options, data: said && JSON.parse(said) });
    // Another `said` is no other subscription: others would see a leave and a join.
  }, [hub, channel]);
  useEffect(() => {
    if (channel == null || said === first.current) return;
    first.current = said;
    const failed = (/** @type {any} */ error) => change((before) => ({ ...before, error }));
    hub.presenceUpdate(channel, JSON.parse(said ?? "null")).catch(failed);
  }, [hub, channel, said]);
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
