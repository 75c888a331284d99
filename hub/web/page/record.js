/**
 * One message in full: who, when, its text, and its record as a tree. Each value can be filtered for, left out, copied.
 *
 * Always true: foreign text is in text nodes only; of a record with many fields some are shown, and the others on
 * demand; of a long text the beginning is shown, and the rest on demand.
 */

import { html, nothing, render } from "./vendor/lit-html.js";
import { isColoured, pieces } from "./ansi.js";
import { FIXED } from "./facets.js";
import { levelOf } from "./levels.js";
import { cut, grouped, oneLine, textOf, VALUE_CHARS, visible } from "./text.js";
import { BLOCK_KEYS, isTraceback, linesOf } from "./traceback.js";
import * as time from "./time.js";

const CHILDREN = 100;
/** A longer value is no filter that anybody would want. */
const FILTER_CHARS = 300;
const ENVELOPE = ["tag", "comm", "pid", "uid", "unit", "container", "host"];

export class RecordPanel extends EventTarget {
  /** Sends `filter` (as facets do), `facet` and `chart` with a name, `context`, `link`, `close`, and `copy` with a text. */
  constructor(box) {
    super();
    this.box = box;
    this.message = null;
    this.isUtc = false;
    this.isContext = false;
    this.shownChildren = new Map();
    this.whole = new Set();
    this.folded = new Set();
  }

  show(message) {
    if (message !== this.message) {
      this.shownChildren.clear();
      this.whole.clear();
      this.folded.clear();
      this.box.scrollTop = 0;
    }
    this.message = message;
    this.draw();
  }

  draw() {
    render(this.message ? this.#panel(this.message) : nothing, this.box);
  }

  #send(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  #panel(message) {
    const [level] = levelOf(message.record);
    const [textKey, text] = textOf(message.record);
    const blocks = BLOCK_KEYS.filter((key) => key !== textKey && typeof message.record[key] === "string" && message.record[key]);
    const rest = Object.keys(message.record).filter((key) => key !== textKey && !blocks.includes(key));
    return html`<header>
        <h2>Message ${grouped(message.sequence)}</h2>
        <button @click=${() => this.#send("context")} aria-pressed=${this.isContext ? "true" : "false"} title="what else happened around it, under all tags (c)">Context</button>
        <button @click=${() => this.#send("copy", JSON.stringify(message, null, 2))} title="copy as JSON (y)">Copy</button>
        <button @click=${() => this.#send("link")} title="copy a link to this message (l)">Link</button>
        <button class="quiet" @click=${() => this.#send("close")} aria-label="Close the record" title="close (Esc)">✕</button>
      </header>
      <dl class="envelope">
        ${this.#time("time", message.time)} ${this.#time("received", message.received)}
        ${level ? this.#envelope("level", level, `level-${level}`) : nothing}
        ${ENVELOPE.filter((key) => message[key] !== undefined && message[key] !== "").map((key) => this.#envelope(key, message[key]))}
        ${message.verified === false ? html`<div><dt>verified</dt><dd>no: the kernel does not vouch for the writer</dd></div>` : nothing}
      </dl>
      ${text === null ? nothing : this.#text(textKey, text)} ${blocks.map((key) => this.#text(key, message.record[key]))}
      ${rest.length ? html`<h3>Fields</h3>${this.#children(message.record, rest, "", 0)}` : nothing}`;
  }

  #time(name, text) {
    return html`<div><dt>${name}</dt><dd>${time.whole(text, this.isUtc)} <span class="muted">${time.zoneName(this.isUtc, new Date(time.milliseconds(text)))}</span></dd></div>`;
  }

  #envelope(key, value, kind = "") {
    return html`<div><dt>${key}</dt><dd class=${kind}><bdi>${oneLine(String(value), VALUE_CHARS)}</bdi>${this.#buttons(key, ":", String(value))}</dd></div>`;
  }

  #text(key, text) {
    const shown = this.whole.has(key) ? text : cut(text, VALUE_CHARS);
    const isLong = text.length > VALUE_CHARS && !this.whole.has(key);
    return html`<section class="block">
      <h3><bdi>${oneLine(key, 100)}</bdi> <button class="quiet" aria-label="Copy ${key}" title="copy" @click=${() => this.#send("copy", text)}>copy</button></h3>
      ${isTraceback(shown) ? traceback(shown) : html`<pre dir="auto">${coloured(shown)}</pre>`}
      ${isLong ? this.#more(key, `show all ${grouped(text.length)} characters`) : nothing}
    </section>`;
  }

  #more(path, label) {
    const show = () => {
      this.whole.add(path);
      this.draw();
    };
    return html`<button class="link" @click=${show}>${label}</button>`;
  }

  #children(value, keys, path, depth) {
    const limit = this.shownChildren.get(path) ?? CHILDREN;
    const more = () => {
      this.shownChildren.set(path, limit * 3);
      this.draw();
    };
    return html`<ul class="tree">
      ${keys.slice(0, limit).map((key) => this.#child(key, value[key], path ? `${path}.${key}` : key, depth, Array.isArray(value)))}
      ${keys.length > limit ? html`<li><button class="link" @click=${more}>${grouped(keys.length - limit)} more</button></li>` : nothing}
    </ul>`;
  }

  #child(key, value, path, depth, isInList) {
    const name = html`<bdi class="key">${oneLine(String(key), 200)}</bdi>`;
    if (value === null || typeof value !== "object") {
      return html`<li>${name} ${this.#leaf(value, path)}${isInList ? nothing : this.#buttons(path, "=", String(value), typeof value)}</li>`;
    }
    const keys = Object.keys(value);
    const size = Array.isArray(value) ? `[${keys.length}]` : `{${keys.length}}`;
    if (!keys.length) return html`<li>${name} <span class="muted">${size}</span></li>`;
    const isOpen = this.folded.has(path) !== (depth < 2 && keys.length <= CHILDREN);
    const toggle = () => {
      if (!this.folded.delete(path)) this.folded.add(path);
      this.draw();
    };
    return html`<li>
      <button class="fold" aria-expanded=${isOpen ? "true" : "false"} @click=${toggle}>${name} <span class="muted">${size}</span></button>
      ${isOpen ? this.#children(value, Array.isArray(value) ? [...value.keys()] : keys, path, depth + 1) : nothing}
    </li>`;
  }

  #leaf(value, path) {
    if (typeof value !== "string") return html`<span class="value ${value === null ? "null" : typeof value}">${String(value)}</span>`;
    const shown = this.whole.has(path) ? value : cut(value, 1000);
    const isLong = shown !== value;
    return html`<bdi class="value string">${visible(shown, "\n\t")}</bdi>${isLong ? this.#more(path, `all ${grouped(value.length)} characters`) : nothing}`;
  }

  #buttons(key, operator, value, kind = "string") {
    if (value.length > FILTER_CHARS) return nothing;
    const filter = (isNegated) => () => this.#send("filter", { key, operator, value, isNegated });
    const canExclude = operator === "=" || key === "tag";
    const canCount = operator === ":" || !FIXED.includes(key); // a field with the name of a facet has none
    const label = `${key} ${oneLine(value, 60)}`;
    return html`<span class="actions">
      <button class="quiet" aria-label="Filter for ${label}" title="filter for this value" @click=${filter(false)}>+</button>
      ${canExclude ? html`<button class="quiet" aria-label="Filter out ${label}" title="filter out" @click=${filter(true)}>−</button>` : nothing}
      ${kind === "number" ? html`<button class="quiet" aria-label="Chart of ${key}" title="chart over time" @click=${() => this.#send("chart", key)}>∿</button>` : nothing}
      ${canCount ? html`<button class="quiet" aria-label="Count the values of ${key}" title="count its values, as a facet" @click=${() => this.#send("facet", key)}>≡</button>` : nothing}
      <button class="quiet" aria-label="Copy ${label}" title="copy" @click=${() => this.#send("copy", value)}>copy</button>
    </span>`;
  }
}

function coloured(text) {
  if (!isColoured(text)) return visible(text, "\n\t");
  return pieces(text).map((piece) => html`<span class=${piece.classes} .style=${piece.style}>${visible(piece.text, "\n\t")}</span>`);
}

function traceback(text) {
  return html`<pre class="traceback" dir="auto">${linesOf(text).map(({ text: line, kind }) => html`<span class="line ${kind}">${visible(line, "\t")}\n</span>`)}</pre>`;
}
