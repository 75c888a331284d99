/**
 * The rows that are in memory: a stretch of the result, which grows at one end and shrinks at the other.
 *
 * A row is `{sequence, message}`, or `{sequence, gap, after}`: a stretch of a live view that was passed over, with the
 * most messages that it can have, and the sequence after which it begins.
 *
 * Always true: sequences rise; there are at most `ROWS_MAX` rows with about `CHARS_MAX` characters.
 *
 * Not here: how they look (row.js), which are visible (list.js), where they come from (pages.js, live.js).
 */

export const ROWS_MAX = 4000;
/** About 50 MB of memory when it is taken apart. */
export const CHARS_MAX = 8 << 20;

export class Rows {
  constructor() {
    this.clear();
  }

  clear() {
    this.rows = [];
    this.sizes = [];
    this.chars = 0;
    this.isStart = false;
    this.isEnd = false;
  }

  get length() {
    return this.rows.length;
  }

  get first() {
    return this.rows[0]?.sequence;
  }

  get last() {
    return this.rows.at(-1)?.sequence;
  }

  at(index) {
    return this.rows[index];
  }

  /** Return the index of the first row with this sequence or a later one. */
  indexOf(sequence) {
    let [low, high] = [0, this.rows.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.rows[middle].sequence < sequence) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Add rows at the end; return how many were dropped at the beginning. */
  append(rows) {
    this.#put(rows, "push");
    let count = 0;
    while (this.#isFull(count)) this.chars -= this.sizes[count++];
    if (count) this.isStart = false;
    this.rows.splice(0, count);
    this.sizes.splice(0, count);
    return count;
  }

  /** Add rows at the beginning; drop as many at the end as needed. */
  prepend(rows) {
    this.#put(rows, "unshift");
    while (this.#isFull(0)) {
      this.rows.pop();
      this.chars -= this.sizes.pop();
      this.isEnd = false;
    }
  }

  #put(rows, how) {
    const sizes = rows.map(({ message }) => (message ? JSON.stringify(message).length : 0));
    this.rows[how](...rows);
    this.sizes[how](...sizes);
    this.chars += sizes.reduce((sum, size) => sum + size, 0);
  }

  #isFull(dropped) {
    const count = this.rows.length - dropped;
    return count > ROWS_MAX || (this.chars > CHARS_MAX && count > 200);
  }
}

/** Return messages as rows. */
export const asRows = (messages) => messages.map((message) => ({ sequence: message.sequence, message }));
