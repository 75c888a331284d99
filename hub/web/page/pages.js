/**
 * Pages of messages from the journal, by cursor: before a sequence, or after one.
 *
 * The hub ends a page at about 100 KB, and after a second of searching; these functions go on until they have what was
 * asked for, so that a rare word in a large journal is found without a special case.
 *
 * Always true: messages are in the order of their sequences, without a hole between them that the query would fill.
 */

/**
 * Return `{messages, isStart}`: the last `count` messages before the sequence `before`, or the newest ones, of which the
 * hub may give those of `ageMs` ago.
 */
export async function pageBefore(rpc, filters, { before, count, signal, ageMs }) {
  const end = { ...(before !== undefined && { before }), ...(ageMs && { age_ms: ageMs }) };
  let page = await rpc.call("query", { ...filters, ...end, last: count, limit: count }, { signal });
  const messages = page.messages;
  while (page.next !== null && messages.length < count) {
    page = await rpc.call("query", { ...filters, ...end, after: page.next, limit: count - messages.length }, { signal });
    messages.push(...page.messages);
  }
  return { messages, isStart: messages.length < count };
}

/** Sequences of the first stretch that `searchBack` asks for; further ones are longer while the hub answers soon. */
const STRETCH_MIN = 20_000;
const [SOON_MS, LATE_MS] = [250, 1000];

/**
 * Search from before the sequence `before` back to `first`, until `count` messages are found. Return like `pageBefore`.
 *
 * The hub is asked for one stretch of sequences after the other, so that an answer says how far the search is: `onPart`
 * is called with the messages of each, and the sequence from which on everything is searched.
 */
export async function searchBack(rpc, filters, { first, before, count, signal, onPart }) {
  const found = [];
  let [below, length] = [before, STRETCH_MIN];
  while (below > first && found.length < count) {
    const [low, began] = [Math.max(below - length, first), performance.now()];
    const { messages } = await pageBefore(rpc, { ...filters, after: low - 1 }, { before: below, count: count - found.length, signal });
    found.unshift(...messages);
    below = low;
    onPart?.(messages, low);
    const took = performance.now() - began;
    if (took < SOON_MS) length *= 4;
    else if (took > LATE_MS) length = Math.max(length / 2, STRETCH_MIN);
  }
  return { messages: found, isStart: found.length < count };
}

/** Return `{messages, isEnd}`: the first `count` messages after `after`. `onPage` is called with where a page ended. */
export async function pageAfter(rpc, filters, { after, count, signal, onPage }) {
  const messages = [];
  let next = after;
  while (next !== null && messages.length < count) {
    const page = await rpc.call("query", { ...filters, after: next, limit: count - messages.length }, { signal });
    messages.push(...page.messages);
    next = page.next;
    if (next !== null) onPage?.(next);
  }
  return { messages, isEnd: next === null };
}
