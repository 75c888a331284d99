/**
 * Begins the page: makes its parts, and lets them follow the state.
 *
 * The state (state.js) is what the address says. A change of it is the only way to show something else: the search, the
 * facets, the histogram and the keys all change the state, and `show` passes it to the parts.
 *
 * Reading order: state.js, search.js, list.js with finding.js, rows.js and row.js, live.js, counts.js, then the others.
 */

import { Actions, hideAsBefore } from "./actions.js";
import { followBar } from "./bar.js";
import { Chart } from "./chart.js";
import { Completion } from "./complete.js";
import { Counts } from "./counts.js";
import { Facets, FIXED } from "./facets.js";
import { FieldNames } from "./fieldnames.js";
import { Histogram } from "./histogram.js";
import { HubView } from "./hubview.js";
import { follow } from "./keys.js";
import { List } from "./list.js";
import { Live } from "./live.js";
import { RecordPanel } from "./record.js";
import { BROKEN, isAbort, Rpc } from "./rpc.js";
import { parametersOf, tokens, withFilter, withoutFilter } from "./search.js";
import { SqlView } from "./sqlview.js";
import { State } from "./state.js";
import { beginTheme } from "./theme.js";
import { milliseconds } from "./time.js";
import { drawContext, drawEmpty, drawRange, drawSearching, drawStatus, drawTools } from "./tools.js";

const $ = (id) => document.getElementById(id);

export class Page {
  constructor() {
    this.state = new State();
    this.state.begin();
    const address = new URL("rpc", location.href);
    address.protocol = address.protocol.replace("http", "ws");
    address.hash = "";
    this.rpc = new Rpc(address.href, this.state.token);
    this.list = new List($("list"), $("track"), this.rpc);
    this.live = new Live(this.list, this.rpc);
    this.histogram = new Histogram($("histogram"), $("histogram-caption"), this.rpc);
    this.chart = new Chart($("chart"), $("chart-caption"), this.rpc, $("chart-legend"));
    this.facets = new Facets($("facets"), this.rpc);
    this.record = new RecordPanel($("record"));
    this.hubView = new HubView($("hub"), this.rpc);
    this.sqlView = new SqlView($("sql"), this.rpc);
    this.fieldNames = new FieldNames(this.rpc, (names) => offerNames(names));
    this.fault = "";
    this.counts = new Counts(this);
    this.actions = new Actions(this);
    this.completion = new Completion($("query"), $("choices"), this.rpc, () => this.fieldNames.fields);
  }

  get isUtc() {
    return (this.state.get("zone") || localStorage.getItem("mpsr.zone")) === "utc";
  }

  get isContext() {
    return this.state.get("context") !== "";
  }

  begin() {
    hideAsBefore();
    beginTheme(() => [this.histogram, this.chart].forEach((plot) => plot.draw()));
    this.#followParts();
    followBar(this);
    follow(this.actions.byName());
    this.state.addEventListener("change", ({ detail }) => this.#changed(detail.changed));
    this.rpc.addEventListener("state", () => this.#connection());
    this.#changed(new Set(["q", "zone", "view"]));
    setInterval(() => {
      if (this.live.isOn) this.#draw();
      if (this.list.finding.isRunning) drawSearching(this);
    }, 1000);
    this.counts.follow();
  }

  /** Return the filters of the methods for the search and its stretch of time. Throws an Error. */
  filters() {
    const filters = parametersOf(this.state.get("q"), { isUtc: this.isUtc });
    const [from, to] = [this.state.get("from"), this.state.get("to")];
    return { ...filters, ...(from && { since: from }), ...(to && { until: to }) };
  }

  #changed(changed) {
    const has = (...names) => names.some((name) => changed.has(name));
    if (has("zone")) {
      const parts = [this.list, this.histogram, this.chart, this.record, this.hubView, this.sqlView];
      for (const part of parts) part.isUtc = this.isUtc;
      for (const part of parts) part.draw();
    }
    if (has("view", "sql")) this.#showView();
    if (has("q", "from", "to", "context")) this.show(has("q", "from", "to"));
    else if (has("at")) this.#goTo(Number(this.state.get("at")));
    if (has("chart", "by") && !has("q", "from", "to")) this.showChart();
    drawTools(this);
    drawRange(this);
  }

  #showView() {
    const given = this.state.get("view");
    const current = given === "hub" || given === "sql" ? given : "messages";
    for (const view of ["messages", "sql", "hub"]) {
      const tab = $(`view-${view}`);
      $(view).hidden = view !== current;
      if (view === current) tab.setAttribute("aria-current", "page");
      else tab.removeAttribute("aria-current");
    }
    $("search").hidden = current !== "messages";
    if (current === "hub") this.hubView.start();
    else this.hubView.stop();
    if (current === "sql") this.sqlView.show(this.state.get("sql"));
    if (current === "messages") this.#draw(); // the place was not known while the list was hidden
  }

  /** Show what the state asks for: the list, and around it what is counted. */
  async show(isOther = true) {
    const query = $("query");
    if (document.activeElement !== query || query.value.trim() === "") query.value = this.state.get("q");
    $("clear").hidden = !query.value;
    document.title = this.state.get("q") ? `${this.state.get("q").slice(0, 60)} – mpsr` : "mpsr";
    let filters;
    try {
      filters = this.filters();
      this.complain("");
    } catch (error) {
      this.complain(error.message);
      return;
    }
    const at = Number(this.state.get("at"));
    const isLive = !at && !this.state.get("to") && !this.isContext;
    this.live.stop();
    this.list.selected = at;
    if (isOther) this.counts.age();
    const shown = this.list.show(this.isContext ? {} : filters, { at, hits: hitsOf(filters) });
    drawContext(this);
    if (!(await shown)) return; // something else is shown, or nothing can be
    if (at) this.#opened();
    else this.#close();
    if (isLive && !this.fault) this.live.start(filters);
  }

  /** Count what the search selects, if that is not done: when the list is there. */
  #count() {
    if (!this.counts.isDue || this.fault || this.list.finding.state !== "done") return;
    this.counts.begin(this.filters());
    this.fieldNames.learn();
  }

  /** Show why the search is not understood; nothing for the empty text. */
  complain(text) {
    this.fault = text;
    $("query-fault").textContent = text;
    $("query").setAttribute("aria-invalid", text ? "true" : "false");
    drawEmpty(this);
  }

  /** Show the chart that the state asks for, if it does; return when it is counted. */
  async showChart() {
    const [field, by] = [this.state.get("chart"), this.state.get("by")];
    $("chart-area").hidden = !field && !by;
    if (document.activeElement !== $("chart-by")) $("chart-by").value = by; // somebody may be typing
    if (!this.fault) await this.chart.show(this.filters(), field, by);
  }

  async #goTo(sequence) {
    if (!sequence) {
      this.list.selected = 0;
      this.list.draw();
      this.#close();
    } else if (this.list.selected !== sequence) {
      this.live.stop();
      await this.list.select(sequence, { isQuiet: true });
      this.#opened();
    }
  }

  #opened() {
    const { message } = this.list;
    if (!message) return;
    $("messages").classList.add("has-record");
    $("record").hidden = false;
    this.record.isContext = this.isContext;
    this.record.show(message);
    this.histogram.mark(milliseconds(message.received) / 1000);
  }

  #close() {
    $("messages").classList.remove("has-record");
    $("record").hidden = true;
    this.record.show(null);
  }

  #followParts() {
    const { list, live, histogram, facets, record, state } = this;
    list.addEventListener("select", () => {
      live.stop();
      state.set({ at: list.selected }, { isStep: false });
      this.#opened();
    });
    for (const name of ["loading", "progress", "loaded"]) list.addEventListener(name, () => this.#drawSearch());
    list.addEventListener("loaded", () => this.#count());
    list.addEventListener("moved", ({ detail }) => this.#moved(detail.isUp));
    list.addEventListener("jump", () => live.stop());
    list.addEventListener("gap", ({ detail }) => {
      live.stop();
      list.show(list.filters, { at: detail.after + 1, hits: list.hits });
    });
    for (const part of [list, live, histogram]) part.addEventListener("failed", ({ detail }) => this.notice(detail));
    live.addEventListener("change", () => this.#draw());
    histogram.addEventListener("brush", ({ detail }) => state.set({ ...detail, at: "" }));
    histogram.addEventListener("go", ({ detail }) => this.actions.goToTime(detail));
    histogram.addEventListener("counted", () => this.#draw());
    histogram.addEventListener("again", () => this.counts.begin(this.filters()));
    for (const part of [facets, record]) part.addEventListener("filter", ({ detail }) => this.#filter(detail));
    record.addEventListener("facet", ({ detail }) => this.actions.count(detail));
    record.addEventListener("context", () => this.actions.context());
    record.addEventListener("link", () => this.actions.link());
    record.addEventListener("copy", ({ detail }) => this.actions.copyText(detail));
    record.addEventListener("close", () => this.actions.escape());
    facets.addEventListener("chart", ({ detail }) => state.set({ chart: "", by: detail }));
    this.sqlView.addEventListener("run", ({ detail }) => state.set({ sql: detail }));
    record.addEventListener("chart", ({ detail }) => state.set({ chart: detail }));
  }

  #filter({ key, operator, value, isNegated }) {
    const q = this.state.get("q");
    const isThere = tokens(q).some((token) => token.key === key && token.value === value && token.isNegated === isNegated);
    const next = isThere ? withoutFilter(q, key, value) : withFilter(q, { key, operator, value, isNegated });
    this.state.set({ q: next, context: "" });
  }

  #moved(isUp) {
    if (this.live.isOn && isUp && !this.list.isAtEnd) {
      this.live.stop();
      this.isHeld = true;
    } else if (this.isHeld && this.list.isAtEnd && !this.list.selected) {
      this.isHeld = false;
      this.live.start(this.list.filters);
    }
    this.#draw();
  }

  /** Draw what is known of the search: at once, because what is shown may be that of another. */
  #drawSearch() {
    drawSearching(this);
    drawEmpty(this);
    this.#draw();
  }

  /** Draw the line of state, once in a frame. */
  #draw() {
    this.drawing ??= requestAnimationFrame(() => {
      this.drawing = undefined;
      drawStatus(this);
      drawEmpty(this);
      const top = this.list.message ?? this.list.topMessage;
      if (top && !this.live.isOn) this.histogram.mark(milliseconds(top.received) / 1000);
      else if (this.live.isOn) this.histogram.mark(0);
    });
  }

  #connection() {
    const notices = {
      broken: "The connection to the hub is broken. Trying again…",
      refused: "The hub does not accept the token of this page. Open it again with: mpsr web",
    };
    this.notice(notices[this.rpc.state] ?? "", { isLasting: true });
    if (this.rpc.state === "open") {
      this.sqlView.draw();
      if (this.wasBroken && this.live.isOn) this.counts.begin(this.live.filters);
      else if (this.wasBroken) this.show();
      this.wasBroken = false;
    } else this.wasBroken = true;
    drawTools(this);
  }

  /** Show a text, or an error, below the bar; for some seconds unless it lasts. */
  notice(given, { isLasting = false } = {}) {
    this.#drawSearch();
    if (isAbort(given) || given?.code === BROKEN) return;
    clearTimeout(this.noticeTimer);
    const text = given?.message ?? given;
    $("notice").textContent = text;
    $("notice").hidden = !text;
    if (text && !isLasting) this.noticeTimer = setTimeout(() => ($("notice").hidden = true), given?.message ? 15_000 : 2500);
  }
}

/** Offer the names of fields where a field is typed, and what else can be counted by. */
function offerNames(names) {
  const options = (each) => [...each].map((name) => new Option(name, name));
  $("field-names").replaceChildren(...options(names));
  $("by-names").replaceChildren(...options(new Set([...FIXED, ...names])));
}

/** Return the expression that marks what the search has found, or null. */
function hitsOf({ grep, ignore_case: isAnyCase, invert_match: isInverted }) {
  if (!grep || isInverted) return null;
  try {
    return new RegExp(grep, isAnyCase ? "gi" : "g");
  } catch {
    return null; // Python knows forms that JavaScript does not
  }
}

const page = new Page();
page.begin();
