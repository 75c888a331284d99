/**
 * One search of the list: finds what it shows first, and says how far it is.
 *
 * Always true: after `cancel`, nothing more is asked for, and what the hub still does for it is cancelled.
 *
 * Not here: pages (pages.js), what is done with the messages (list.js).
 */

import { pageAfter, searchBack } from "./pages.js";
import { milliseconds } from "./time.js";

export class Finding {
  /** `onProgress` is called when `share` has changed: the share of the journal that is searched. */
  constructor(rpc, filters, onProgress) {
    this.rpc = rpc;
    this.filters = filters;
    this.onProgress = onProgress;
    this.began = performance.now();
    this.share = 0;
    this.state = "running"; // or "done", "cancelled", "failed"
    this.work = new AbortController();
  }

  get isRunning() {
    return this.state === "running";
  }

  get signal() {
    return this.work.signal;
  }

  cancel() {
    if (this.isRunning) this.state = "cancelled";
    this.work.abort();
  }

  /** Return the first and the last sequence that the journal holds in the stretch of time, and when they were received. */
  async measure() {
    const { since, until } = this.filters;
    const bounds = { ...(since && { since }), ...(until && { until }) };
    const [newest, oldest] = await Promise.all([
      this.rpc.call("query", { ...bounds, last: 1 }, { signal: this.signal }),
      pageAfter(this.rpc, bounds, { after: 0, count: 1, signal: this.signal }),
    ]);
    const [[begin], [end]] = [oldest.messages, newest.messages];
    const received = begin && end ? [begin, end].map((message) => milliseconds(message.received) / 1000) : null;
    return { first: begin?.sequence ?? 1, last: end?.sequence ?? 0, received };
  }

  /** Find the newest `count` messages of a range; call `onPart` with some at a time, the newest first. Return `{isStart}`. */
  newest({ first, last }, count, onPart) {
    const take = (messages, low) => {
      onPart(messages);
      this.#progress((last + 1 - low) / (last + 1 - first));
    };
    return searchBack(this.rpc, this.filters, { first, before: last + 1, count, signal: this.signal, onPart: take });
  }

  /** Find messages around the sequence `at`, half of `count` on each side. Return `{messages, isStart, isEnd}`. */
  async around({ first, last }, at, count) {
    const span = Math.max(last - first, 1);
    const half = { count: count / 2, signal: this.signal };
    const onPage = (next) => this.#progress((next - at) / span);
    const after = await pageAfter(this.rpc, this.filters, { after: at - 1, ...half, onPage });
    const onPart = (_, low) => this.#progress((last - low) / span);
    const before = await searchBack(this.rpc, this.filters, { first, before: at, ...half, onPart });
    return { messages: [...before.messages, ...after.messages], isStart: before.isStart, isEnd: after.isEnd };
  }

  #progress(share) {
    this.share = Math.min(Math.max(share, 0), 1);
    this.onProgress();
  }
}
