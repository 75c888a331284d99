/**
 * The facets: for some fields, which values occur most often, and how often. A click filters.
 *
 * The counts are of all messages that match, not of those in memory. First come the groups that the hub may know from
 * its indexes, then all others at once, for which it reads the messages; the hub answers in stages.
 *
 * Always true: what is closed or hidden costs nothing; an answer for an earlier query is ignored, and values that are
 * shown until the new ones come are marked as stale.
 */

import { html, nothing, render } from "./vendor/lit-html.js";
import { isAbort } from "./rpc.js";
import { filterOf } from "./search.js";
import { brief, grouped, oneLine } from "./text.js";
import { soon } from "./time.js";

/** What the hub knows about the writer of a message, and the level. Anything else is a field of the record. */
export const FIXED = ["level", "tag", "comm", "pid", "uid", "unit", "container", "host"];
const NAMES = {
  level: "Level", tag: "Tag", comm: "Program", pid: "Process", uid: "User", unit: "Unit", container: "Container", host: "Host",
};
const INDEXED = ["level", "tag"];
const LIMIT = 12;
/** The hub tells no more values apart, of all groups that are counted together, and counts no more groups together. */
const DISTINCT_MAX = 10_000;
const TOGETHER_MAX = 16;
const STORED = "mpsr.facets";

export class Facets extends EventTarget {
  /** Sends `filter` with `{key, operator, value, isNegated}`, and `chart` with the name of what to count by. */
  constructor(box, rpc, stored = localStorage) {
    super();
    this.box = box;
    this.rpc = rpc;
    this.stored = stored;
    this.work = new AbortController();
    this.values = new Map();
    this.limits = new Map();
    this.faults = new Map();
    this.stale = new Set();
    this.isWaiting = false;
    this.isAged = false; // `show` is about to count
    this.query = "";
    this.filters = {};
    const known = readStored(stored);
    this.fields = known.fields;
    this.open = new Set(known.open);
  }

  /** Count for these filters, which `query` stands for; return when all is counted. Where it is hidden, when it is shown. */
  async show(filters, query) {
    [this.filters, this.query, this.isAged] = [filters, query, false];
    this.#stop();
    this.draw();
    this.isWaiting = !this.box.checkVisibility();
    if (!this.isWaiting) await this.#count([...this.open], this.work.signal);
  }

  /** Count now what was not counted while the facets were hidden. */
  async wake() {
    if (this.isWaiting) await this.show(this.filters, this.query);
  }

  /** End what is being counted, and mark what is shown as that of an earlier query. */
  age() {
    this.#stop();
    this.isAged = true;
    this.faults.clear();
    this.stale = new Set(this.values.keys());
    this.draw();
  }

  #stop() {
    this.work.abort();
    this.work = new AbortController();
  }

  /** Count by each of `names`, one reading after the other, except beside one that takes long. */
  async #count(names, signal) {
    const others = names.filter((name) => !INDEXED.includes(name));
    const parts = [names.filter((name) => INDEXED.includes(name))];
    for (let at = 0; at < others.length; at += TOGETHER_MAX) parts.push(others.slice(at, at + TOGETHER_MAX));
    const all = [];
    for (const part of parts.filter(({ length }) => length)) {
      if (signal.aborted) return;
      all.push(this.#countTogether(part, signal));
      await soon(all.at(-1));
    }
    await Promise.all(all);
  }

  async #countTogether(names, signal) {
    const limits = names.map((name) => this.limits.get(name) ?? LIMIT);
    const asked = { ...this.filters, by: names.map(nameOf), apart: true, limit: Math.max(...limits) };
    const distinctMax = Math.floor(DISTINCT_MAX / names.length);
    try {
      await this.rpc.stream("counts", asked, ({ apart, ...rest }) => {
        names.forEach((name, at) => {
          const { rows, others, ...counted } = apart[at];
          const more = rows.slice(limits[at]).reduce((sum, [, messages]) => sum + messages, 0);
          this.values.set(name, { ...counted, ...rest, rows: rows.slice(0, limits[at]), others: others + more, distinctMax });
          this.faults.delete(name);
          this.stale.delete(name);
        });
        this.draw();
      }, { signal });
    } catch (error) {
      if (isAbort(error)) return;
      for (const name of names) this.faults.set(name, error.message);
      this.draw();
    }
  }

  #again(name) {
    this.faults.delete(name);
    if (!this.isAged) this.#count([name], this.work.signal);
    this.draw();
  }

  /** Add a facet for a field of the record. */
  add(name) {
    if (name && !FIXED.includes(name) && !this.fields.includes(name)) this.fields = [...this.fields, name];
    this.open.add(name);
    this.#store();
    this.#again(name);
    this.box.querySelector(`[data-name="${CSS.escape(name)}"]`)?.scrollIntoView({ block: "nearest" });
  }

  #remove(name) {
    this.fields = this.fields.filter((each) => each !== name);
    this.open.delete(name);
    this.#store();
    this.draw();
  }

  #toggle(name) {
    if (this.open.delete(name)) this.draw();
    else {
      this.open.add(name);
      this.#again(name);
    }
    this.#store();
  }

  #store() {
    this.stored.setItem(STORED, JSON.stringify({ fields: this.fields, open: [...this.open] }));
  }

  draw() {
    render(
      html`${[...FIXED, ...this.fields].map((name) => this.#group(name))}
        <form class="add-facet" @submit=${(event) => this.#submitted(event)}>
          <input name="field" list="field-names" placeholder="+ field" aria-label="Add a facet for a field" autocomplete="off" spellcheck="false" />
        </form>`,
      this.box,
    );
  }

  #submitted(event) {
    event.preventDefault();
    const { field } = event.target.elements;
    if (field.value.trim()) this.add(field.value.trim());
    field.value = "";
  }

  #group(name) {
    const isOpen = this.open.has(name);
    const isOwn = !FIXED.includes(name);
    const value = this.values.get(name);
    return html`<section class="facet" data-name=${name}>
      <h2>
        <button class="facet-name" aria-expanded=${isOpen ? "true" : "false"} @click=${() => this.#toggle(name)}>${NAMES[name] ?? oneLine(name, 60)}</button>
        <button class="quiet" aria-label="Chart by ${NAMES[name] ?? name}" title="messages over time, by this" @click=${() => this.dispatchEvent(new CustomEvent("chart", { detail: nameOf(name) }))}>∿</button>
        ${isOwn ? html`<button class="quiet" aria-label="Remove the facet ${name}" @click=${() => this.#remove(name)}>✕</button>` : nothing}
      </h2>
      ${isOpen ? this.#values(name, value) : nothing}
    </section>`;
  }

  #values(name, value) {
    if (this.faults.has(name)) {
      return html`<p class="fault">${this.faults.get(name)} <button class="link" @click=${() => this.#again(name)}>Count again</button></p>`;
    }
    if (!value) return html`<p class="muted">counting…</p>`;
    const isPartial = value.is_final === false || this.stale.has(name);
    if (!value.rows.length) return html`<p class="muted">${isPartial ? "counting…" : "none"}</p>`;
    const most = Math.max(...value.rows.map(([, count]) => count));
    return html`<ul class=${this.stale.has(name) ? "stale" : ""} ?inert=${this.stale.has(name)}>
        ${value.rows.map(([[text], count]) => this.#value(name, text, count, count / most))}
      </ul>
      ${value.others ? this.#others(name, value) : nothing} ${isPartial ? html`<p class="muted">${this.stale.has(name) ? "of an earlier search" : "so far"}; counting…</p>` : nothing}`;
  }

  #value(name, text, count, share) {
    const kind = text === null ? "" : filterOf(this.query, name, text);
    const level = name === "level" && text ? `level-${text}` : "";
    const title = `${grouped(count)} ${count === 1 ? "message" : "messages"}`;
    const isNone = text === null || (text === "" && FIXED.includes(name)); // no filter selects it
    const label = isNone ? "(none)" : oneLine(text, 200) || '""';
    return html`<li class="value ${kind} ${level}">
      <button class="in" title=${title} ?disabled=${isNone} aria-pressed=${kind === "in" ? "true" : "false"}
          @click=${(event) => this.#filter(name, text, event.shiftKey)}>
        <span class="share" .style=${`width: ${Math.max(share * 100, 1)}%`}></span>
        <bdi class="label">${label}</bdi><span class="count">${brief(count)}</span>
      </button>
      ${text === null || name === "level" || !(name === "tag" || !FIXED.includes(name))
        ? nothing
        : html`<button class="out quiet" aria-label="Filter out ${label}" title="filter out" @click=${() => this.#filter(name, text, true)}>−</button>`}
    </li>`;
  }

  #others(name, { rows, others, distinct, distinctMax }) {
    const more = () => {
      this.limits.set(name, (this.limits.get(name) ?? LIMIT) * 4);
      this.#again(name);
    };
    const isMore = (this.limits.get(name) ?? LIMIT) < 200;
    const shown = rows.filter(([[value]]) => value !== null).length;
    const values = distinct > shown ? `of ${grouped(distinct)}${distinct >= distinctMax ? " or more" : ""} values; ` : "";
    return html`<p class="muted" title="${grouped(others)} messages have other values">
      ${values}${brief(others)} in others ${isMore ? html`<button class="link" @click=${more}>more</button>` : nothing}
    </p>`;
  }

  #filter(key, value, isNegated) {
    const operator = FIXED.includes(key) ? ":" : "=";
    this.dispatchEvent(new CustomEvent("filter", { detail: { key, operator, value, isNegated } }));
  }
}

/** Return the name of a facet for the methods that count. */
const nameOf = (name) => (FIXED.includes(name) ? name : `record.${name}`);

function readStored(stored) {
  try {
    const { fields, open } = JSON.parse(stored.getItem(STORED));
    return { fields: fields.filter((each) => typeof each === "string").slice(0, 40), open };
  } catch {
    return { fields: [], open: ["level", "tag", "comm"] };
  }
}
