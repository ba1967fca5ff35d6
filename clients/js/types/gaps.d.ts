/**
 * What is missing of a queue of messages and gaps: which gaps history may fill, what of an item is
 * behind an offset, and how two neighbours become one gap where the queue is full.
 */
/**
 * Whether a gap is to be asked of history. That tells of no filter.
 * @param {any} gap
 * @param {{ filter?: object, fill?: boolean }} on what the subscription asked for
 */
export declare const isFillable: ({ ask, from, reason }: any, { filter, fill }: {
    filter?: object;
    fill?: boolean;
}) => any;
/**
 * What of a message or gap is behind an offset; nothing where all of it is before.
 * @param {any} item
 * @param {number} offset
 */
export declare const behind: (item: any, offset: number) => any;
/**
 * Make one gap of the two oldest neighbours in a channel.
 * @param {any[]} queue
 */
export declare function shrink(queue: any[]): undefined;
