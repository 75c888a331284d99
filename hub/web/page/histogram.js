/**
 * The number of messages over time, stacked by level, with a brush.
 *
 * Dragging over bars selects a stretch of time; a click goes to the messages of that time.
 *
 * Always true: a level of `error` or worse that occurs in a bar is visible there, however few messages it has.
 *
 * Not here: numeric fields over time (chart.js).
 */

import { LEVELS } from "./levels.js";
import { brief, grouped } from "./text.js";
import * as time from "./time.js";
import { axis, bars, colourOf, TimePlot } from "./timeplot.js";

export const BARS = 240;
const HEIGHT = 88;
/** The part of the height that an error has at least. */
const ERROR_SHARE = 0.04;

/** From the bottom up: what is worst first. */
const ORDER = [...LEVELS.slice(1).reverse(), "trace", null];
const colourOfLevel = (level) => colourOf(`--bar-${level ?? "none"}`);
const isBad = (level) => LEVELS.indexOf(level) >= LEVELS.indexOf("error");

export class Histogram extends TimePlot {
  /** Sends `brush` with `{from, to}` (RFC 3339), `go` with a time in seconds, `failed`, and `again` to count again. */
  constructor(box, caption, rpc) {
    super(box, caption, rpc, HEIGHT);
    this.marked = 0;
    this.fault = "";
    this.range = {};
  }

  get isPartial() {
    return this.value?.is_final === false;
  }

  /** Count what `filters` select, in a journal with this `range`; return when all is counted. */
  async show(filters, range = {}) {
    this.fault = "";
    this.range = range;
    this.caption.classList.add("busy");
    const zone = this.isUtc ? 0 : -60 * new Date().getTimezoneOffset();
    await this.request("timeline", { ...filters, bars: BARS, zone_s: zone });
  }

  take(value) {
    super.take(value);
    this.dispatchEvent(new Event("counted"));
  }

  ended(error) {
    this.caption.classList.remove("busy");
    if (!error) return;
    this.fault = error.message;
    this.#say();
    this.dispatchEvent(new CustomEvent("failed", { detail: error }));
  }

  /** Show where the list is: a time in seconds since the epoch. */
  mark(seconds) {
    if (this.marked === seconds) return;
    this.marked = seconds;
    this.plot?.redraw(false, false);
  }

  /** Draw again, for example because the theme has changed. */
  draw() {
    this.clear();
    this.#say();
    this.box.classList.toggle("partial", this.isPartial);
    if (!this.value?.counts.length || !this.value.messages) return;
    const { counts, levels } = this.value;
    const present = ORDER.filter((level) => levels.includes(level));
    const rows = present.map((level) => counts[levels.indexOf(level)]);
    const stacked = stackOf(rows, present);
    const xs = rows[0].map((_, bar) => this.value.begin_s + bar * this.value.step_s);
    const span = this.#span(xs[0], xs.at(-1) + this.value.step_s);
    if (xs[0] > span[0] || xs.at(-1) + this.value.step_s < span[1]) { // a bar is as wide as the distance to the next
      xs.push(xs.at(-1) + this.value.step_s);
      for (const row of stacked) row.push(null);
    }
    const series = present.map((level) => bars(colourOfLevel(level)));
    // The highest first: the lower ones are drawn over it.
    this.plotInto(this.#options(series.reverse(), span), [xs, ...stacked.reverse()]);
    this.box.querySelector(".u-over").dataset.ready = "true";
  }

  #options(series, span) {
    return {
      padding: [4, 0, 0, 0],
      cursor: { y: false, points: { show: false }, drag: { x: true, y: false, setScale: false, dist: 4 } },
      scales: { x: { time: true, range: span }, y: { range: (_, __, max) => [0, max || 1] } },
      axes: [this.timeAxis(), { ...axis(44, 22), values: (_, splits) => splits.map((each) => (Number.isInteger(each) ? brief(each) : "")) }],
      series: [{}, ...series],
      hooks: {
        setCursor: [(plot) => this.#hover(plot)],
        setSelect: [(plot) => this.#select(plot)],
        draw: [(plot) => this.#drawMark(plot)],
        ready: [(plot) => plot.over.addEventListener("click", () => this.#click(plot))],
      },
    };
  }

  /**
   * Return from when to when the plot is: over the period that is asked for; while it is counted, over all of the
   * journal, so that nothing moves.
   */
  #span(begin, end) {
    const { received, from, to } = this.range;
    const [first, last] = this.isPartial && received ? received : [begin, end];
    return [Math.min(begin, from ?? first), Math.max(end, to ?? last)];
  }

  #hover(plot) {
    const bar = plot.cursor.left < 0 ? null : this.#barAt(plot.posToVal(plot.cursor.left, "x"));
    this.#say(bar);
  }

  #barAt(seconds) {
    const bar = Math.floor((seconds - this.value.begin_s) / this.value.step_s);
    return bar >= 0 && bar < this.value.counts[0].length ? bar : null;
  }

  /** Write what the bars stand for, or one of them. */
  #say(bar = null) {
    const { value } = this;
    if (this.fault) this.#offerAgain();
    else if (!value) this.caption.textContent = "";
    else if (bar === null) {
      if (this.isPartial && !value.messages) {
        this.caption.textContent = "counting…";
        return;
      }
      const unit = value.messages === 1 ? "message" : "messages";
      const step = value.messages ? `, a bar is ${time.duration(value.step_s)}` : "";
      this.caption.textContent = `${this.isPartial ? "so far " : ""}${grouped(value.messages)} ${unit}${step}`;
    } else {
      const from = value.begin_s + bar * value.step_s;
      const sums = value.levels.map((level, index) => [level ?? "no level", value.counts[index][bar]]).filter(([, count]) => count);
      const total = sums.reduce((sum, [, count]) => sum + count, 0);
      const parts = sums.reverse().map(([level, count]) => `${grouped(count)} ${level}`);
      const end = time.parts((from + value.step_s) * 1000, this.isUtc).clock.slice(0, 8);
      this.caption.textContent = `${time.whole(from * 1000, this.isUtc, true)} – ${end}: ${grouped(total)}${parts.length ? ` (${parts.join(", ")})` : ""}`;
    }
    this.box.setAttribute("aria-label", `Messages over time: ${this.caption.textContent}`);
  }

  #offerAgain() {
    const again = Object.assign(document.createElement("button"), { className: "link", textContent: "Count again" });
    again.addEventListener("click", () => this.dispatchEvent(new Event("again")));
    this.caption.replaceChildren(`${this.fault} `, again);
  }

  #select(plot) {
    const { left, width } = plot.select;
    if (width < 4) return;
    const [from, to] = [plot.posToVal(left, "x"), plot.posToVal(left + width, "x")];
    plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this.isBrushed = true;
    this.dispatchEvent(new CustomEvent("brush", { detail: { from: time.rfc3339(from), to: time.rfc3339(to) } }));
  }

  #click(plot) {
    if (this.isBrushed) {
      this.isBrushed = false; // the click that ends a drag
      return;
    }
    const bar = this.#barAt(plot.posToVal(plot.cursor.left, "x"));
    if (bar !== null) this.dispatchEvent(new CustomEvent("go", { detail: this.value.begin_s + bar * this.value.step_s }));
  }

  #drawMark(plot) {
    if (!this.marked) return;
    const x = plot.valToPos(this.marked, "x", true);
    if (x < plot.bbox.left || x > plot.bbox.left + plot.bbox.width) return;
    const { ctx } = plot;
    ctx.save();
    ctx.fillStyle = colourOf("--accent");
    ctx.fillRect(Math.round(x) - devicePixelRatio, plot.bbox.top, 2 * devicePixelRatio, plot.bbox.height);
    ctx.restore();
  }
}

/** Return for each row the height of its upper edge; errors have a height that is seen. */
function stackOf(rows, levels) {
  const totals = rows[0].map((_, bar) => rows.reduce((sum, row) => sum + row[bar], 0));
  const least = Math.max(...totals) * ERROR_SHARE;
  const below = totals.map(() => 0);
  return rows.map((row, index) =>
    row.map((count, bar) => {
      if (count) below[bar] += isBad(levels[index]) ? Math.max(count, least) : count;
      return count ? below[bar] : null;
    }),
  );
}
