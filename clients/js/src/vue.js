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

import { inject, onScopeDispose, shallowReactive, shallowRef, toRefs, toValue, watch } from "vue";
import { followChannel, followPresence, followTable, NO_ROWS, NOBODY, NOTHING } from "./feed.js";

/** @typedef {import("./hub.js").Hub} Hub */
/** @typedef {import("./feed.js").PresenceState} PresenceState */
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
/** @typedef {import("vue").MaybeRefOrGetter<string | null | undefined>} ChannelName */

/** @type {import("vue").InjectionKey<Hub>} */
const KEY = Symbol("broadcast hub");

/** `app.use(hubPlugin, hub)` gives the hub to the composables of all components. */
export const hubPlugin = {
  /**
   * @param {import("vue").App} app
   * @param {Hub} hub
   */
  install: (app, hub) => void app.provide(KEY, hub),
};

/**
 * The hub that the application was given; throws where it was given none.
 * @returns {Hub}
 */
export function useHub() {
  const hub = inject(KEY, undefined);
  if (!hub) throw new Error("no hub here: app.use(hubPlugin, new Hub(url))");
  return hub;
}

/**
 * Follow `channel`, and another one when it changes, until the scope ends.
 * @param {ChannelName} channel
 * @param {object} state set back with each change of the channel
 * @param {object} empty
 * @param {(channel: string) => () => void} follow
 */
function following(channel, state, empty, follow) {
  if (!globalThis.document) return; // a server renders: nothing would unsubscribe
  watch(
    () => toValue(channel),
    (name, _, onCleanup) => {
      Object.assign(state, empty);
      if (name != null) onCleanup(follow(name));
    },
    { immediate: true },
  );
}

/**
 * @template {object} State
 * @param {ChannelName} name
 * @param {any} options
 * @param {State} empty
 * @param {(hub: Hub, name: string, options: any, change: (state: any) => void) => () => void} follow
 * @returns {import("vue").ToRefs<State>}
 */
function refs(name, options, empty, follow) {
  const hub = useHub();
  const state = shallowReactive({ ...empty });
  following(name, state, empty, (found) => follow(hub, found, options, (next) => Object.assign(state, next)));
  return toRefs(state);
}

/**
 * The newest messages of a channel, as refs. Each component gets its own `last` or `since`, also
 * where another one listens to the same channel.
 * @template [T=any]
 * @param {ChannelName} channel nothing is subscribed to without one
 * @param {ChannelOptions<T>} [options]
 * @returns {import("vue").ToRefs<ChannelState<T>>}
 */
export function useChannel(channel, options = {}) {
  return refs(channel, options, NOTHING, followChannel);
}

/**
 * The newest messages of all channels that a pattern matches, now and later, as refs.
 * @template [T=any]
 * @param {ChannelName} pattern such as `prices:*`
 * @param {PatternOptions<T>} [options]
 * @returns {import("vue").ToRefs<ChannelState<T>>}
 */
export function usePattern(pattern, options = {}) {
  return refs(pattern, options, NOTHING, (hub, name, on, change) =>
    followChannel(hub, name, on, change, "subscribePattern"),
  );
}

/**
 * The rows of a keyed channel, kept current, as refs.
 * @template [T=any]
 * @param {ChannelName} channel
 * @param {TableOptions<T>} [options]
 * @returns {import("vue").ToRefs<TableState<T>>}
 */
export function useTable(channel, options = {}) {
  return refs(channel, options, NO_ROWS, followTable);
}

/**
 * The members of a channel that keeps presence, as refs.
 * @param {ChannelName} channel no members without one
 * @param {{ data?: import("vue").MaybeRefOrGetter<any> }} [options] the data that this member says of itself
 * @returns {import("vue").ToRefs<PresenceState>}
 */
export function usePresence(channel, { data, ...others } = {}) {
  const hub = useHub();
  const state = shallowReactive({ ...NOBODY });
  following(channel, state, NOBODY, (name) =>
    followPresence(hub, name, (next) => Object.assign(state, next), { ...others, data: toValue(data) }),
  );
  if (globalThis.document && data !== undefined)
    watch(
      () => JSON.stringify(toValue(data)),
      (said) => {
        const name = toValue(channel);
        const failed = (/** @type {any} */ error) => Object.assign(state, { error });
        if (name != null) hub.presenceUpdate(name, JSON.parse(said ?? "null")).catch(failed);
      },
    );
  return toRefs(state);
}

/**
 * How the connection is: `connecting`, `connected`, `waiting` or `closed`, and over which transport.
 * @returns {{
 *   state: import("vue").ShallowRef<Hub["state"]>,
 *   transport: import("vue").ShallowRef<Hub["transport"]>,
 *   hub: Hub,
 * }}
 */
export function useConnection() {
  const hub = useHub();
  const state = shallowRef(hub.state);
  const transport = shallowRef(hub.transport);
  onScopeDispose(
    hub.on("state", (now) => {
      state.value = now.state;
      transport.value = now.transport;
    }),
  );
  return { state, transport, hub };
}
