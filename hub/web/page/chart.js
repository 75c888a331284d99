/**
 * A numeric field over time: its median, the 95th percentile, and how often it occurs.
 *
 * Not here: numbers of messages by level (histogram.js).
 */

import { brief, grouped } from "./text.js";
import * as time from "./time.js";
import { axis, bars, colourOf, TimePlot } from "./timeplot.js";

const BARS = 120;
const HEIGHT = 120;

export class Chart extends TimePlot {
  constructor(box, caption, rpc) {
    super(box, caption, rpc, HEIGHT);
  }

  /** Show `field` of the messages that `filters` select; nothing without a field. */
  async show(filters, field) {
    this.stop();
    this.field = field;
    this.value = null;
    this.draw();
    if (field) await this.request("chart", { ...filters, field, bars: BARS });
  }

  ended(error) {
    if (error) this.caption.textContent = error.message;
  }

  draw() {
    this.clear();
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
    this.plotInto(
      {
        padding: [6, 0, 0, 0],
        cursor: { y: false, drag: { x: false, y: false } },
        scales: { x: { time: true }, count: { range: (_, __, max) => [0, (max || 1) * 4] } },
        axes: [this.timeAxis(), { ...axis(52, 24), values: (_, splits) => splits.map(brief) }],
        series: [{}, { ...bars(colourOf("--bar-none")), scale: "count" }, line("p50", "--accent"), line("p95", "--bar-warning")],
        hooks: { setCursor: [({ cursor }) => this.#say(cursor.idx)] },
      },
      [xs, count, value.p50, value.p95],
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
