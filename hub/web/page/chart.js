/**
 * A numeric field over time: its median, the 95th percentile, and how often it occurs.
 *
 * Not here: numbers of messages by level (histogram.js).
 */

import { axis, timeAxis } from "./histogram.js";
import { isAbort } from "./rpc.js";
import { brief, grouped } from "./text.js";
import * as time from "./time.js";

const BARS = 120;
const HEIGHT = 120;
const colourOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class Chart extends EventTarget {
  constructor(box, caption, rpc) {
    super();
    this.box = box;
    this.caption = caption;
    this.rpc = rpc;
    this.work = new AbortController();
    this.plot = null;
    this.value = null;
    this.isUtc = false;
    new ResizeObserver(() => this.plot && this.plot.setSize({ width: box.clientWidth, height: HEIGHT })).observe(box);
  }

  /** Show `field` of the messages that `filters` select; nothing without a field. */
  async show(filters, field) {
    this.work.abort();
    this.work = new AbortController();
    this.field = field;
    this.value = null;
    this.draw();
    if (!field) return;
    const { signal } = this.work;
    try {
      await this.rpc.stream("chart", { ...filters, field, bars: BARS }, (value) => {
        this.value = value;
        this.draw();
      }, { signal });
    } catch (error) {
      if (isAbort(error)) return;
      this.caption.textContent = error.message;
    }
  }

  draw() {
    this.plot?.destroy();
    this.plot = null;
    const { value } = this;
    this.caption.textContent = this.field ?? "";
    if (!value) return;
    const { begin_s: begin, step_s: step, count } = value;
    const xs = count.map((_, bar) => begin + bar * step);
    if (!xs.length) {
      this.caption.textContent = `${this.field}: no number in these messages`;
      return;
    }
    const line = (name, colour) => ({ label: name, stroke: colourOf(colour), width: 1.5, spanGaps: false, points: { show: count.length < 40, size: 4 } });
    this.plot = new uPlot(
      {
        width: Math.max(this.box.clientWidth, 100),
        height: HEIGHT,
        padding: [6, 0, 0, 0],
        legend: { show: false },
        cursor: { y: false, drag: { x: false, y: false } },
        scales: { x: { time: true }, count: { range: (_, __, max) => [0, (max || 1) * 4] } },
        tzDate: (seconds) => (this.isUtc ? uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC") : new Date(seconds * 1000)),
        axes: [timeAxis(this), { ...axis(52, 24), values: (_, splits) => splits.map(brief) }],
        series: [
          {},
          { scale: "count", fill: colourOf("--bar-none"), width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.92, 1000], align: 1 }) },
          line("p50", "--accent"),
          line("p95", "--bar-warning"),
        ],
        hooks: { setCursor: [({ cursor }) => this.#say(cursor.idx)] },
      },
      [xs, count, value.p50, value.p95],
      this.box,
    );
    this.#say(null);
  }

  #say(bar) {
    const { value } = this;
    if (bar === null || bar === undefined || !value.count[bar]) {
      const total = value.count.reduce((sum, each) => sum + each, 0);
      this.caption.textContent = `${this.field}: p50 and p95 of ${grouped(total)} values`;
      return;
    }
    const figures = ["min", "p50", "p95", "max"].map((name) => `${name} ${brief(value[name][bar])}`);
    this.caption.textContent = `${this.field}, ${time.whole((value.begin_s + bar * value.step_s) * 1000, this.isUtc, true)}: ${figures.join(", ")} (${grouped(value.count[bar])} values)`;
  }
}
