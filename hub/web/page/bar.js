/**
 * The bar at the top: the search box and the choice of a view.
 *
 * Always true: what was typed takes effect with Enter only, and stays until then; Escape leaves the box only if it has
 * the search that is shown.
 */

import { parametersOf, withoutFilter } from "./search.js";

const $ = (id) => document.getElementById(id);

/** Let the bar change the state of `page`. */
export function followBar(page) {
  const { completion, state } = page;
  const query = $("query");
  $("search").addEventListener("submit", (event) => {
    event.preventDefault();
    completion.close();
    search(page, query.value.trim());
  });
  query.addEventListener("input", () => ($("clear").hidden = !query.value));
  query.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && query.value.trim() === state.get("q")) $("list").focus();
  });
  $("clear").addEventListener("click", () => {
    query.value = "";
    page.complain("");
    state.set({ q: "", context: "" });
    query.focus();
  });
  $("view-messages").addEventListener("click", () => state.set({ view: "" }));
  $("view-sql").addEventListener("click", () => state.set({ view: "sql" }));
  $("view-hub").addEventListener("click", () => state.set({ view: "hub" }));
  $("chart-close").addEventListener("click", () => state.set({ chart: "", by: "" }));
  $("chart-by").addEventListener("change", ({ target }) => state.set({ by: target.value.trim() }));
}

/** Take what was typed: times go to the stretch of time, the rest is the query. */
function search(page, text) {
  const changes = { q: text, view: "", context: "", at: "" };
  try {
    const { since, until } = parametersOf(text, { isUtc: page.isUtc });
    if (since) changes.from = since;
    if (until) changes.to = until;
    changes.q = withoutFilter(withoutFilter(text, "since"), "until");
  } catch (error) {
    page.complain(error.message);
    return;
  }
  $("query").value = changes.q;
  $("list").focus();
  const before = location.href;
  page.state.set(changes);
  if (location.href === before) page.show();
}
