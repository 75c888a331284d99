/**
 * A numeric field over time: its median, the 95th percentile, and how often it occurs; or the number of messages. Both
 * also by a field: for each of its most frequent values, and for all others together.
 *
 * Not here: numbers of messages by level (histogram.js).
 */

import { html, nothing, render } from "./vendor/lit-html.js";
import { isAbort } from "./rpc.js";
import { brief, grouped, oneLine } from "./text.js";
import * as time from "./time.js";
import { axis, bars, colourOf, TimePlot } from "./timeplot.js";

const BARS = 120;
const HEIGHT = 120;
/** One for each value, and the last one for all others. */
const COLOURS = ["--accent", "--bar-warning", "--good", "--critical", "--bar-notice", "--muted"];
const VALUES = COLOURS.length - 1;
const POINTS_MAX = 40;

export class Chart extends TimePlot {
  constructor(box, caption, rpc, legend) {
    super(box, caption, rpc, HEIGHT);
    this.legend = legend;
  }

  /** Show `field` of the messages that `filters` select, or their number, by the field `by`; nothing without either. */
  async show(filters, field, by) {
    this.stop();
    [this.field, this.by, this.value] = [field, by, null];
    this.draw();
    if (!field && !by) return;
    let more = {};
    if (by) {
      const values = await this.#valuesOf(filters, by, this.work.signal);
      if (values === null) return;
      more = { by, values };
    }
    await this.request("chart", { ...filters, ...(field && { field }), ...more, bars: BARS });
  }

  /** Return the most frequent values of `by`; null if something else was asked for meanwhile, or there is a fault. */
  async #valuesOf(filters, by, signal) {
    let rows = [];
    try {
      await this.rpc.stream("counts", { ...filters, by: [by], limit: VALUES }, (value) => ({ rows } = value), { signal });
    } catch (error) {
      if (!isAbort(error)) this.ended(error);
      return null;
    }
    return rows.map(([[value]]) => value);
  }

  ended(error) {
    if (error) this.caption.textContent = error.message;
  }

  get #step() {
    return `, a point is ${time.duration(this.value.step_s)}`;
  }

  get #name() {
    return this.field || "messages";
  }

  draw() {
    this.clear();
    this.caption.textContent = this.field || (this.by ? "messages" : "");
    render(nothing, this.legend);
    const { value } = this;
    if (!value) return;
    if (value.begin_s === null) {
      this.caption.textContent = this.field ? `${this.field}: no number in these messages` : "no messages";
      return;
    }
    if (value.series) this.#drawSeries(value.series.filter(({ count }) => count.some((each) => each)));
    else this.#drawOne();
    this.#say(null);
  }

  #times(count) {
    return count.map((_, bar) => this.value.begin_s + bar * this.value.step_s);
  }

  #drawOne() {
    const { count, p50, p95 } = this.value;
    const counted = { ...bars(colourOf("--bar-none")), scale: "count" };
    this.#plot([counted, line("--accent", count), line("--bar-warning", count)], [this.#times(count), count, p50, p95]);
  }

  /** Draw a line for each value: the number of messages, or p50 and, dashed, p95. */
  #drawSeries(series) {
    const colours = series.map((each, index) => (each.is_others ? COLOURS.at(-1) : COLOURS[index]));
    const lines = series.flatMap((each, index) => {
      const whole = line(colours[index], each.count);
      return this.field ? [whole, { ...whole, dash: [4, 3], points: { show: false } }] : [whole];
    });
    const data = series.flatMap(({ count, p50, p95 }) => (this.field ? [p50, p95] : [count]));
    this.#plot(lines, [this.#times(series[0].count), ...data]);
    const name = ({ value, is_others: isOthers }) => (isOthers ? "all others" : value === null ? "(none)" : oneLine(value, 40) || '""');
    render(series.map((each, index) => html`<span><i .style=${`background: var(${colours[index]})`}></i><bdi>${name(each)}</bdi> ${brief(sum(each.count))}</span>`), this.legend);
  }

  #plot(series, data) {
    this.plotInto(
      {
        padding: [6, 0, 0, 0],
        cursor: { y: false, drag: { x: false, y: false } },
        scales: { x: { time: true }, y: { range: (_, min, max) => [Math.min(min ?? 0, 0), max || 1] }, count: { range: (_, __, max) => [0, (max || 1) * 4] } },
        axes: [this.timeAxis(), { ...axis(52, 24), values: (_, splits) => splits.map(brief) }],
        series: [{}, ...series],
        hooks: { setCursor: [({ cursor }) => this.#say(cursor.idx)] },
      },
      data,
    );
  }

  #say(bar) {
    const { value } = this;
    if (value.series) {
      const what = `${this.field ? `p50 and, dashed, p95 of ${grouped(value.values)} values` : grouped(value.values)}${this.#step}`;
      this.caption.textContent = bar === null || bar === undefined ? `${this.#name}: ${what}` : `${this.#name}, ${this.#when(bar)}`;
    } else if (bar === null || bar === undefined || !value.count[bar]) {
      this.caption.textContent = `${this.field}: p50 and p95 of ${grouped(sum(value.count))} values${this.#step}`;
    } else {
      const figures = ["min", "p50", "p95", "max"].map((name) => `${name} ${brief(value[name][bar])}`);
      this.caption.textContent = `${this.field}, ${this.#when(bar)}: ${figures.join(", ")} (${grouped(value.count[bar])} values)`;
    }
  }

  #when(bar) {
    return time.whole((this.value.begin_s + bar * this.value.step_s) * 1000, this.isUtc, true);
  }
}

const sum = (numbers) => numbers.reduce((total, each) => total + each, 0);

const line = (colour, { length }) => ({ stroke: colourOf(colour), width: 1.5, spanGaps: false, points: { show: length < POINTS_MAX, size: 4 } });
