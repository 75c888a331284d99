/**
 * The dialogs: help, the period, saved searches, download.
 *
 * Always true: there is one at a time; it is the browser's own, so it keeps the focus, and Escape closes it.
 */

import { html, render } from "./vendor/lit-html.js";
import { download } from "./download.js";
import { nameOf, TABLE } from "./keys.js";
import { isAbort } from "./rpc.js";
import { forget, save, savedSearches } from "./saved.js";
import { bytes, oneLine } from "./text.js";
import * as time from "./time.js";

const dialog = () => document.getElementById("dialog");

/** Show the dialog with this title and content; what is shown already is replaced. */
export function open(title, content) {
  const close = () => dialog().close();
  render(html`<header><h2 id="dialog-title">${title}</h2><button class="quiet" aria-label="Close" @click=${close}>✕</button></header>${content}`, dialog());
  if (!dialog().open) dialog().showModal();
}

const EXAMPLES = `pool exhausted            the text, with this space; a capital letter makes case count
/refused|reset/           a regular expression; /refused/i in any case
tag:web.*  -tag:web.debug tags with this form, and without
level:warning             this level or worse
status>=500  user="Ann L" fields of the record; also !=, <, <=, >, and http.status
-heartbeat  -/probe|ping/ without any of these texts
pid:4711  comm:nginx      the writer; also uid:, unit:, host:, container:
since:2h  until:14:30     times; also yesterday, 2026-11-20 14:30 in quotes`;

/** Show the keys and the language of the search. */
export function showHelp() {
  open(
    "Keys and search",
    html`<dl class="keys">${TABLE.map(([keys, text]) => html`<div><dt>${keys.map((key) => html`<kbd>${nameOf(key)}</kbd> `)}</dt><dd>${text}</dd></div>`)}</dl>
      <h3>Search</h3>
      <pre tabindex="0">${EXAMPLES}</pre>
      <p class="muted">All parts must match. Drag over the histogram to choose a stretch of time; click a bar to go there.</p>`,
  );
}

/** Show the period in which messages were received, and change it. */
export function showPeriod(page) {
  const { isUtc, state } = page;
  const submit = (event) => {
    event.preventDefault();
    const { from, to } = event.target.elements;
    const taken = ({ value }) => value.trim() && time.parse(value, isUtc);
    try {
      state.set({ from: taken(from), to: taken(to), at: "" });
      dialog().close();
    } catch (error) {
      dialog().querySelector("output").textContent = error.message;
    }
  };
  const field = (name, label, hint) =>
    html`<label>${label} <input name=${name} placeholder=${hint} .value=${time.typed(state.get(name), isUtc)} autocomplete="off" spellcheck="false" /></label>`;
  open(
    "Period",
    html`<form class="period" @submit=${submit}>
        ${field("from", "Received since", "the beginning")} ${field("to", "until", "now")}
        <button>Show</button>
      </form>
      <p><output class="fault"></output></p>
      <p class="muted">Times are in ${time.zoneName(isUtc)}: 14:30, yesterday 14:30, 2026-11-20 14:30:15; or a while ago: 30m, 2h, 7d. An empty field has no bound.</p>`,
  );
}

/** Show the saved searches, and save the one that is shown. */
export function showSaved(page) {
  const { state } = page;
  const submit = (event) => {
    event.preventDefault();
    const name = event.target.elements.name.value.trim();
    if (!name) return;
    save({ name, q: state.get("q"), from: state.get("from"), to: state.get("to") });
    showSaved(page);
  };
  const use = ({ q, from, to }) => {
    dialog().close();
    state.set({ q, from, to, at: "", context: "", view: "" });
  };
  const drop = (name) => {
    forget(name);
    showSaved(page);
  };
  const searches = savedSearches();
  open(
    "Saved searches",
    html`<form @submit=${submit}>
        <input name="name" aria-label="Name" placeholder="a name for this search" maxlength="80" .value=${state.get("q")} autocomplete="off" />
        <button>Save</button>
      </form>
      <ul>${searches.map((each) => html`<li><button class="link" @click=${() => use(each)}>${oneLine(each.name, 80)}</button>
        <code class="muted">${oneLine([each.q, each.from && `since ${each.from}`].filter(Boolean).join(" "), 80)}</code>
        <button class="quiet" aria-label="Forget ${each.name}" @click=${() => drop(each.name)}>✕</button></li>`)}</ul>
      <p class="muted">${searches.length ? "Saved in this browser." : "None yet. They are saved in this browser."}</p>`,
  );
}

/** Offer the result as a file. */
export function showDownload(page) {
  const work = new AbortController();
  dialog().addEventListener("close", () => work.abort(), { once: true });
  const start = async (format) => {
    const say = (text) => (dialog().querySelector("output").textContent = text);
    try {
      say("Waiting for the hub…");
      const onProgress = (size) => say(`${bytes(size)} so far`);
      const size = await download({ filters: page.filters(), format, token: state.token, signal: work.signal, onProgress });
      say(`Done: ${bytes(size)}`);
    } catch (error) {
      if (!isAbort(error)) say(error.message);
    }
  };
  const { state } = page;
  open(
    "Download",
    html`<p>All messages that match the search and the stretch of time, the oldest first.</p>
      <form @submit=${(event) => event.preventDefault()}>
        <button type="button" @click=${() => start("ndjson")}>JSON lines</button>
        <button type="button" @click=${() => start("csv")}>CSV</button>
      </form>
      <p><output class="muted"></output></p>`,
  );
}
