/**
 * Follows the journal: new messages at the end of the list, at most ten times a second, at any rate.
 *
 * A quiet journal is followed by the method `tail`, so a message appears at once. If more arrives than anybody could
 * read, the stream is ended, and ten times a second the newest screen is fetched instead. What lies between is a row of
 * its own with its number; its cursor is kept, so that it can be read.
 *
 * Always true: no message is left out silently; memory and work are bounded, whatever the rate; after a broken
 * connection it goes on at its cursor.
 */

import { pageBefore } from "./pages.js";
import { BROKEN, isAbort } from "./rpc.js";
import { asRows } from "./rows.js";
import { pause } from "./time.js";

const FLUSH_MS = 100;
/** More than this in one flush is faster than the list should scroll: 5,000 a second. */
const FLUSH_MAX = 500;
/** Where the page draws nothing (a hidden tab), flushes come late. */
const PENDING_MAX = 2000;
/**
 * So many flushes in a row with half a screen or more: the stream may be far behind, and no faster because the hub or the
 * browser is busy. Where it is not, leaping shows the same messages.
 */
const BUSY_FLUSHES = 10;
const SCREEN = 100;
const CALM = 10;

/** Return the row that stands for what a tail has `missed`, before the row `first` if there is one. */
const gapOf = ({ missed, next }, first) => {
  const sequence = first ? first.sequence - 1 : next;
  return { sequence, gap: missed, after: sequence };
};

export class Live extends EventTarget {
  /** Sends the event `change` when it starts, stops, or has passed messages over. */
  constructor(list, rpc) {
    super();
    this.list = list;
    this.rpc = rpc;
    this.work = null;
    this.filters = {};
    this.passedOver = 0;
    this.arrived = 0;
  }

  get isOn() {
    return this.work !== null;
  }

  /** Follow what `filters` select, from the end of the list on. */
  start(filters) {
    this.stop();
    this.work = new AbortController();
    this.filters = filters;
    this.passedOver = 0;
    this.list.isFollowing = true;
    this.#run(filters, this.work.signal);
    this.dispatchEvent(new Event("change"));
  }

  stop() {
    if (!this.work) return;
    this.work.abort();
    this.work = null;
    this.list.isFollowing = false;
    this.list.rows.isEnd = false; // more may have arrived
    this.dispatchEvent(new Event("change"));
  }

  async #run(filters, signal) {
    const { rows, range } = this.list;
    let cursor = Math.max(rows.last ?? 0, range.last); // up to there the list has searched
    const report = (next) => (cursor = next);
    while (!signal.aborted) {
      try {
        await this.#tail(filters, cursor, report, signal);
        await this.#leap(filters, cursor, report, signal);
      } catch (error) {
        if (signal.aborted) return;
        if (error.code !== BROKEN && !isAbort(error)) {
          this.stop();
          this.dispatchEvent(new CustomEvent("failed", { detail: error }));
          return;
        }
        await pause(500);
      }
    }
  }

  /** Show what a stream brings; return when it is too fast. */
  async #tail(filters, cursor, report, signal) {
    const stream = new AbortController();
    let rows = [];
    let [timer, busy] = [0, 0];
    const flush = () => {
      timer = 0;
      busy = rows.length >= SCREEN / 2 ? busy + 1 : 0;
      const isFast = rows.length > FLUSH_MAX || busy >= BUSY_FLUSHES;
      if (!signal.aborted) this.#show(isFast ? this.#cut(rows) : rows);
      rows = [];
      if (isFast) stream.abort();
    };
    const end = () => stream.abort();
    signal.addEventListener("abort", end);
    try {
      await this.rpc.stream("tail", { ...filters, after: cursor }, (value) => {
        const found = asRows(value.messages);
        if (value.missed && found[0]?.message.tag !== "mpsr.loss") rows.push(gapOf(value, found[0]));
        rows.push(...found);
        report(value.next);
        if (rows.length && !timer) timer = setTimeout(flush, FLUSH_MS);
        if (rows.length > PENDING_MAX) stream.abort();
      }, { signal: stream.signal });
    } catch (error) {
      if (!stream.signal.aborted || signal.aborted) throw error;
    } finally {
      signal.removeEventListener("abort", end);
      clearTimeout(timer);
      if (rows.length && !signal.aborted) this.#show(this.#cut(rows));
    }
  }

  /** Return the newest screen of `rows`, with a gap in the place of the others. */
  #cut(rows) {
    const kept = rows.slice(-SCREEN);
    const count = rows.length - kept.length;
    if (count === 0) return rows;
    this.passedOver += count;
    this.arrived += count;
    return [{ sequence: rows[count - 1].sequence, gap: count, after: rows[0].sequence - 1 }, ...kept];
  }

  /** Fetch the newest screen, again and again; return when a stream is fast enough. */
  async #leap(filters, cursor, report, signal) {
    let calm = 0;
    while (!signal.aborted && calm < CALM) {
      const began = performance.now();
      const how = { count: SCREEN, signal, ageMs: FLUSH_MS }; // all pages that follow can have the same answer
      const { messages, isStart } = await pageBefore(this.rpc, { ...filters, after: cursor }, how);
      if (messages.length) {
        const [first, last] = [messages[0].sequence, messages.at(-1).sequence];
        const gap = isStart ? 0 : first - cursor - 1;
        this.passedOver += gap;
        this.arrived += gap;
        this.#show([...(gap ? [{ sequence: first - 1, gap, after: cursor }] : []), ...asRows(messages)]);
        cursor = last;
        report(cursor);
      }
      calm = isStart ? calm + 1 : 0;
      await pause(Math.max(FLUSH_MS - (performance.now() - began), 10));
    }
  }

  #show(rows) {
    if (!rows.length) return;
    this.arrived += rows.length;
    this.list.append(rows);
    this.dispatchEvent(new Event("change"));
  }
}
