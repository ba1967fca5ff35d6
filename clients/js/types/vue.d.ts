/**
 * Channels, presence and the connection as Vue composables.
 *
 *     createApp(App).use(hubPlugin, hub).mount("#app");
 *
 *     const { data, error } = useChannel("prices", { last: 1 });
 *
 * A composable subscribes when its component is set up in a page and unsubscribes when its scope
 * ends. On a server it returns the values of before the first message.
 */
export type Hub = import("./hub.js").Hub;
export type PresenceState = import("./feed.js").PresenceState;
export type PatternOptions<T = any> = import("./feed.js").PatternOptions<T>;
export type TableOptions<T = any> = import("./feed.js").TableOptions<T>;
export type TableState<T = any> = import("./feed.js").TableState<T>;
export type ChannelOptions<T = any> = import("./feed.js").ChannelOptions<T>;
export type ChannelState<T = any> = import("./feed.js").ChannelState<T>;
export type ChannelName = import("vue").MaybeRefOrGetter<string | null | undefined>;
/** `app.use(hubPlugin, hub)` gives the hub to the composables of all components. */
export declare const hubPlugin: {
    /**
     * @param {import("vue").App} app
     * @param {Hub} hub
     */
    install: (app: import("vue").App, hub: Hub) => undefined;
};
/**
 * The hub that the application was given; throws where it was given none.
 * @returns {Hub}
 */
export declare function useHub(): Hub;
/**
 * The newest messages of a channel, as refs. Each component gets its own `last` or `since`, also
 * where another one listens to the same channel.
 * @template [T=any]
 * @param {ChannelName} channel nothing is subscribed to without one
 * @param {ChannelOptions<T>} [options]
 * @returns {import("vue").ToRefs<ChannelState<T>>}
 */
export declare function useChannel<T = any>(channel: ChannelName, options?: ChannelOptions<T>): import("vue").ToRefs<ChannelState<T>>;
/**
 * The newest messages of all channels that a pattern matches, now and later, as refs.
 * @template [T=any]
 * @param {ChannelName} pattern such as `prices:*`
 * @param {PatternOptions<T>} [options]
 * @returns {import("vue").ToRefs<ChannelState<T>>}
 */
export declare function usePattern<T = any>(pattern: ChannelName, options?: PatternOptions<T>): import("vue").ToRefs<ChannelState<T>>;
/**
 * The rows of a keyed channel, kept current, as refs.
 * @template [T=any]
 * @param {ChannelName} channel
 * @param {TableOptions<T>} [options]
 * @returns {import("vue").ToRefs<TableState<T>>}
 */
export declare function useTable<T = any>(channel: ChannelName, options?: TableOptions<T>): import("vue").ToRefs<TableState<T>>;
/**
 * The members of a channel that keeps presence, as refs.
 * @param {ChannelName} channel no members without one
 * @param {{ data?: import("vue").MaybeRefOrGetter<any> }} [options] the data that this member says of itself
 * @returns {import("vue").ToRefs<PresenceState>}
 */
export declare function usePresence(channel: ChannelName, { data, ...others }?: {
    data?: import("vue").MaybeRefOrGetter<any>;
}): import("vue").ToRefs<PresenceState>;
/**
 * How the connection is: `connecting`, `connected`, `waiting` or `closed`, and over which transport.
 * @returns {{
 *   state: import("vue").ShallowRef<Hub["state"]>,
 *   transport: import("vue").ShallowRef<Hub["transport"]>,
 *   hub: Hub,
 * }}
 */
export declare function useConnection(): {
    state: import("vue").ShallowRef<Hub["state"]>;
    transport: import("vue").ShallowRef<Hub["transport"]>;
    hub: Hub;
};
