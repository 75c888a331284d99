/**
 * The dialog that makes an alert of the search: its table for the configuration, and how often it would have fired.
 *
 * Always true: the table selects what the search selects, except its times; the page changes no configuration.
 */

import { html, nothing } from "./vendor/lit-html.js";
import { open } from "./dialogs.js";
import { isAbort } from "./rpc.js";
import { grouped } from "./text.js";
import * as time from "./time.js";

const LISTS = ["tag", "where"];
const NAME_CHARS = 32;
const WAYS = {
  message: { label: "a message in the journal" },
  url: { label: "a web hook", hint: "https://hooks.example.org/T0/B0" },
  command: { label: "a command", hint: "/usr/local/bin/page-somebody --now" },
};

/** Show the dialog for the search of `page`. */
export function showAlert(page) {
  let filters;
  try {
    filters = page.filters();
  } catch (error) {
    page.notice(error);
    return;
  }
  const { since, until, ...lasting } = filters;
  const rule = { name: nameFor(page.state.get("q")), count: 1, within: "5m", pause: "5m", way: "message", to: "" };
  let tried = nothing;
  const work = new AbortController();
  document.getElementById("dialog").addEventListener("close", () => work.abort(), { once: true });

  const changed = ({ target }) => {
    rule[target.name] = target.type === "number" ? Math.max(Number(target.value), 1) : target.value;
    tried = nothing;
    draw();
  };
  const input = (name, label, type = "text") => html`<label>${label}
    <input name=${name} type=${type} min="1" max="10000" .value=${String(rule[name])} autocomplete="off" spellcheck="false" @input=${changed} /></label>`;
  const say = (content) => {
    tried = content;
    draw();
  };
  const dryRun = async () => {
    const within = rule.count > 1 ? { within: rule.within } : {};
    say(html`Counting…`);
    try {
      await page.rpc.stream("alert_dry_run", { ...lasting, count: rule.count, ...within, pause: rule.pause }, (value) => say(wordsOf(value, page.isUtc)), { signal: work.signal });
    } catch (error) {
      if (!isAbort(error)) say(html`<span class="fault">${error.message}</span>`);
    }
  };
  const draw = () =>
    open(
      "Make an alert",
      html`<form class="alert" @submit=${(event) => event.preventDefault()}>
          ${input("name", "Name")} ${input("count", "Messages", "number")}
          ${rule.count > 1 ? input("within", "within") : nothing} ${input("pause", "then quiet for")}
          <label>Report by <select name="way" @change=${changed}>
            ${Object.entries(WAYS).map(([way, { label }]) => html`<option value=${way} ?selected=${way === rule.way}>${label}</option>`)}
          </select></label>
          ${rule.way === "message" ? nothing : html`<input name="to" aria-label="Where to" placeholder=${WAYS[rule.way].hint} .value=${rule.to} @input=${changed} />`}
        </form>
        <pre id="alert-table" tabindex="0" aria-label="The table">${tableOf(lasting, rule)}</pre>
        <form @submit=${(event) => event.preventDefault()}>
          <button type="button" id="alert-copy" @click=${() => page.actions.copyText(tableOf(lasting, rule))}>Copy</button>
          <button type="button" id="alert-try" @click=${dryRun}>Try it</button>
          <output id="alert-tried">${tried}</output>
        </form>
        <p class="muted">Put the table into the configuration file of the hub, then: mpsr hub --check, and a reload.
          ${since || until ? "An alert looks at what arrives: the times of the search are not part of it." : nothing}</p>`,
    );
  draw();
}

/** Say how often it would have fired. */
function wordsOf({ firings, fired, matches, is_final: isFinal }, isUtc) {
  const times = firings === 1 ? "once" : `${grouped(firings)} times`;
  const verdict = firings ? `It would have fired ${times} since yesterday` : "It would not have fired since yesterday";
  const last = fired.length ? `, last at ${time.whole(fired.at(-1).time, isUtc, true)}` : "";
  return html`${isFinal ? "" : "So far: "}${verdict}${last} (${grouped(matches)} ${matches === 1 ? "match" : "matches"}).`;
}

/** Return the table for the configuration, in TOML. */
export function tableOf(filters, { name, count, within, pause, way, to }) {
  const lines = [["name", text(name)]];
  for (const [key, value] of Object.entries(filters)) lines.push([key, LISTS.includes(key) ? list([value].flat()) : valueOf(value)]);
  lines.push(["count", String(count)]);
  if (count > 1) lines.push(["within", text(within)]);
  lines.push(["pause", text(pause)]);
  if (way === "url") lines.push(["url", text(to.trim() || WAYS.url.hint)]);
  if (way === "command") lines.push(["command", list((to.trim() || WAYS.command.hint).split(/\s+/))]);
  return ["[[alerts]]", ...lines.map(([key, value]) => `${key} = ${value}`), ""].join("\n");
}

const valueOf = (value) => (typeof value === "string" ? text(value) : String(value));
const list = (values) => `[${values.map(text).join(", ")}]`;

/** A text of TOML: as in JSON, and DEL is escaped too. Half characters cannot be in it. */
const text = (value) => JSON.stringify(value.toWellFormed()).replaceAll("\u007f", "\\u007f");

/** Return a name that an alert may have. */
function nameFor(query) {
  const words = query.replace(/[^A-Za-z0-9]+/g, "-").replace(/^-+|-+$/g, "").toLowerCase();
  return words.slice(0, NAME_CHARS).replace(/-+$/, "") || "alert";
}
