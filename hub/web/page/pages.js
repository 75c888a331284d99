/**
 * Pages of messages from the journal, by cursor: before a sequence, or after one.
 *
 * The hub ends a page at about 100 KB, and after a second of searching; these functions go on until they have what was
 * asked for, so that a rare word in a large journal is found without a special case.
 *
 * Always true: messages are in the order of their sequences, without a hole between them that the query would fill.
 */

/** Return `{messages, isStart}`: the last `count` messages before the sequence `before`, or the newest ones. */
export async function pageBefore(rpc, filters, { before, count, signal }) {
  const end = before === undefined ? {} : { before };
  let page = await rpc.call("query", { ...filters, ...end, last: count }, { signal });
  const messages = page.messages;
  while (page.next !== null && messages.length < count) {
    page = await rpc.call("query", { ...filters, ...end, after: page.next, limit: count - messages.length }, { signal });
    messages.push(...page.messages);
  }
  return { messages, isStart: messages.length < count };
}

/** Return `{messages, isEnd}`: the first `count` messages after the sequence `after`. */
export async function pageAfter(rpc, filters, { after, count, signal }) {
  const messages = [];
  let next = after;
  while (next !== null && messages.length < count) {
    const page = await rpc.call("query", { ...filters, after: next, limit: count - messages.length }, { signal });
    messages.push(...page.messages);
    next = page.next;
  }
  return { messages, isEnd: next === null };
}
