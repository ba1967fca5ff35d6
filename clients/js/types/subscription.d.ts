/**
 * The subscription that `hub.subscribe` hands out: callbacks, and messages for `for await`.
 *
 * Messages and gaps stand in one queue, so the application hears of a gap exactly where the
 * messages would have been. With `fill` a gap that history may still have is asked for when its
 * turn comes; messages that arrive meanwhile wait behind it. So are those that a later subscription
 * to a channel wants by `since` or `last`, and that the stream passed before it came: subscribed with `last: 2` at
 * offset 40, it asks history for 39 and 40 and then goes on with 41. The queue has a limit, because
 * one without would grow until the page dies: a loop that is slower than its channel loses the
 * oldest, which become a gap with reason `client`.
 */
export type HubError = import("./errors.js").HubError;
export type PublishOptions = import("./publishing.js").PublishOptions;
export type Published = import("./publishing.js").Published;
export type Message<T = any> = {
    channel: string;
    data: T;
    epoch: string;
    /**
     * `epoch:offset`, for `since`
     */
    position: string;
    /**
     * missing where a publication came by plain Redis PUBLISH
     */
    offset?: number;
    key?: string;
    /**
     * milliseconds since 1970 UTC
     */
    time?: number;
    /**
     * the token subject of the session that published it
     */
    from?: string;
    tags?: Record<string, string | number | boolean>;
    /**
     * it takes the row of its key away
     */
    remove?: boolean;
    /**
     * it is the last one of its channel
     */
    end?: boolean;
    /**
     * it is the answer of `getState`
     */
    state?: boolean;
    /**
     * of so many replayed messages it is made: `data` is theirs, one after the other
     */
    joined?: number;
};
export type Gap = {
    channel: string;
    reason: "slow" | "conflated" | "broker" | "expired" | "invalid" | "reset" | "client";
    epoch?: string;
    /**
     * first missing offset; none at a `reset`
     */
    from?: number;
    /**
     * last missing offset; none at a `reset`
     */
    to?: number;
    /**
     * after a `reset`: where the stream continues
     */
    position?: string;
    /**
     * how many publications without an offset were dropped
     */
    unsequenced?: number;
};
export type Subscribed = {
    channel: string;
    position: string;
    recovered: boolean;
    replayed: number;
    /**
     * the answer of the application that the hub asks
     */
    data?: any;
};
export type Presence = {
    /**
     * at a `presence_reset` some were lost: ask again
     */
    op: "join" | "leave" | "update" | "presence_reset";
    channel: string;
    member?: Record<string, any>;
};
export type OnMessage<T = any> = (message: Message<T>) => void;
export type SubscribeOptions = {
    /**
     * where it is not an argument of its own
     */
    onMessage?: OnMessage<any>;
    /**
     * resume after this position, `epoch:offset`
     */
    since?: string;
    /**
     * begin with the newest n publications; `since` wins over it
     */
    last?: number;
    /**
     * get from history the messages that a slow reader missed, in order
     */
    fill?: boolean;
    /**
     * only messages with such tags, as `{ league: "nba" }`;
     * the same for all that get messages of a channel, of which later ones begin with the next message
     */
    filter?: Record<string, any>;
    /**
     * resolves with `{ data, position }`, the application's own state as
     * of a position; asked at the start and whenever messages are missing, told as a message with
     * `state: true` before those behind that position
     */
    getState?: () => any;
    /**
     * the newest of each key, or of the channel, at most that often; as the
     * first that gets messages of a channel wants it, and refused to one that wants them more often
     */
    everyMs?: number;
    /**
     * the data that the member says of itself, 4 KiB of JSON at
     * most: that of the newest subscription to a channel
     */
    presence?: {
        data: any;
    };
    /**
     * unsubscribes when aborted
     */
    signal?: AbortSignal;
    onGap?: (gap: Gap) => void;
    /**
     * goes along with any other subscription to the
     * channel, where nothing takes messages here
     */
    onPresence?: (presence: Presence) => void;
    /**
     * rows of a keyed channel first, and again where history cannot make a
     * resume whole; the same for all that get messages of a channel
     */
    state?: boolean;
    /**
     * the replay of a start or a resume comes as one message, whose `data` is that
     * of all, one after the other, where all of it is text; without `filter` and `state`
     */
    joined?: boolean;
    /**
     * gets the rows; messages follow them
     */
    onState?: (state: Rows<any>) => void;
    /**
     * after every (re)connect
     */
    onSubscribed?: (subscribed: Subscribed) => void;
    onError?: (error: HubError) => void;
};
export type PatternOptions = Omit<SubscribeOptions, "since" | "presence" | "everyMs" | "getState" | "state" | "onState" | "joined"> & {
    since?: Record<string, string>;
};
export type Rows<T = any> = {
    channel: string;
    position: string;
    /**
     * the newest message of each key, in the order of the keys
     */
    rows: Message<T>[];
    /**
     * whether further rows as of the same position follow
     */
    more: boolean;
    /**
     * whether the table begins anew: forget the rows that came so far
     */
    begins: boolean;
    /**
     * rows that the hub let go of for want of room
     */
    dropped?: number;
};
export type Subscription<T = any> = {
    channel: string;
    positions: Record<string, string>;
    publish: (data: unknown, options?: PublishOptions) => Promise<Published>;
    unsubscribe: () => void;
    [Symbol.asyncIterator]: () => AsyncGenerator<Message<T>, void, void>;
};
export type Member = {
    subscription: Subscription;
    /**
     * of a later subscription:
     * the stream goes on after `from` for it, and `head` is the newest offset
     */
    begin: (epoch: string, from: number, head: number) => void;
    push: (op: string, item: any) => void;
    /**
     * whether it wants presence alone, in whatever way messages come
     */
    isBare: () => boolean;
    /**
     * the connection is over; whether it goes on with the next
     */
    pause: (error?: HubError) => boolean;
    /**
     * no more messages; a loop ends, or throws `error`;
     * 1: a loop ends behind all that came
     */
    end: (error?: HubError | 1) => void;
};
export type Listening = Omit<SubscribeOptions, "since"> & {
    since?: any;
};
export type Owner = {
    leave: (member: Member) => void;
    /**
     * why its messages cannot come
     */
    conflict: () => HubError | undefined;
    request: (command: Record<string, any>) => Promise<any>;
};
/**
 * @param {Owner} owner
 * @param {string} channel
 * @param {Listening} on
 * @returns {Member}
 */
export declare function openSubscription({ leave, request, conflict }: Owner, channel: string, on: Listening): Member;
