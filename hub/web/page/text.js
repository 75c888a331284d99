/**
 * Foreign text as it is shown: characters that would be invisible, or would change how others are shown, get symbols.
 *
 * Always true: what `visible` returns has no control character except the line feeds and tabs that are asked for, and
 * no character that changes the direction of text; it is never longer than `CUT_CHARS` and a few.
 */

/** Longer texts are cut in the list; the record shows more of them. */
export const CUT_CHARS = 4096;
/** Values have more characters than this only if somebody asks for the whole. */
export const VALUE_CHARS = 8192;

// C0 and DEL (with pictures of their own), C1, soft hyphen, marks and overrides of direction, characters of no width,
// line separators, tags.
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]|\udb40[\udc00-\udfff]/g;
const NEEDS = new RegExp(HIDDEN.source);

/** Return `text` with symbols in the place of hidden characters, except those in `kept`. */
export function visible(text, kept = "") {
  if (!NEEDS.test(text)) return text;
  return text.replace(HIDDEN, (found) => (kept.includes(found) ? found : symbolOf(found.codePointAt(0))));
}

/** Return at most `limit` characters of `text`, and no half of a pair; an ellipsis shows that there is more. */
export function cut(text, limit = CUT_CHARS) {
  if (text.length <= limit) return text;
  const isPair = /[\ud800-\udbff]/.test(text[limit - 1]);
  return `${text.slice(0, isPair ? limit - 1 : limit)}…`;
}

/** Return one line for `text`: cut, visible, with `⏎` for its line feeds. */
export function oneLine(text, limit = CUT_CHARS) {
  return visible(cut(text, limit).replace(/[ \t\r\n]+$/, "").replace(/\r?\n/g, " ⏎ ").replace(/\t/g, "  "));
}

function symbolOf(code) {
  if (code < 0x20) return String.fromCharCode(0x2400 + code);
  if (code === 0x7f) return "␡";
  return `⟨${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
}

const TEXT_KEYS = ["message", "event", "msg", "log"];

/** Return the key and the text of the message in `record`, as hub/query/rendering.py: `["", null]` if it has none. */
export function textOf(record) {
  for (const key of TEXT_KEYS) {
    if (Object.hasOwn(record, key) && typeof record[key] === "string") return [key, record[key]];
  }
  return ["", null];
}

/** Return a number with separators of thousands: 12,340. */
export function grouped(number) {
  return Math.round(number).toLocaleString("en-US");
}

/** Return a number in few characters: 950, 12.3k, 4.1M. */
export function brief(number) {
  const units = ["", "k", "M", "G", "T"];
  let unit = 0;
  while (Math.abs(number) >= 999.5 && unit < units.length - 1) {
    number /= 1000;
    unit += 1;
  }
  return `${number >= 100 || unit === 0 ? Math.round(number * 100) / 100 : number.toFixed(1)}`.replace(/(\.\d)\d+$/, "$1") + units[unit];
}

/** Return bytes as people read them: 512 B, 3.4 MiB. */
export function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (number >= 1024 && unit < units.length - 1) {
    number /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? number : number.toFixed(1)} ${units[unit]}`;
}
