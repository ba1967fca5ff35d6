/**
 * The replay of a start or a resume, as one message (`joined`).
 *
 * The hub says with the start how many offsets follow from history, so the last one of them is
 * known. Where history does not reach back that far, the gap that comes first moves it. Should it
 * never come, nothing waits for it for long: the joined part is told, and the rest comes singly.
 */
export type Item = any;
/** @typedef {any} Item a message or a gap */
declare const PARTS: unique symbol;
/**
 * The offset that it begins with.
 * @param {Item} item
 * @returns {number}
 */
export declare const firstOf: ({ offset, [PARTS]: parts }: Item) => number;
/**
 * The part of a joined message that is behind an offset.
 * @param {Item} item
 * @param {number} offset
 */
export declare const joinBehind: (item: Item, offset: number) => any;
/**
 * A page of history, joined where all of it is text.
 * @param {Item[]} found
 */
export declare const joinPage: (found: Item[]) => any[];
/** @param {(item: Item) => void} hand where each has its turn */
export declare function openJoiner(hand: (item: Item) => void): {
    cut: () => void;
    /**
     * @param {string} position before what is replayed
     * @param {number} [replayed]
     */
    starts(position: string, replayed?: number): void;
    /** @param {Item} item */
    push(item: Item): void;
};
export {};
