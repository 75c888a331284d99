/**
 * Saved searches: a name, and the query with its stretch of time. They are in this browser only.
 *
 * Always true: what is stored and cannot be read counts as nothing.
 */

const STORED = "mpsr.searches";
/** The oldest is dropped. */
const SEARCHES_MAX = 100;

/** Return the saved searches: `{name, q, from, to}`. */
export function savedSearches(stored = localStorage) {
  try {
    return JSON.parse(stored.getItem(STORED)).filter(({ name, q }) => typeof name === "string" && typeof q === "string");
  } catch {
    return [];
  }
}

/** Save a search; one of the same name is replaced. */
export function save(search, stored = localStorage) {
  const others = savedSearches(stored).filter(({ name }) => name !== search.name);
  stored.setItem(STORED, JSON.stringify([...others, search].slice(-SEARCHES_MAX)));
}

/** Forget the search with this name. */
export function forget(name, stored = localStorage) {
  stored.setItem(STORED, JSON.stringify(savedSearches(stored).filter((each) => each.name !== name)));
}
