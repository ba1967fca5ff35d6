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
export type Hub = import("./hub.js").Hub;
export type PresenceState = import("./feed.js").PresenceState;
export type PresenceOptions = import("./feed.js").PresenceOptions;
export type PatternOptions<T = any> = import("./feed.js").PatternOptions<T>;
export type TableOptions<T = any> = import("./feed.js").TableOptions<T>;
export type TableState<T = any> = import("./feed.js").TableState<T>;
export type ChannelOptions<T = any> = import("./feed.js").ChannelOptions<T>;
export type ChannelState<T = any> = import("./feed.js").ChannelState<T>;
/**
 * Gives `hub` to the hooks of all components below.
 * @param {{ hub: Hub, children?: import("react").ReactNode }} props
 */
export declare function HubProvider({ hub, children }: {
    hub: Hub;
    children?: import("react").ReactNode;
}): import("react").FunctionComponentElement<import("react").ProviderProps<import("./hub.js").Hub | undefined>>;
/**
 * The hub of the nearest `HubProvider`; throws where there is none.
 * @returns {Hub}
 */
export declare function useHub(): Hub;
/**
 * The newest messages of a channel. Each component gets its own `last` or `since`, also where
 * another one listens to the same channel.
 * @template [T=any]
 * @param {string | null | undefined} channel nothing is subscribed to without one
 * @param {ChannelOptions<T>} [options]
 * @returns {ChannelState<T>}
 */
export declare function useChannel<T = any>(channel: string | null | undefined, options?: ChannelOptions<T>): ChannelState<T>;
/**
 * The newest messages of all channels that a pattern matches, now and later.
 * @template [T=any]
 * @param {string | null | undefined} pattern such as `prices:*`
 * @param {PatternOptions<T>} [options]
 * @returns {ChannelState<T>}
 */
export declare function usePattern<T = any>(pattern: string | null | undefined, options?: PatternOptions<T>): ChannelState<T>;
/**
 * The rows of a keyed channel, kept current.
 * @template [T=any]
 * @param {string | null | undefined} channel
 * @param {TableOptions<T>} [options]
 * @returns {TableState<T>}
 */
export declare function useTable<T = any>(channel: string | null | undefined, options?: TableOptions<T>): TableState<T>;
/**
 * The members of a channel that keeps presence.
 * @param {string | null | undefined} channel no members without one
 * @param {PresenceOptions} [options]
 * @returns {PresenceState}
 */
export declare function usePresence(channel: string | null | undefined, options?: PresenceOptions): PresenceState;
/**
 * How the connection is: `connecting`, `connected`, `waiting` or `closed`, and over which transport.
 * @returns {{ state: Hub["state"], transport: Hub["transport"], hub: Hub }}
 */
export declare function useConnection(): {
    state: Hub["state"];
    transport: Hub["transport"];
    hub: Hub;
};
