/**
 * Completion in the search box: keys, fields and values, from what the journal holds.
 *
 * Always true: a choice replaces the word at the cursor and nothing else; an answer that comes late is ignored.
 */

import { html, nothing, render } from "./vendor/lit-html.js";
import { LEVELS } from "./levels.js";
import { isAbort } from "./rpc.js";
import { KEYS, quoted, tokens } from "./search.js";
import { brief, cut, oneLine } from "./text.js";

const SHOWN = 12;
const WAIT_MS = 120;
const TIMES = ["5m", "15m", "1h", "6h", "1d", "7d", "today", "yesterday"];

export class Completion {
  /** `input` is the search box and `box` the list below it. `fieldNames` returns the fields that are known. */
  constructor(input, box, rpc, fieldNames) {
    this.input = input;
    this.box = box;
    this.rpc = rpc;
    this.fieldNames = fieldNames;
    this.choices = [];
    this.active = -1;
    this.counted = new Map(); // the rows of `counts`, by what they count
    this.work = new AbortController();
    input.addEventListener("input", () => this.#look());
    input.addEventListener("blur", () => setTimeout(() => this.close(), 150));
    input.addEventListener("keydown", (event) => this.#key(event));
  }

  get isOpen() {
    return this.choices.length > 0;
  }

  close() {
    this.work.abort();
    clearTimeout(this.timer);
    this.choices = [];
    this.active = -1;
    this.#draw();
  }

  #look() {
    this.work.abort();
    this.work = new AbortController();
    clearTimeout(this.timer);
    const token = this.#token();
    const known = this.#known(token);
    this.#offer(known);
    if (token.kind === "key" || token.kind === "where") {
      this.timer = setTimeout(() => this.#fetch(token, this.work.signal), WAIT_MS);
    }
  }

  /** Return the token that ends at the cursor; an empty one between two tokens. */
  #token() {
    const at = this.input.selectionStart;
    const found = tokens(this.input.value).find(({ start, end }) => start < at && at <= end);
    return found ?? { start: at, end: at, kind: "text", value: "", isNegated: false };
  }

  #known(token) {
    const { kind, key, value, isNegated, start, end } = token;
    const sign = isNegated ? "-" : "";
    const typed = this.input.value.slice(start, end);
    if (kind === "text" && !typed.includes('"')) {
      if (!value) return [];
      const keys = Object.entries(KEYS).filter(([name]) => name.startsWith(value) && (!isNegated || name === "tag"));
      const fields = this.fieldNames().filter(({ name }) => name.toLowerCase().includes(value.toLowerCase()));
      return [
        ...keys.map(([name, hint]) => ({ text: `${sign}${name}:`, hint, isOpen: true })),
        ...fields.map(({ name, example }) => ({ text: `${sign}${name}=`, hint: oneLine(String(example ?? ""), 40), isOpen: true })),
      ].slice(0, SHOWN);
    }
    if (key === "level") return LEVELS.filter((name) => name.startsWith(value)).map((name) => ({ text: `level:${name}`, hint: "or worse" }));
    if (key === "since" || key === "until") {
      return TIMES.filter((each) => each.startsWith(value)).map((each) => ({ text: `${key}:${each}`, hint: /\d/.test(each) ? "ago" : "" }));
    }
    return this.#valuesOf(token, this.counted.get(counterOf(token)) ?? []);
  }

  #valuesOf({ key, operator, value, isNegated }, rows) {
    const sign = isNegated ? "-" : "";
    const matching = rows.filter(([[text]]) => text !== null && text !== value && text.toLowerCase().includes(value.toLowerCase()));
    return matching.slice(0, SHOWN).map(([[text], count]) => ({ text: `${sign}${key}${operator}${quoted(text)}`, hint: brief(count) }));
  }

  async #fetch(token, signal) {
    const { key, value } = token;
    if (["level", "since", "until"].includes(key)) return;
    const by = counterOf(token);
    const narrowed = key === "tag" && /^[\w.-]+$/.test(value) ? { tag: `${value}*` } : {};
    try {
      await this.rpc.stream("counts", { by: [by], limit: 100, ...narrowed }, ({ rows }) => {
        this.counted.set(by, rows);
        this.#offer(this.#valuesOf(token, rows));
      }, { signal });
    } catch (error) {
      if (!isAbort(error)) this.#offer([]);
    }
  }

  #offer(choices) {
    this.choices = document.activeElement === this.input ? choices : [];
    this.active = Math.min(this.active, choices.length - 1);
    this.#draw();
  }

  #key(event) {
    if (!this.isOpen) return;
    const steps = { ArrowDown: 1, ArrowUp: -1 };
    if (event.key in steps) {
      const count = this.choices.length;
      this.active = this.active < 0 && steps[event.key] < 0 ? count - 1 : (this.active + steps[event.key] + count) % count;
      this.#draw();
    } else if (event.key === "Tab" && !event.shiftKey) this.#choose(Math.max(this.active, 0));
    else if (event.key === "Enter" && this.active >= 0) this.#choose(this.active);
    else if (event.key === "Escape") this.close();
    else return;
    event.preventDefault();
    event.stopImmediatePropagation();
  }

  #choose(index) {
    const choice = this.choices[index];
    const { start, end } = this.#token();
    const text = choice.isOpen ? choice.text : `${choice.text} `;
    this.input.setRangeText(text, start, end, "end");
    this.close();
    this.input.focus();
    this.#look();
  }

  #draw() {
    this.input.setAttribute("aria-expanded", this.isOpen ? "true" : "false");
    if (this.active >= 0) this.input.setAttribute("aria-activedescendant", `choice-${this.active}`);
    else this.input.removeAttribute("aria-activedescendant");
    this.box.hidden = !this.isOpen;
    const pick = (index) => (event) => {
      event.preventDefault();
      this.#choose(index);
    };
    render(
      this.choices.map(
        ({ text, hint }, index) => html`<div role="option" class="choice" id="choice-${index}" aria-selected=${index === this.active ? "true" : "false"} @mousedown=${pick(index)}>
          <bdi>${oneLine(cut(text, 120))}</bdi>${hint ? html`<bdi class="hint">${hint}</bdi>` : nothing}</div>`,
      ),
      this.box,
    );
    this.box.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
  }
}

/** Return what `counts` counts by for the values of a token. */
const counterOf = ({ kind, key }) => (kind === "key" ? key : `record.${key}`);
