/**
 * What the page shows, kept in its address: the query, the place in the journal, the view. A copied address shows the
 * same to everybody who may read it.
 *
 * The token is in the address only at the beginning. It is taken out at once, and kept as long as the tab is open.
 *
 * Always true: the address and the state agree; the token is never in the address after `begin`.
 */

const NAMES = ["q", "from", "to", "at", "view", "context", "chart", "by", "sql", "zone"];
const TOKEN = "mpsr.token";

export class State extends EventTarget {
  constructor() {
    super();
    this.values = {};
    this.token = "";
  }

  /** Read the address, and follow it. */
  begin() {
    const given = new URLSearchParams(location.hash.slice(1));
    this.token = given.get("token") ?? sessionStorage.getItem(TOKEN) ?? "";
    sessionStorage.setItem(TOKEN, this.token);
    this.values = this.#read(given);
    history.replaceState(null, "", this.#address());
    addEventListener("hashchange", () => {
      const next = new URLSearchParams(location.hash.slice(1));
      if (next.has("token")) {
        sessionStorage.setItem(TOKEN, next.get("token"));
        location.reload();
        return;
      }
      this.#change(this.#read(next));
    });
  }

  get(name) {
    return this.values[name] ?? "";
  }

  /** Change some values; empty ones are left out of the address. `isStep`: the browser's button goes back to before. */
  set(changes, { isStep = true } = {}) {
    const next = { ...this.values };
    for (const [name, value] of Object.entries(changes)) {
      if (value === "" || value === null || value === undefined) delete next[name];
      else next[name] = String(value);
    }
    const changed = this.#changed(next);
    if (changed.length === 0) return;
    const before = this.values;
    this.values = next;
    history[isStep ? "pushState" : "replaceState"](null, "", this.#address());
    this.#report(changed, before);
  }

  /** Return the address of the page with these changes: a link. */
  link(changes = {}) {
    return new URL(this.#address({ ...this.values, ...changes }), location.href).href;
  }

  #read(given) {
    return Object.fromEntries(NAMES.filter((name) => given.get(name)).map((name) => [name, given.get(name)]));
  }

  #address(values = this.values) {
    const given = new URLSearchParams(Object.entries(values).filter(([, value]) => value !== ""));
    return `${location.pathname}#${given}`;
  }

  #changed(next) {
    return NAMES.filter((name) => (this.values[name] ?? "") !== (next[name] ?? ""));
  }

  #change(next) {
    const changed = this.#changed(next);
    const before = this.values;
    this.values = next;
    if (changed.length) this.#report(changed, before);
  }

  #report(changed, before) {
    this.dispatchEvent(new CustomEvent("change", { detail: { changed: new Set(changed), before } }));
  }
}
