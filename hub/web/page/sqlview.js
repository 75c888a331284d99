/**
 * The view of queries in SQL: a text, its result as a table, examples, and what was asked before.
 *
 * The hub runs each query in a process that is bounded in memory and time, and streams the rows.
 *
 * Always true: one query runs at a time; a result on the screen is that of the query that was run last; foreign text is
 * in text nodes only.
 *
 * Not here: the result (sqlresult.js).
 */

import { html, nothing, render } from "./vendor/lit-html.js";
import { isAbort } from "./rpc.js";
import { SqlResult } from "./sqlresult.js";
import { grouped, oneLine, visible } from "./text.js";

const ROWS_MAX = 10_000;
const STORED = "mpsr.sql";
const HISTORY_MAX = 50;
const EXAMPLES = [
  ["Messages by level", "select level, count(*) as messages\nfrom messages\ngroup by level\norder by level"],
  ["Errors by tag and hour", "select date_trunc('hour', received) as hour, tag, count(*) as errors\nfrom messages\nwhere level >= 'error' and received > now() - interval 1 day\ngroup by all\norder by hour desc, errors desc"],
  ["The newest messages with a field", "select received, tag, record->>'$.status' as status, message\nfrom messages\nwhere received > now() - interval 1 hour and record->>'$.status' is not null\norder by sequence desc\nlimit 100"],
  ["A number by a field", "select record->>'$.user' as user, count(*) as n, avg((record->>'$.took_ms')::double) as mean_ms, quantile_cont((record->>'$.took_ms')::double, 0.95) as p95_ms\nfrom messages\nwhere received > now() - interval 1 hour\ngroup by 1\norder by p95_ms desc nulls last"],
  ["The same text again and again", "select regexp_replace(message, '[0-9]+', 'N', 'g') as pattern, count(*) as messages, min(received) as first, max(received) as last\nfrom messages\nwhere level >= 'warning'\ngroup by pattern\norder by messages desc\nlimit 50"],
  ["Who writes how much", "select comm, pid, count(*) as messages, max(received) as last\nfrom messages\nwhere received > now() - interval 1 hour\ngroup by all\norder by messages desc"],
];

export class SqlView extends EventTarget {
  /** Sends `run` with the text of a query when a person runs it. */
  constructor(box, rpc, stored = localStorage) {
    super();
    this.box = box;
    this.rpc = rpc;
    this.stored = stored;
    this.text = EXAMPLES[0][1];
    this.ran = null;
    this.work = null;
    this.result = null;
    this.fault = null;
    this.isUtc = false;
  }

  /** Show the view. Run `text`, unless it is what was run last. */
  show(text) {
    const isOther = text && text !== this.ran;
    if (isOther) this.#take(text);
    this.draw();
    if (isOther) this.#run();
    this.#area?.focus();
  }

  cancel() {
    this.work?.abort();
  }

  #take(text) {
    this.text = text;
    if (this.#area) this.#area.value = text; // it may have been edited since it was drawn
  }

  get #area() {
    return this.box.querySelector("textarea");
  }

  #start() {
    if (!this.text.trim()) return;
    this.ran = null;
    this.#remember(this.text);
    this.dispatchEvent(new CustomEvent("run", { detail: this.text }));
    if (this.ran === null) this.#run(); // the address has it already
  }

  async #run() {
    this.cancel();
    const work = new AbortController();
    const result = new SqlResult();
    const began = performance.now();
    [this.work, this.result, this.fault, this.began] = [work, result, null, began];
    this.ran = this.text;
    this.draw();
    const ticking = setInterval(() => this.draw(), 1000);
    const zone = this.isUtc ? "UTC" : Intl.DateTimeFormat().resolvedOptions().timeZone;
    try {
      await this.rpc.stream("sql", { query: this.ran, limit: ROWS_MAX, zone, progress: true }, (value) => {
        result.take(value);
        this.#drawSoon();
      }, { signal: work.signal });
      this.seconds = (performance.now() - began) / 1000;
    } catch (error) {
      if (this.work !== work) return; // another query was begun
      this.fault = isAbort(error) ? { message: "The query was cancelled." } : error;
      if (this.fault.data?.at) this.#select(this.fault.data.at);
    } finally {
      clearInterval(ticking);
    }
    if (this.work !== work) return;
    this.work = null;
    this.draw();
  }

  #select(at) {
    if (this.#area?.value === this.ran) this.#area.setSelectionRange(...at.map((place) => unitsOf(this.ran, place)));
  }

  #drawSoon() {
    this.drawing ??= requestAnimationFrame(() => {
      this.drawing = undefined;
      this.draw();
    });
  }

  draw() {
    if (this.box.hidden) return;
    const { hub } = this.rpc;
    const lack = hub && (hub.lacks?.sql ?? (hub.methods.includes("sql") ? "" : "This page may not query messages."));
    render(lack ? html`<h1>SQL</h1><p class="lack">${oneLine(lack, 300)}</p>` : this.#content(), this.box);
  }

  #content() {
    const keyed = (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        this.#start();
      } else if (event.key === "Escape") this.work ? this.cancel() : this.#area.blur();
    };
    const isDone = this.result?.columns.length && !this.work && (!this.fault || this.result.rows.length);
    return html`<h1 class="for-readers">SQL</h1>
      <textarea aria-label="Query in SQL" spellcheck="false" autocapitalize="off" rows="6" aria-invalid=${this.fault ? "true" : "false"}
        .value=${this.text} @keydown=${keyed} @input=${() => (this.text = this.#area.value)}></textarea>
      <div class="tools">
        ${this.work
          ? html`<button id="sql-cancel" @click=${() => this.cancel()}>Cancel</button>`
          : html`<button id="sql-run" @click=${() => this.#start()}>Run <kbd>Ctrl-Enter</kbd></button>`}
        ${this.#choice("Examples", EXAMPLES)}
        ${this.#choice("History", this.#history().map((text) => [oneLine(text.replace(/\s+/g, " "), 80), text]))}
        <span class="grow"></span>
        ${isDone ? html`<button id="sql-csv" @click=${() => this.result.download("csv")}>⤓ CSV</button><button id="sql-json" @click=${() => this.result.download("ndjson")}>⤓ JSON</button>` : nothing}
      </div>
      <p class="muted columns">messages: sequence, received, time, tag, level, message, record, pid, uid, gid, comm, unit, container, host. A field: record->>'$.status'. Levels compare: level >= 'warning'. Times are timestamps: received > now() - interval 1 hour</p>
      ${this.fault ? this.#faultShown() : nothing}
      <p id="sql-status" role="status">${this.#status()}</p>
      ${this.fault && !this.result.rows.length ? nothing : this.result?.table(() => { this.result.showMore(); this.draw(); }) ?? nothing}`;
  }

  #choice(name, options) {
    const chosen = ({ target }) => {
      this.#take(options[Number(target.value)][1]);
      target.value = "";
      this.#area.focus();
    };
    return html`<select id="sql-${name.toLowerCase()}" aria-label=${name} ?disabled=${!options.length} @change=${chosen}>
      <option value="" selected>${name}</option>
      ${options.map(([label], index) => html`<option value=${index}>${label}</option>`)}
    </select>`;
  }

  /** The error, below the line of the query where it is. */
  #faultShown() {
    const { message, data } = this.fault;
    const lines = data?.at ? whereOf(this.ran, data.at) : null;
    return html`<div class="sql-fault" role="alert">
      ${lines ? html`<pre>${lines.before}<mark>${lines.wrong}</mark>${lines.after}</pre>` : nothing}
      <p class="fault">${lines ? `Line ${lines.number}: ` : ""}${visible(message, "\n")}</p></div>`;
  }

  #status() {
    if (!this.result) return "";
    const [rows, ...others] = this.result.words();
    const found = this.result.rows.length ? rows : "";
    if (this.work) {
      const seconds = `${Math.floor((performance.now() - this.began) / 1000)} s`;
      return `Running… ${[seconds, this.result.read && `${grouped(this.result.read)} messages read`, found].filter(Boolean).join(", ")}`;
    }
    if (this.fault) return found && `${found} until then:`;
    return [`${rows} in ${this.seconds.toFixed(1)} s.`, ...others].join(" ");
  }

  #history() {
    try {
      return JSON.parse(this.stored.getItem(STORED)).filter((each) => typeof each === "string");
    } catch {
      return [];
    }
  }

  #remember(text) {
    const others = this.#history().filter((each) => each !== text);
    this.stored.setItem(STORED, JSON.stringify([text, ...others].slice(0, HISTORY_MAX)));
  }
}

/** Return where the character number `place` begins in a text of JavaScript, which counts half characters. */
const unitsOf = (text, place) => [...text].slice(0, place).join("").length;

/** Return the line of `text` with what is wrong in it, in three parts, and its number. */
function whereOf(text, at) {
  const [begin, end] = at.map((place) => unitsOf(text, place));
  const first = text.lastIndexOf("\n", begin - 1) + 1;
  const found = text.indexOf("\n", begin);
  const last = found < 0 ? text.length : found;
  const part = (from, to) => visible(text.slice(from, to), "\t");
  return {
    number: text.slice(0, begin).split("\n").length,
    before: part(Math.max(first, begin - 200), begin),
    wrong: part(begin, Math.min(end, last)),
    after: part(Math.min(end, last), Math.min(last, end + 200)),
  };
}
