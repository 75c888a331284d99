/**
 * What the keys and the buttons do.
 *
 * Always true: an action changes the state or asks a part to move; it draws nothing.
 */

import { showAlert } from "./alert.js";
import { showDownload, showHelp, showPeriod, showSaved } from "./dialogs.js";
import { isAbort } from "./rpc.js";
import { TABLE } from "./keys.js";
import { pageAfter } from "./pages.js";
import { milliseconds, rfc3339 } from "./time.js";
import { switchTheme } from "./theme.js";

const HOUR = 3600;
const HIDDEN = "mpsr.hidden";

const keepHidden = (name, isHidden) => localStorage.setItem(`${HIDDEN}.${name}`, isHidden ? "1" : "");

/** Hide the facets, or show them, where they are beside the list. */
function hideFacets(isHidden) {
  document.getElementById("messages").classList.toggle("no-facets", isHidden);
  keepHidden("facets", isHidden);
}

/** Hide what was hidden when the page was open before. */
export function hideAsBefore() {
  document.getElementById("messages").classList.toggle("no-facets", Boolean(localStorage.getItem(`${HIDDEN}.facets`)));
  document.getElementById("overview").classList.toggle("folded", Boolean(localStorage.getItem(`${HIDDEN}.histogram`)));
}

export class Actions {
  constructor(page) {
    this.page = page;
    this.work = new AbortController();
  }

  /** Return the functions for the names in the table of keys. */
  byName() {
    return Object.fromEntries(TABLE.map(([, , name]) => [name, () => this[name]()]));
  }

  search() {
    this.page.state.set({ view: "" });
    const query = document.getElementById("query");
    query.focus();
    query.select();
  }

  down() {
    this.page.list.move(1);
  }

  up() {
    this.page.list.move(-1);
  }

  pageDown() {
    this.#scroll(1);
  }

  pageUp() {
    this.#scroll(-1);
  }

  #scroll(direction) {
    const { list } = this.page;
    list.box.scrollTop += direction * list.screen * list.rowHeight;
  }

  start() {
    this.page.live.stop();
    this.page.list.toStart();
  }

  async end() {
    const { page } = this;
    await page.list.toEnd();
    if (!page.state.get("at") && !page.live.isOn && !page.state.get("to")) page.live.start(page.list.filters);
  }

  /** Pause, or go to the newest messages and follow them. */
  async live() {
    const { page } = this;
    if (page.live.isOn) {
      page.live.stop();
      page.isHeld = false;
      return;
    }
    const isContext = page.isContext;
    page.state.set({ at: "", context: "", to: "" }, { isStep: isContext });
    if (page.live.isOn) return;
    await page.list.toEnd();
    if (!page.live.isOn) page.live.start(page.filters());
  }

  nextHit() {
    this.#step("next", this.page.filters(), "no later hit");
  }

  previousHit() {
    this.#step("previous", this.page.filters(), "no earlier hit");
  }

  nextError() {
    this.#step("next", { ...this.page.list.filters, level: "error" }, "no later error");
  }

  previousError() {
    this.#step("previous", { ...this.page.list.filters, level: "error" }, "no earlier error");
  }

  nextWarning() {
    this.#step("next", { ...this.page.list.filters, level: "warning" }, "no later warning");
  }

  previousWarning() {
    this.#step("previous", { ...this.page.list.filters, level: "warning" }, "no earlier warning");
  }

  /** Select the next message that `filters` select, from the selected one on, or from what is visible. */
  async #step(direction, filters, nothing) {
    const { page } = this;
    const { list } = page;
    this.work.abort();
    this.work = new AbortController();
    const from = list.selected || list.topMessage?.sequence || 1;
    const isNext = direction === "next";
    const start = list.selected || !isNext ? from : from - 1;
    try {
      let cursor = isNext ? { after: start, limit: 1 } : { before: list.selected || (list.rows.last ?? 0) + 1, last: 1 };
      let found;
      do {
        found = await page.rpc.call("query", { ...filters, ...cursor }, { signal: this.work.signal });
        cursor = { ...cursor, after: found.next };
      } while (isNext && !found.messages.length && found.next !== null);
      if (found.messages.length) list.select(found.messages.at(-1).sequence);
      else page.notice(nothing);
    } catch (error) {
      if (!isAbort(error)) page.notice(error);
    }
  }

  hourForward() {
    this.#hop(HOUR);
  }

  hourBack() {
    this.#hop(-HOUR);
  }

  dayForward() {
    this.#hop(24 * HOUR);
  }

  dayBack() {
    this.#hop(-24 * HOUR);
  }

  #hop(seconds) {
    const message = this.page.list.message ?? this.page.list.topMessage;
    if (message) this.goToTime(milliseconds(message.received) / 1000 + seconds);
  }

  /** Go to the first message that was received at this time or later. */
  async goToTime(seconds) {
    const { list, live, rpc } = this.page;
    live.stop();
    this.work.abort();
    this.work = new AbortController();
    try {
      const filters = { ...list.filters, since: rfc3339(seconds) };
      const { messages } = await pageAfter(rpc, filters, { after: 0, count: 1, signal: this.work.signal });
      if (messages.length) await list.select(messages[0].sequence);
      else await list.toEnd();
    } catch (error) {
      if (!isAbort(error)) this.page.notice(error);
    }
  }

  open() {
    if (this.page.list.message === undefined) this.page.list.move(1);
    document.getElementById("record").focus();
  }

  /** End the search that runs. */
  cancel() {
    this.page.list.cancel();
    document.getElementById("list").focus();
  }

  escape() {
    const { state, list } = this.page;
    if (list.finding.isRunning && !state.get("view")) list.cancel();
    else if (state.get("view")) state.set({ view: "" });
    else if (this.page.isContext) state.set({ context: "" });
    else if (state.get("at")) state.set({ at: "" }, { isStep: false });
    else if (state.get("q")) state.set({ q: "" });
    document.getElementById("messages").classList.remove("show-facets");
    document.getElementById("list").focus();
  }

  context() {
    const { state, list } = this.page;
    if (!list.message) list.move(1);
    if (list.selected) state.set({ context: this.page.isContext ? "" : "1", at: list.selected });
  }

  copy() {
    if (this.page.list.message) this.copyText(JSON.stringify(this.page.list.message, null, 2));
  }

  link() {
    this.copyText(this.page.state.link(), "The link is copied. It needs a page that is open: the token is not in it.");
  }

  async copyText(text, notice = "copied") {
    try {
      await navigator.clipboard.writeText(text);
      this.page.notice(notice);
    } catch {
      this.page.notice("the browser did not allow to copy");
    }
  }

  facets() {
    const { classList } = document.getElementById("messages");
    if (matchMedia("(max-width: 760px)").matches) classList.toggle("show-facets");
    else hideFacets(!classList.contains("no-facets"));
    this.page.facets.wake();
  }

  /** Count the values of what `name` stands for, in the facets. */
  count(name) {
    hideFacets(false);
    if (!document.getElementById("facets").checkVisibility()) { // on a narrow screen, the record is in their place
      document.getElementById("messages").classList.add("show-facets");
      this.page.state.set({ at: "" }, { isStep: false });
    }
    this.page.facets.wake();
    this.page.facets.add(name);
  }

  histogram() {
    const isFolded = document.getElementById("overview").classList.toggle("folded");
    keepHidden("histogram", isFolded);
    if (!isFolded) this.page.histogram.draw();
  }

  zone() {
    const zone = this.page.isUtc ? "local" : "utc";
    localStorage.setItem("mpsr.zone", zone);
    this.page.state.set({ zone }, { isStep: false });
  }

  theme() {
    switchTheme();
    this.page.histogram.draw();
    this.page.chart.draw();
  }

  save() {
    showSaved(this.page);
  }

  alert() {
    showAlert(this.page);
  }

  period() {
    showPeriod(this.page);
  }

  download() {
    showDownload(this.page);
  }

  hub() {
    this.#toggle("hub");
  }

  sql() {
    this.#toggle("sql");
  }

  #toggle(view) {
    this.page.state.set({ view: this.page.state.get("view") === view ? "" : view });
  }

  help() {
    showHelp();
  }
}
