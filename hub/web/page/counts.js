/**
 * What is counted around the list, and in which order: the histogram, the chart, the facets.
 *
 * Always true: nothing is counted before the list is there, and one thing after the other, because each takes the hub's
 * time, except beside a histogram that takes long; when something else is asked for, what is being counted ends at once.
 */

import { isMoment, milliseconds, pause, soon } from "./time.js";

const EVERY_MS = 5000;

export class Counts {
  constructor(page) {
    this.page = page;
    this.turn = 0;
    this.counting = null;
    this.isDue = false;
    this.countedAt = 0; // the number of messages that had arrived then
  }

  /** End what is being counted, and mark what is shown as that of an earlier search. */
  age() {
    const { histogram, chart, facets } = this.page;
    this.turn += 1;
    this.isDue = true;
    for (const part of [histogram, chart, facets]) part.age();
  }

  /** Count what `filters` select. */
  begin(filters) {
    this.turn += 1;
    this.isDue = false;
    this.countedAt = this.page.live.arrived;
    this.counting = this.#count(filters, this.turn);
  }

  async #count(filters, turn) {
    const { histogram, facets, state } = this.page;
    const counted = histogram.show(filters, this.#range);
    await soon(counted);
    if (turn === this.turn) await this.page.showChart();
    if (turn === this.turn) await facets.show(filters, state.get("q"));
    await counted;
  }

  /** What the histogram is drawn over: what the journal holds, and the bounds that are given as times. */
  get #range() {
    const { list, state } = this.page;
    const seconds = (text) => (isMoment(text) ? milliseconds(text) / 1000 : undefined);
    return { ...list.range, from: seconds(state.get("from")), to: seconds(state.get("to")) };
  }

  /** While the list is followed, count again: rarely, where counting takes long. */
  async follow() {
    const { live, histogram, facets, state } = this.page;
    for (let round = 1; ; round += 1) {
      await this.counting;
      const [began, turn] = [performance.now(), this.turn];
      if (live.isOn && !document.hidden && live.arrived !== this.countedAt) {
        this.countedAt = live.arrived;
        await histogram.show(live.filters, this.#range);
        if (round % 4 === 0 && live.isOn && turn === this.turn) await facets.show(live.filters, state.get("q"));
      }
      await pause(Math.max(EVERY_MS, 20 * (performance.now() - began)));
    }
  }
}
