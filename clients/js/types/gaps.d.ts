/**
 * Rules about missing messages in a queue: which gaps history may fill, which part of an item is
 * behind an offset, and how two neighbours become one gap where the queue is full.
 */
/**
 * Whether a gap is to be asked of history. That tells of no filter.
 * @param {any} gap
 * @param {{ filter?: object, fill?: boolean }} on the options of the subscription
 */
export declare const isFillable: ({ ask, from, reason }: any, { filter, fill }: {
    filter?: object;
    fill?: boolean;
}) => any;
/**
 * The part of a message or gap that is behind an offset; nothing where all of it is before.
 * @param {any} item
 * @param {number} offset
 */
export declare const behind: (item: any, offset: number) => any;
/**
 * Make one gap of the two oldest neighbours in a channel.
 * @param {any[]} queue
 */
export declare function shrink(queue: any[]): undefined;
