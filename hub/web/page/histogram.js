/**
 * The number of messages over time, stacked by level, with a brush.
 *
 * The hub answers in stages: each replaces the one before. Dragging over bars selects a stretch of time; a click goes to
 * the messages of that time.
 *
 * Always true: a level of `error` or worse that occurs in a bar is visible there, however few messages it has.
 *
 * Not here: numeric fields over time (chart.js).
 */

import { isAbort } from "./rpc.js";
import { LEVELS } from "./levels.js";
import { brief, grouped } from "./text.js";
import * as time from "./time.js";

export const BARS = 240;
const HEIGHT = 88;
/** The part of the height that an error has at least. */
const ERROR_SHARE = 0.04;
const colourOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** From the bottom up: what is worst first. */
const ORDER = [...LEVELS.slice(1).reverse(), "trace", null];
const colourOfLevel = (level) => colourOf(`--bar-${level ?? "none"}`);
const isBad = (level) => LEVELS.indexOf(level) >= LEVELS.indexOf("error");

export class Histogram extends EventTarget {
  /** Sends `brush` with `{from, to}` (RFC 3339), `go` with a time in seconds, and `failed`. */
  constructor(box, caption, rpc) {
    super();
    this.box = box;
    this.caption = caption;
    this.rpc = rpc;
    this.work = new AbortController();
    this.value = null;
    this.plot = null;
    this.isUtc = false;
    this.marked = 0;
    new ResizeObserver(() => this.#resize()).observe(box);
  }

  /** Count what `filters` select. */
  async show(filters) {
    this.work.abort();
    this.work = new AbortController();
    const { signal } = this.work;
    this.caption.classList.add("busy");
    try {
      const zone = this.isUtc ? 0 : -60 * new Date().getTimezoneOffset();
      await this.rpc.stream("timeline", { ...filters, bars: BARS, zone_s: zone }, (value) => this.#take(value), { signal });
      this.caption.classList.remove("busy");
    } catch (error) {
      if (isAbort(error)) return;
      this.caption.classList.remove("busy");
      this.dispatchEvent(new CustomEvent("failed", { detail: error }));
    }
  }

  #take(value) {
    this.value = value;
    this.draw();
    this.dispatchEvent(new Event("counted"));
  }

  /** Show where the list is: a time in seconds since the epoch. */
  mark(seconds) {
    if (this.marked === seconds) return;
    this.marked = seconds;
    this.plot?.redraw(false, false);
  }

  /** Draw again, for example because the theme has changed. */
  draw() {
    this.plot?.destroy();
    this.plot = null;
    this.#say();
    if (!this.value?.counts.length || !this.value.messages) return;
    const { counts, levels } = this.value;
    const present = ORDER.filter((level) => levels.includes(level));
    const rows = present.map((level) => counts[levels.indexOf(level)]);
    const stacked = stackOf(rows, present);
    const xs = rows[0].map((_, bar) => this.value.begin_s + bar * this.value.step_s);
    const series = present.map((level) => ({
      fill: colourOfLevel(level),
      width: 0,
      points: { show: false },
      paths: uPlot.paths.bars({ size: [0.92, 1000], align: 1 }),
    }));
    // The highest first: the lower ones are drawn over it.
    this.plot = new uPlot(this.#options(series.reverse(), xs), [xs, ...stacked.reverse()], this.box);
    this.box.querySelector(".u-over").dataset.ready = "true";
  }

  #options(series, xs) {
    const step = this.value.step_s;
    return {
      width: Math.max(this.box.clientWidth, 100),
      height: HEIGHT,
      padding: [4, 0, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: true, y: false, setScale: false, dist: 4 } },
      scales: { x: { time: true, range: [xs[0], xs.at(-1) + step] }, y: { range: (_, __, max) => [0, max || 1] } },
      tzDate: (seconds) => (this.isUtc ? uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC") : new Date(seconds * 1000)),
      axes: [timeAxis(this), { ...axis(44, 22), values: (_, splits) => splits.map((each) => (Number.isInteger(each) ? brief(each) : "")) }],
      series: [{}, ...series],
      hooks: {
        setCursor: [(plot) => this.#hover(plot)],
        setSelect: [(plot) => this.#select(plot)],
        draw: [(plot) => this.#drawMark(plot)],
        ready: [(plot) => plot.over.addEventListener("click", () => this.#click(plot))],
      },
    };
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
    if (!value) this.caption.textContent = "";
    else if (bar === null) {
      const unit = value.messages === 1 ? "message" : "messages";
      const step = value.messages ? `, a bar is ${time.duration(value.step_s)}` : "";
      this.caption.textContent = `${value.is_final === false ? "so far " : ""}${grouped(value.messages)} ${unit}${step}`;
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

  #resize() {
    if (this.plot && this.box.clientWidth) this.plot.setSize({ width: this.box.clientWidth, height: HEIGHT });
  }
}

/** An axis in the colours of the theme. */
export function axis(size, space) {
  const font = `11px ${colourOf("--font")}`;
  return { stroke: colourOf("--muted"), grid: { stroke: colourOf("--line"), width: 1 }, ticks: { show: false }, size, space, font, gap: 4 };
}

/** From a second to a year; what is shorter is no step of the hub. */
const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200];
const DAYS = [1, 2, 7, 14, 28, 91, 182, 365];

/** The axis of times, in the zone of `view`: clock times, and the day where one begins. */
export function timeAxis(view) {
  const text = (seconds, step) => {
    const { day, clock } = time.parts(seconds * 1000, view.isUtc);
    if (step >= 86_400 || clock.startsWith("00:00:00")) return day.slice(step >= 86_400 * 28 ? 0 : 5);
    return clock.slice(0, step < 60 ? 8 : 5);
  };
  const values = (_, splits, __, ___, step) => splits.map((each) => text(each, step));
  return { ...axis(20, 84), incrs: [...STEPS_S, ...DAYS.map((days) => days * 86_400)], values };
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
