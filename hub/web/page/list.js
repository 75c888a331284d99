/**
 * The list of messages: scrolls over the whole result, of which a stretch is in memory.
 *
 * The browser scrolls within the stretch; near its end the next page is fetched, and the other end is dropped. The track
 * at the side stands for the whole journal, by sequence: a place on it is a jump.
 *
 * Always true: at most a screen and a half of rows is in the document; a place that somebody reads does not move when
 * rows are added before or after it; an answer for an earlier query is ignored; rows of an earlier query are marked as
 * stale at once, and go when the first answer comes.
 *
 * Not here: what a search does (finding.js), rows in memory (rows.js), their look (row.js), the track (track.js), new messages (live.js).
 */

import { html, render } from "./vendor/lit-html.js";
import { Finding } from "./finding.js";
import { pageAfter, searchBack } from "./pages.js";
import { areOfOtherDays, rowOf } from "./row.js";
import { asRows, Rows } from "./rows.js";
import { BROKEN, isAbort } from "./rpc.js";
import { Track } from "./track.js";

const PAGE = 200;
const FIRST_SCREEN = 60;
const OVERSCAN = 10;

export class List extends EventTarget {
  /**
   * `box` scrolls, `track` is its scroll bar. Sends the events `select`, `moved` (`isUp`: somebody has scrolled up), `loading`,
   * `progress`, `loaded` and `failed`.
   */
  constructor(box, track, rpc) {
    super();
    this.box = box;
    this.track = new Track(track, (share) => this.#jump(share));
    this.rpc = rpc;
    this.rows = new Rows();
    this.filters = {};
    this.range = { first: 1, last: 1 };
    this.selected = 0;
    this.isUtc = false;
    this.hits = null;
    this.isFollowing = false;
    this.isLoading = false;
    this.isStale = false;
    this.top = 0;
    this.finding = new Finding(rpc, {}, () => {});
    this.finding.state = "done";
    this.isDrawing = false;
    this.canvas = box.querySelector(".canvas");
    box.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    box.addEventListener("click", (event) => this.#clicked(event));
    new ResizeObserver(() => this.#resized()).observe(box);
  }

  get rowHeight() {
    return parseFloat(getComputedStyle(this.box).getPropertyValue("--row")) || 20;
  }

  /** Show the messages that `filters` select: around `at`, or the newest ones. Return whether the search came to its end. */
  async show(filters, { at = 0, hits = null } = {}) {
    this.finding.cancel();
    const finding = new Finding(this.rpc, filters, () => this.dispatchEvent(new Event("progress")));
    const isOther = JSON.stringify(filters) !== JSON.stringify(this.filters);
    [this.finding, this.filters, this.hits, this.isLoading, this.fault] = [finding, filters, hits, true, ""];
    this.#age(this.isStale || (isOther && this.rows.length > 0));
    this.dispatchEvent(new Event("loading"));
    try {
      this.range = await finding.measure();
      await (at ? this.#showAround(at) : this.#showNewest());
    } catch (error) {
      if (!isAbort(error)) this.#fail(error);
      return false;
    }
    [this.isLoading, finding.state] = [false, "done"];
    this.#age(false);
    this.dispatchEvent(new Event("loaded"));
    this.draw();
    return true;
  }

  /** End the search that runs. What it has found stays. */
  cancel() {
    this.finding.cancel();
    this.isLoading = false;
    this.isStale ? this.#put([]) : this.#age(false);
    this.dispatchEvent(new Event("loaded"));
  }

  /** Mark the rows as those of an earlier query, or of this one. */
  #age(isStale) {
    this.isStale = isStale;
    this.box.classList.toggle("stale", isStale);
    this.box.setAttribute("aria-busy", this.finding.isRunning ? "true" : "false");
  }

  /** Put other rows in the place of those that are there. */
  #put(messages) {
    this.rows.clear();
    this.rows.append(asRows(messages));
    this.#age(false);
    this.#layOut();
    this.draw();
  }

  async #showNewest() {
    let isFirst = true;
    const take = (messages) => {
      if (!messages.length) return;
      if (isFirst) this.#put(messages);
      else this.rows.prepend(asRows(messages));
      isFirst = false;
      this.#layOut();
      this.#scrollTo(this.box.scrollHeight);
      this.draw();
    };
    const { isStart } = await this.finding.newest(this.range, FIRST_SCREEN, take);
    if (isFirst) this.#put([]);
    [this.rows.isStart, this.rows.isEnd] = [isStart, true];
  }

  async #showAround(at) {
    const { messages, isStart, isEnd } = await this.finding.around(this.range, at, PAGE);
    this.#put(messages);
    [this.rows.isStart, this.rows.isEnd] = [isStart, isEnd];
    const index = Math.min(this.rows.indexOf(at), this.rows.length - 1);
    this.#scrollTo(index * this.rowHeight - this.box.clientHeight * 0.4);
  }

  /** Add rows at the end, which has been reached. Rows are dropped at the beginning; the place stays. */
  append(rows) {
    const isAtEnd = this.isFollowing;
    const dropped = this.rows.append(rows);
    this.rows.isEnd = true;
    this.range.last = Math.max(this.range.last, this.rows.last ?? 0);
    this.#layOut();
    if (isAtEnd) this.#scrollTo(this.box.scrollHeight);
    else if (dropped) this.#scrollTo(this.box.scrollTop - dropped * this.rowHeight);
    this.draw();
  }

  /** The newest messages: fetch them if they are not in memory. */
  async toEnd() {
    if (this.rows.isEnd) this.#scrollTo(this.box.scrollHeight);
    else await this.show(this.filters, { hits: this.hits });
  }

  /** The oldest ones. */
  async toStart() {
    if (!this.rows.isStart) await this.show(this.filters, { at: this.range.first, hits: this.hits });
    this.#scrollTo(0);
  }

  get isAtEnd() {
    return this.rows.isEnd && this.box.scrollTop + this.box.clientHeight >= this.box.scrollHeight - this.rowHeight;
  }

  /** Select the row with this sequence, and bring it into view. Fetch its surroundings if it is not in memory. */
  async select(sequence, { isQuiet = false } = {}) {
    this.selected = sequence;
    if (sequence && this.rows.at(this.rows.indexOf(sequence))?.sequence !== sequence) {
      await this.show(this.filters, { at: sequence, hits: this.hits });
    }
    if (sequence) this.#reveal(this.rows.indexOf(sequence));
    this.draw();
    if (!isQuiet) this.dispatchEvent(new Event("select"));
  }

  /** Return the selected message, if it is in memory. */
  get message() {
    const row = this.rows.at(this.rows.indexOf(this.selected));
    return row?.sequence === this.selected ? row.message : undefined;
  }

  /** Select the row that is `count` further on. */
  move(count) {
    if (!this.rows.length || this.isStale) return;
    const first = Math.ceil(this.box.scrollTop / this.rowHeight);
    const last = Math.floor((this.box.scrollTop + this.box.clientHeight) / this.rowHeight) - 1;
    let index = this.rows.indexOf(this.selected);
    if (this.message === undefined) index = count > 0 ? first - 1 : last + 1;
    const next = Math.min(Math.max(index + count, 0), this.rows.length - 1);
    const row = this.rows.at(next);
    if (row.gap !== undefined) this.dispatchEvent(new CustomEvent("gap", { detail: row }));
    else this.select(row.sequence);
  }

  get screen() {
    return Math.max(Math.floor(this.box.clientHeight / this.rowHeight) - 1, 1);
  }

  #reveal(index) {
    const [top, height] = [index * this.rowHeight, this.rowHeight];
    if (top < this.box.scrollTop) this.#scrollTo(top - height);
    else if (top + height > this.box.scrollTop + this.box.clientHeight) this.#scrollTo(top + 2 * height - this.box.clientHeight);
  }

  #clicked(event) {
    const row = event.target.closest(".row");
    if (!row || !getSelection().isCollapsed) return;
    const found = this.rows.at(this.rows.indexOf(Number(row.dataset.sequence)));
    if (found?.gap !== undefined) this.dispatchEvent(new CustomEvent("gap", { detail: found }));
    else if (found) this.select(found.sequence);
  }

  #scrollTo(top) {
    this.box.scrollTop = top;
    this.top = this.box.scrollTop;
  }

  #scrolled() {
    this.draw();
    const isUp = this.box.scrollTop < this.top - 1;
    this.top = this.box.scrollTop;
    this.dispatchEvent(new CustomEvent("moved", { detail: { isUp } }));
    if (this.isLoading || this.finding.state === "cancelled" || !this.rows.length) return;
    const near = this.box.clientHeight * 2;
    if (this.box.scrollTop < near && !this.rows.isStart) this.#extend("older");
    else if (this.box.scrollTop + this.box.clientHeight > this.box.scrollHeight - near && !this.rows.isEnd) this.#extend("newer");
  }

  async #extend(where) {
    this.isLoading = true;
    const { signal } = this.finding;
    try {
      await (where === "older" ? this.#older(signal) : this.#newer(signal));
    } catch (error) {
      if (!isAbort(error)) this.#fail(error);
    } finally {
      if (!signal.aborted) this.isLoading = false;
    }
    if (!signal.aborted) this.#scrolled();
  }

  async #older(signal) {
    const place = { first: this.range.first, before: this.rows.first, count: PAGE, signal };
    const { messages, isStart } = await searchBack(this.rpc, this.filters, place);
    const top = this.box.scrollTop;
    this.rows.prepend(asRows(messages));
    this.rows.isStart = isStart;
    this.#layOut();
    this.#scrollTo(top + messages.length * this.rowHeight);
  }

  async #newer(signal) {
    const { messages, isEnd } = await pageAfter(this.rpc, this.filters, { after: this.rows.last, count: PAGE, signal });
    const top = this.box.scrollTop;
    const dropped = this.rows.append(asRows(messages));
    this.rows.isEnd = isEnd;
    this.#layOut();
    this.#scrollTo(top - dropped * this.rowHeight);
  }

  /** Go to a place of the track: a share of the sequences. */
  #jump(share) {
    this.dispatchEvent(new Event("jump"));
    const { first, last } = this.range;
    if (share > 0.99) this.toEnd();
    else this.show(this.filters, { at: Math.max(Math.round(first + share * (last - first)), 1), hits: this.hits });
  }

  #fail(error) {
    [this.isLoading, this.finding.state, this.fault] = [false, "failed", error.code === BROKEN ? "" : error.message];
    this.isStale && this.fault ? this.#put([]) : this.#age(this.isStale);
    this.dispatchEvent(new CustomEvent("failed", { detail: error }));
  }

  #resized() {
    this.#layOut();
    if (this.isFollowing) this.#scrollTo(this.box.scrollHeight);
    this.draw();
  }

  #layOut() {
    this.canvas.style.height = `${this.rows.length * this.rowHeight}px`;
    if (!this.isLoading && this.box.scrollHeight <= this.box.clientHeight * 3) queueMicrotask(() => this.#scrolled());
  }

  /** Draw what is visible, before the next frame. */
  draw() {
    if (this.isDrawing) return;
    this.isDrawing = true;
    requestAnimationFrame(() => {
      this.isDrawing = false;
      this.#drawNow();
    });
  }

  #drawNow() {
    const height = this.rowHeight;
    const first = Math.max(Math.floor(this.box.scrollTop / height) - OVERSCAN, 0);
    const last = Math.min(Math.ceil((this.box.scrollTop + this.box.clientHeight) / height) + OVERSCAN, this.rows.length);
    const visible = this.rows.rows.slice(first, last);
    const hasDay = areOfOtherDays([this.rows.at(0), this.rows.at(-1 + this.rows.length)], this.isUtc);
    const view = { isUtc: this.isUtc, hasDay, hits: this.hits };
    const rows = visible.map((row, index) =>
      rowOf(row, { ...view, top: (first + index) * height, isSelected: row.sequence === this.selected }),
    );
    render(html`${rows}`, this.canvas);
    this.box.classList.toggle("has-day", hasDay);
    const isShown = this.message && document.getElementById(`row-${this.selected}`);
    if (isShown) this.box.setAttribute("aria-activedescendant", `row-${this.selected}`);
    else this.box.removeAttribute("aria-activedescendant");
    this.track.draw(this);
  }

  /** Return the first message that is visible. */
  get topMessage() {
    return this.#rowAt(Math.ceil(this.box.scrollTop / this.rowHeight))?.message;
  }

  /** Return the sequence of the last row that is visible. */
  get bottom() {
    return this.#rowAt(Math.floor((this.box.scrollTop + this.box.clientHeight) / this.rowHeight))?.sequence;
  }

  #rowAt(index) {
    return this.rows.at(Math.min(index, this.rows.length - 1));
  }
}
