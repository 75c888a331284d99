/**
 * Times as people read and write them, in the zone of the browser or in UTC.
 *
 * The hub gives times as RFC 3339 in UTC with nanoseconds; those stay texts, because a number of JavaScript cannot hold
 * nanoseconds since the epoch.
 *
 * Always true: what `parse` accepts, the hub accepts as `since` and `until`, with the same meaning.
 */

const SOON_MS = 2000;

const pad = (number, width = 2) => String(number).padStart(width, "0");

/** Return `{day, clock}` of a time: `2026-11-27` and `14:05:09.123`. */
export function parts(text, isUtc) {
  const moment = typeof text === "number" ? new Date(text) : new Date(milliseconds(text));
  if (Number.isNaN(moment.getTime())) return { day: "", clock: String(text) };
  const get = (name) => moment[`get${isUtc ? "UTC" : ""}${name}`]();
  return {
    day: `${pad(get("FullYear"), 4)}-${pad(get("Month") + 1)}-${pad(get("Date"))}`,
    clock: `${pad(get("Hours"))}:${pad(get("Minutes"))}:${pad(get("Seconds"))}.${pad(get("Milliseconds"), 3)}`,
  };
}

/** Return day and clock in one text; without milliseconds if `isShort`. */
export function whole(text, isUtc, isShort = false) {
  const { day, clock } = parts(text, isUtc);
  return `${day} ${isShort ? clock.slice(0, 8) : clock}`;
}

/** Return after some milliseconds. */
export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Return when `work` is done, and after `SOON_MS` at the latest: others need not wait longer. */
export const soon = (work) => Promise.race([work, pause(SOON_MS)]);

/** Return whether a bound of a period is a time, and not a while ago. */
export const isMoment = (text) => /^\d{4}-.*T/.test(text);

/** Return a time as somebody would type it: what `parse` has returned, in the viewer's zone. */
export function typed(text, isUtc) {
  return isMoment(text) ? whole(text, isUtc).replace(/\.000$/, "") : text;
}

/** Return milliseconds since the epoch of an RFC 3339 time with nanoseconds. */
export function milliseconds(text) {
  return Date.parse(text.replace(/(\.\d{3})\d+/, "$1"));
}

/** Return seconds since the epoch as RFC 3339 in UTC. */
export function rfc3339(seconds) {
  return new Date(Math.round(seconds * 1000)).toISOString();
}

/** Return the name of the zone, as it is shown: `UTC` or `UTC+01:00`. */
export function zoneName(isUtc, at = new Date()) {
  const minutes = isUtc ? 0 : -at.getTimezoneOffset();
  if (minutes === 0) return "UTC";
  const positive = Math.abs(minutes);
  return `UTC${minutes < 0 ? "−" : "+"}${pad(Math.floor(positive / 60))}:${pad(positive % 60)}`;
}

const DURATION = /^-?(?:\d+(?:\.\d+)?\s*(?:s|sec|second|m|min|minute|h|hr|hour|d|day|w|week|month|y|year)s?\s*)+(?:ago)?$/;
const CLOCK = /^(?:(today|yesterday|tomorrow|\d{4}-\d{2}-\d{2})[ T]?)?(\d{1,2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?)?$/;

/**
 * Return `text` as the hub takes it: clock times and days of the viewer's zone become RFC 3339. Throws an Error.
 *
 * The hub would take them in its own zone, and the page shows another.
 */
export function parse(text, isUtc, now = new Date()) {
  text = text.trim();
  if (text === "") throw new Error("a time is missing");
  if (text === "now" || DURATION.test(text) || /^@\d+(?:\.\d+)?$/.test(text)) return text;
  if (/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:\d{2})$/.test(text)) return text;
  const match = CLOCK.exec(text === "midnight" ? "today" : text);
  if (!match || text === "") throw new Error(`${text}: not a time (1h, 14:30, yesterday 14:30, 2026-11-20 14:30)`);
  const [, day = "today", clock = "00:00"] = match;
  const [hours, minutes, seconds = 0] = clock.split(":").map(Number);
  const get = (name) => now[`get${isUtc ? "UTC" : ""}${name}`]();
  const shift = { today: 0, yesterday: -1, tomorrow: 1 }[day];
  const [year, month, date] = shift === undefined ? day.split("-").map(Number) : [get("FullYear"), get("Month") + 1, get("Date") + shift];
  const values = [year, month - 1, date, hours, minutes, Math.floor(seconds), Math.round((seconds % 1) * 1000)];
  const moment = isUtc ? new Date(Date.UTC(...values)) : new Date(...values);
  if (Number.isNaN(moment.getTime()) || hours > 24 || minutes > 59 || seconds >= 61) throw new Error(`${text}: no such time`);
  return moment.toISOString();
}

/** Return a duration in seconds as people write it: 90 s, 1 h 30 min. */
export function duration(seconds) {
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  const found = [];
  for (const [size, name] of units) {
    const count = Math.floor(seconds / size);
    if (count && found.length < 2) found.push(`${count} ${name}`);
    seconds -= count * size;
  }
  return found.join(" ");
}
