/**
 * How one message looks in the list: time, tag, writer, text, and the other fields in grey.
 *
 * Always true: foreign text is in text nodes only, cut, without hidden characters, and its direction does not reach
 * beyond it.
 */

import { html, nothing } from "./vendor/lit-html.js";
import { isColoured, pieces } from "./ansi.js";
import { levelOf } from "./levels.js";
import { cut, grouped, oneLine, textOf } from "./text.js";
import { BLOCK_KEYS } from "./traceback.js";
import * as time from "./time.js";

/** Fields that the list shows at most, and the characters of each. */
const FIELDS_MAX = 24;
const FIELD_CHARS = 160;
const HITS_MAX = 20;
const SHOWN = new WeakMap();

/** Return what the list shows of `message`, made once. */
function shownOf(message) {
  let shown = SHOWN.get(message);
  if (!shown) {
    const { record } = message;
    const [level, levelKey] = levelOf(record);
    const [textKey, text] = textOf(record);
    shown = { level, text: text === null ? null : cut(text), fields: fieldsOf(record, levelKey, textKey) };
    SHOWN.set(message, shown);
  }
  return shown;
}

function fieldsOf(record, levelKey, textKey) {
  const fields = [];
  const add = (given, prefix) => {
    for (const key in given) {
      if (!prefix && (key === textKey || key === levelKey)) continue;
      if (fields.length >= FIELDS_MAX) return;
      const [value, name] = [given[key], prefix + oneLine(key, FIELD_CHARS)];
      if (BLOCK_KEYS.includes(key) && typeof value === "string") fields.push("⏎ traceback");
      else if (isSmallObject(value) && prefix.length < FIELD_CHARS) add(value, `${name}.`);
      else fields.push(`${name}=${oneLine(valueText(value, FIELD_CHARS), FIELD_CHARS)}`);
    }
  };
  add(record, "");
  return fields.length < FIELDS_MAX ? fields.join(" ") : `${fields.join(" ")} …`;
}

/** Return whether an object's fields are shown one by one, named as conditions name them: `http.status`. */
function isSmallObject(value) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return false;
  const count = Object.keys(value).length;
  return count > 0 && count <= FIELDS_MAX;
}

/** Return a value as one text. A large object is not written whole to show its beginning. */
export function valueText(value, limit) {
  if (typeof value === "string") return value.length > limit ? value.slice(0, limit + 1) : value;
  if (value === null || typeof value !== "object") return String(value);
  const entries = Array.isArray(value) ? value : Object.keys(value);
  if (entries.length > 50) return Array.isArray(value) ? `[${grouped(entries.length)} values]` : `{${grouped(entries.length)} fields}`;
  return JSON.stringify(value).slice(0, limit + 1);
}

/** Return whether one of `rows` is not of today, so that the list has to show days. */
export function areOfOtherDays(rows, isUtc) {
  const today = time.parts(Date.now(), isUtc).day;
  return rows.some((row) => row?.message && time.parts(row.message.time, isUtc).day !== today);
}

/** Return the row. `view` has `top`, `isSelected`, `isUtc`, `hasDay`, `hits` (an expression, or null). */
export function rowOf({ sequence, message, gap }, view) {
  const style = `transform: translateY(${view.top}px)`;
  if (gap !== undefined) {
    return html`<div class="row gap" role="option" aria-selected="false" data-sequence=${sequence} .style=${style}>
      <span class="text">+${grouped(gap)} not shown: the view was behind. Select to read them.</span></div>`;
  }
  const { level, text, fields } = shownOf(message);
  const { day, clock } = time.parts(message.time, view.isUtc);
  const home = message.host ? `${message.host}:` : "";
  return html`<div class="row ${level ? `level-${level}` : ""}" role="option" id="row-${sequence}" data-sequence=${sequence}
      aria-selected=${view.isSelected ? "true" : "false"} .style=${style}>
    <span class="time">${view.hasDay ? html`<span class="day">${day.slice(5)} </span>` : nothing}${clock}</span>
    <span class="level">${level}</span>
    <bdi class="tag">${oneLine(message.tag, 200)}</bdi>
    <span class="who"><bdi>${oneLine(`${home}${message.comm || "?"}`, 100)}</bdi><span class="pid">[${message.pid}]</span></span>
    <span class="text"><bdi>${text === null ? nothing : marked(text, view.hits)}</bdi> <bdi class="fields">${fields}</bdi></span>
  </div>`;
}

function marked(text, hits) {
  if (isColoured(text)) {
    return pieces(text).map((piece) => html`<span class=${piece.classes} .style=${piece.style}>${oneLine(piece.text)}</span>`);
  }
  if (!hits) return oneLine(text);
  const found = [];
  let at = 0;
  for (const match of text.matchAll(hits)) {
    if (match[0] === "" || found.length >= HITS_MAX * 2) break;
    found.push(shownPart(text.slice(at, match.index)), html`<mark>${shownPart(match[0])}</mark>`);
    at = match.index + match[0].length;
  }
  return [...found, oneLine(text.slice(at))];
}

/** Like `oneLine`, but spaces at the end stay: another part follows. */
function shownPart(text) {
  return oneLine(`${text}\u0001`).slice(0, -1);
}
