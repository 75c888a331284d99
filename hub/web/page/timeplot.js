/**
 * What the histogram and the chart share: a plot over time whose values are streamed by the hub.
 *
 * The hub answers in stages, and each value replaces the one before. A new request replaces the one that is running.
 * A subclass has `draw()`, and `ended(error)`, which is called when its request ends: with null after the last value.
 * It is not called for a request that was replaced.
 *
 * Not here: numbers of messages by level (histogram.js), numeric fields (chart.js).
 */

import { isAbort } from "./rpc.js";
import * as time from "./time.js";

export class TimePlot extends EventTarget {
  constructor(box, caption, rpc, height) {
    super();
    this.box = box;
    this.caption = caption;
    this.rpc = rpc;
    this.height = height;
    this.work = new AbortController();
    this.value = null;
    this.plot = null;
    this.isUtc = false;
    this.isStale = false;
    new ResizeObserver(() => this.#resize()).observe(box);
  }

  /** End the request that is running. */
  stop() {
    this.work.abort();
    this.work = new AbortController();
  }

  /** End the request that is running, and mark what is drawn as that of an earlier query. */
  age() {
    this.stop();
    this.#mark(true);
  }

  #mark(isStale) {
    this.isStale = isStale;
    for (const part of [this.box, this.caption]) part.classList.toggle("stale", isStale);
  }

  /** Call `method`, and draw each value that it streams. */
  async request(method, parameters) {
    this.stop();
    const { signal } = this.work;
    let fault = null;
    try {
      await this.rpc.stream(method, parameters, (value) => this.take(value), { signal });
    } catch (error) {
      if (isAbort(error)) return;
      fault = error;
      this.caption.classList.remove("stale"); // it says what has failed
    }
    this.ended(fault);
  }

  take(value) {
    this.value = value;
    this.#mark(false);
    this.draw();
  }

  /** Remove what is drawn. */
  clear() {
    this.plot?.destroy();
    this.plot = null;
  }

  /** Draw `data` as uPlot's `options` describe, at the size of the box and in its zone. */
  plotInto(options, data) {
    const shared = {
      width: Math.max(this.box.clientWidth, 100),
      height: this.height,
      legend: { show: false },
      tzDate: (seconds) => (this.isUtc ? uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC") : new Date(seconds * 1000)),
    };
    this.plot = new uPlot({ ...shared, ...options }, data, this.box);
  }

  /** The axis of times: clock times, and the day where one begins; none that would be cut off at the right. */
  timeAxis() {
    const text = (seconds, step) => {
      const { day, clock } = time.parts(seconds * 1000, this.isUtc);
      if (step >= 86_400 || clock.startsWith("00:00:00")) return day.slice(step >= 86_400 * 28 ? 0 : 5);
      return clock.slice(0, step < 60 ? 8 : 5);
    };
    const values = ({ scales: { x }, width }, splits, __, ___, step) => {
      const last = x.max - ((x.max - x.min) * LABEL_PX) / 2 / width;
      return splits.map((each) => (each <= last ? text(each, step) : ""));
    };
    return { ...axis(20, 84), incrs: [...STEPS_S, ...DAYS.map((days) => days * 86_400)], values };
  }

  #resize() {
    if (this.plot && this.box.clientWidth) this.plot.setSize({ width: this.box.clientWidth, height: this.height });
  }
}

/** A colour, or another property, of the theme in use. */
export const colourOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** An axis in the colours of the theme. */
export function axis(size, space) {
  const font = `11px ${colourOf("--font")}`;
  return { stroke: colourOf("--muted"), grid: { stroke: colourOf("--line"), width: 1 }, ticks: { show: false }, size, space, font, gap: 4 };
}

/** A series of bars. */
export const bars = (fill) => ({ fill, width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.92, 1000], align: 1 }) });

const LABEL_PX = 48;

/** From a second to a year: the hub has no shorter step. */
const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200];
const DAYS = [1, 2, 7, 14, 28, 91, 182, 365];
