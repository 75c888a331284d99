/**
 * The language of the search box: text, `tag:`, `level:`, `field=value` and others become parameters of the methods.
 *
 *     pool exhausted tag:web.* -tag:web.debug level:warning status>=500 user="Ann Lee" since:1h
 *
 * Words without a key are one text, as they stand: `pool exhausted` finds both words with a space between. Small letters
 * find capital letters too; a text with a capital letter finds exactly that. `/.../` is a regular expression. A minus in
 * front excludes; several texts can be excluded.
 *
 * Always true: a query is text; parsing it again gives the same parameters; what the hub could not answer is an Error
 * that says what to write.
 *
 * Not here: completion (complete.js), times (time.js).
 */

import * as time from "./time.js";

/** The keys that are written with a colon, and what each selects. */
export const KEYS = {
  tag: "messages with this tag; * stands for anything",
  level: "this level or worse: debug, info, warning, error",
  since: "received since: 1h, 14:30, yesterday, 2026-11-20 14:30",
  until: "received until",
  comm: "the name of the program that has sent it",
  pid: "the process that has sent it",
  uid: "the user who has sent it: a name or a number",
  unit: "the systemd unit",
  host: "the host, if another hub has stored it first",
  container: "the container",
};
const ONE_TEXT =
  "one text to find, or several to leave out: put a regular expression between slashes, as in /refused|reset/, or exclude by a tag or a field";
const SINGLE = new Set(["level", "since", "until", "comm", "pid", "uid", "unit", "host", "container"]);
const CONDITION = /^([^\s!=<>"/:][^!=<>"]*?)(!=|==|<=|>=|=|<|>)(.*)$/s;
const OPPOSITE = { "=": "!=", "==": "!=", "!=": "=", "<": ">=", ">=": "<", ">": "<=", "<=": ">" };

/** Return the tokens of `query`: `{start, end, isNegated, kind, key, operator, value}`, with their places in it. */
export function tokens(query) {
  const found = [];
  let at = 0;
  while (at < query.length) {
    if (/\s/.test(query[at])) {
      at += 1;
      continue;
    }
    const start = at;
    at = endOf(query, at);
    found.push({ start, end: at, ...understood(query.slice(start, at)) });
  }
  return found;
}

/** Return where the token ends that begins at `at`: at a space outside quotes, or after a regular expression. */
function endOf(query, at) {
  const expression = /^-?\/((?:[^/\\]|\\.)+)\/i?(?=\s|$)/s.exec(query.slice(at));
  if (expression) return at + expression[0].length;
  let isQuoted = false;
  while (at < query.length && (isQuoted || !/\s/.test(query[at]))) {
    if (query[at] === "\\" && isQuoted) at += 1;
    else if (query[at] === '"') isQuoted = !isQuoted;
    at += 1;
  }
  return Math.min(at, query.length);
}

function understood(text) {
  const isNegated = text.length > 1 && text[0] === "-";
  const rest = isNegated ? text.slice(1) : text;
  const expression = /^\/(.+)\/(i?)$/s.exec(rest);
  if (expression) return { isNegated, kind: "regex", key: "", operator: "", value: expression[1], flags: expression[2] };
  if (rest[0] !== '"') {
    const colon = /^([a-z]+):(.*)$/s.exec(rest);
    if (colon && Object.hasOwn(KEYS, colon[1])) return { isNegated, kind: "key", key: colon[1], operator: ":", value: unquoted(colon[2]) };
    const condition = CONDITION.exec(rest);
    if (condition) return { isNegated, kind: "where", key: condition[1], operator: condition[2], value: unquoted(condition[3]) };
  }
  return { isNegated, kind: "text", key: "", operator: "", value: unquoted(rest) };
}

function unquoted(text) {
  return text.replace(/"((?:[^"\\]|\\.)*)"?/gs, (_, inner) => inner.replace(/\\(.)/gs, "$1"));
}

/** Return `value` as it stands in a query: in quotes if it could be taken for something else. */
export function quoted(value) {
  return /^[^\s"\\/-][^\s"\\]*$/.test(value) ? value : `"${value.replace(/["\\]/g, "\\$&")}"`;
}

/** Return the parameters of `query`: the filters of the method `query`. Throws an Error. */
export function parametersOf(query, { isUtc = false, now = new Date() } = {}) {
  const parameters = {};
  const words = [];
  const texts = [];
  for (const token of tokens(query)) {
    if (token.kind === "where") add(parameters, "where", conditionOf(token));
    else if (token.kind === "key") addKey(parameters, token, isUtc, now);
    else if (token.kind === "text" && !token.isNegated) words.push(token.value);
    else texts.push(token);
  }
  if (words.some((word) => word)) texts.push({ isNegated: false, kind: "text", value: words.join(" ") });
  const isExcluding = texts.length > 0 && texts.every(({ isNegated }) => isNegated);
  if (texts.length > 1 && !isExcluding) throw new Error(ONE_TEXT);
  if (texts.length > 0) addTexts(parameters, texts, isExcluding);
  return parameters;
}

function add(parameters, name, value) {
  parameters[name] = [...(parameters[name] ?? []), value];
}

/** Return a regular expression that finds `text` as it stands. */
export const escaped = (text) => text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");

/** Add the one text to find, or all that are left out: whatever has one of them. */
function addTexts(parameters, texts, isExcluding) {
  const expressionOf = ({ kind, value }) => (kind === "regex" ? value : escaped(value));
  const isAnyCase = ({ kind, value, flags }) => (kind === "regex" ? flags === "i" : value === value.toLowerCase());
  const isSame = texts.every((text) => isAnyCase(text) === isAnyCase(texts[0]));
  parameters.grep = texts.map((text) => (!isSame && isAnyCase(text) ? `(?i:${expressionOf(text)})` : expressionOf(text))).join("|");
  if (isSame && isAnyCase(texts[0])) parameters.ignore_case = true;
  if (isExcluding) parameters.invert_match = true;
}

function conditionOf({ isNegated, key, operator, value }) {
  return `${key}${isNegated ? OPPOSITE[operator] : operator}${value}`;
}

function addKey(parameters, { isNegated, key, value }, isUtc, now) {
  if (value === "") throw new Error(`${key}: has no value yet`);
  if (key === "tag") {
    add(parameters, "tag", isNegated ? `!${value}` : value);
    return;
  }
  if (isNegated) throw new Error(`-${key}: is not possible; only a tag, a field or a text can be excluded`);
  if (SINGLE.has(key) && key in parameters) throw new Error(`${key}: is there twice`);
  if (key === "since" || key === "until") parameters[key] = time.parse(value, isUtc, now);
  else if (key === "pid") {
    if (!/^\d{1,10}$/.test(value)) throw new Error("pid: is a number");
    parameters.pid = Number(value);
  } else parameters[key] = value;
}

/** Return `query` with a filter more; one of the same key, or the opposite one, is replaced where both cannot hold. */
export function withFilter(query, { key, operator, value, isNegated = false }) {
  const text = `${isNegated ? "-" : ""}${key}${operator}${quoted(value)}`;
  const kept = tokens(query).filter((token) => {
    if (token.key !== key) return true;
    if (operator === ":" && SINGLE.has(key)) return false;
    return token.value !== value && (isNegated || token.isNegated || operator !== ":" || key === "tag");
  });
  return joined(query, kept, text);
}

/** Return `query` without the filters of `key` with this value; of any value, if it is undefined. */
export function withoutFilter(query, key, value) {
  return joined(query, tokens(query).filter((token) => token.key !== key || (value !== undefined && token.value !== value)));
}

/** Return whether `query` has such a filter, and of which kind: `in`, `out` or the empty text. */
export function filterOf(query, key, value) {
  const token = tokens(query).find((each) => each.key === key && each.value === value);
  if (!token) return "";
  return token.isNegated !== (token.operator === "!=") ? "out" : "in";
}

function joined(query, kept, text = "") {
  return [...kept.map(({ start, end }) => query.slice(start, end)), text].filter(Boolean).join(" ");
}
