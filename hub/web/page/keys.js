/**
 * The keys: those of lnav where it has one for the same.
 *
 * Always true: a key that is typed into a field is text and nothing else; every key is in the table that `?` shows.
 */

/** What each key does: its names, its words, and the name of the action. */
export const TABLE = [
  [["/"], "search", "search"],
  [["j", "ArrowDown"], "next message", "down"],
  [["k", "ArrowUp"], "previous message", "up"],
  [["PageDown", "f"], "a screen forward", "pageDown"],
  [["PageUp", "b"], "a screen back", "pageUp"],
  [["g", "Home"], "the oldest messages", "start"],
  [["G", "End"], "the newest messages", "end"],
  [["n"], "next hit of the search", "nextHit"],
  [["N"], "previous hit of the search", "previousHit"],
  [["e"], "next error", "nextError"],
  [["E"], "previous error", "previousError"],
  [["w"], "next warning or error", "nextWarning"],
  [["W"], "previous warning or error", "previousWarning"],
  [["o"], "an hour forward", "hourForward"],
  [["O"], "an hour back", "hourBack"],
  [["d"], "a day forward", "dayForward"],
  [["D"], "a day back", "dayBack"],
  [[" "], "pause and resume", "live"],
  [["Enter"], "open the message", "open"],
  [["Escape"], "cancel the search; close; leave the context; clear the search", "escape"],
  [["c"], "the context of the message, under all tags", "context"],
  [["y"], "copy the message as JSON", "copy"],
  [["l"], "copy a link to what is shown", "link"],
  [["t"], "show and hide the facets", "facets"],
  [["i"], "show and hide the histogram", "histogram"],
  [["z"], "times: local or UTC", "zone"],
  [["s"], "save the search", "save"],
  [["a"], "make an alert of the search", "alert"],
  [[";"], "queries in SQL", "sql"],
  [["h"], "the hub", "hub"],
  [["?"], "this list", "help"],
];

const NAMES = { " ": "Space", ArrowDown: "↓", ArrowUp: "↑", PageDown: "PgDn", PageUp: "PgUp", Escape: "Esc" };
const ACTIONS = new Map(TABLE.flatMap(([keys, , action]) => keys.map((key) => [key, action])));

/** Return the name of a key as it stands on a keyboard. */
export const nameOf = (key) => NAMES[key] ?? key;

/** Call `actions[name]` for the keys of the table. */
export function follow(actions) {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const { target } = event;
    if (target.closest?.("input, textarea, select, dialog")) return;
    // A button takes these itself.
    if (target.closest?.("button, a, summary") && (event.key === "Enter" || event.key === " ")) return;
    const action = ACTIONS.get(event.key);
    if (!action) return;
    event.preventDefault();
    actions[action](event);
  });
}
