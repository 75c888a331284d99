/**
 * The result of a query in SQL: its values as a table and as files.
 *
 * The hub gives all values as texts, and the type of each column. A number stays a text, because it can have more digits
 * than a number of JavaScript.
 *
 * Not here: asking (sqlview.js).
 */

import { html, nothing } from "./vendor/lit-html.js";
import { csvLine, offer } from "./download.js";
import { grouped, oneLine, visible } from "./text.js";
import { parts } from "./time.js";

const ROWS_SHOWN = 200;
const ROWS_MORE = 1000;
const CELL_CHARS = 200;
const TITLE_CHARS = 2000;
const NUMBER = /^(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|DOUBLE|FLOAT|DECIMAL.*)$/;
const isNumber = (type) => NUMBER.test(type);

export class SqlResult {
  constructor() {
    this.columns = [];
    this.rows = [];
    this.end = null;
    this.read = 0;
    this.shown = ROWS_SHOWN;
  }

  /** Take a value of the stream. */
  take({ columns, rows, read, is_final: isFinal, ...end }) {
    if (columns) this.columns = columns;
    else if (read) this.read = read;
    else if (rows) for (const row of rows) this.rows.push(row);
    else if (isFinal) this.end = end;
  }

  showMore() {
    this.shown += ROWS_MORE;
  }

  /** Return the table; `onMore` is called when further rows are wanted. */
  table(onMore) {
    if (!this.columns.length) return nothing;
    const classes = this.columns.map(([, type]) => (isNumber(type) ? "number" : ""));
    const left = this.rows.length - this.shown;
    return html`<div class="wide" tabindex="0" role="region" aria-label="Result"><table>
        <thead><tr>${this.columns.map(([name, type], column) => html`<th scope="col" class=${classes[column]} title=${visible(type)}><bdi>${oneLine(name, CELL_CHARS)}</bdi></th>`)}</tr></thead>
        <tbody>${this.rows.slice(0, this.shown).map((row) => html`<tr>${row.map((text, column) => cell(text, classes[column]))}</tr>`)}</tbody>
      </table>
      ${left > 0 ? html`<p><button @click=${onMore}>Show more</button> <span class="muted">${grouped(left)} further rows</span></p>` : nothing}
    </div>`;
  }

  /** Return what to say about the result: how many rows, and what is missing. */
  words() {
    const { rows, end } = this;
    const found = [`${grouped(rows.length)} ${rows.length === 1 ? "row" : "rows"}`];
    if (end?.is_cut) found.push("There are more rows: aggregate, or add a condition. mpsr sql on the host returns all.");
    if (end?.cut_values) found.push(`${grouped(end.cut_values)} long values are cut off.`);
    if (end?.misfits) found.push(`${grouped(end.misfits)} values of messages did not fit their column and are empty.`);
    return found;
  }

  /** Save the rows as `csv` or `ndjson`. */
  download(format) {
    const lines = format === "csv" ? this.csv() : this.json();
    offer(new Blob(lines), `result-${parts(Date.now(), true).day}.${format}`);
  }

  /** Return the lines of a CSV file. */
  csv() {
    return [this.columns.map(([name]) => name), ...this.rows].map(csvLine);
  }

  /** Return an object for each row, each in a line. The second of two columns with one name gets a number. */
  json() {
    const names = [];
    for (const [name] of this.columns) {
      let unique = name;
      for (let number = 2; names.includes(unique); number += 1) unique = `${name}_${number}`;
      names.push(unique);
    }
    const keys = names.map((name) => JSON.stringify(name));
    return this.rows.map((row) => `{${row.map((text, column) => `${keys[column]}:${jsonOf(text, this.columns[column][1])}`).join(",")}}\n`);
  }
}

function cell(text, kind) {
  if (text === null) return html`<td class="muted">NULL</td>`;
  const shown = oneLine(text, CELL_CHARS);
  const title = text.length > CELL_CHARS ? visible(text.slice(0, TITLE_CHARS), "\n") : nothing;
  return html`<td class=${kind} title=${title}><bdi>${shown}</bdi></td>`;
}

/** Return a value as JSON: numbers with all their digits, and JSON as it is. */
function jsonOf(text, type) {
  if (text === null) return "null";
  const isPlain = (isNumber(type) && /^-?\d+(\.\d+)?(e[+-]?\d+)?$/i.test(text)) || (type === "BOOLEAN" && /^(true|false)$/.test(text));
  if (isPlain) return text;
  if (type === "JSON") {
    try {
      JSON.parse(text);
      return text;
    } catch {
      // cut off
    }
  }
  return JSON.stringify(text);
}
