/**
 * The small parts around the list: the buttons of the bar, the stretch of time, the line of state, the empty list.
 *
 * Always true: they show the state and call actions; they keep nothing.
 */

import { html, nothing, render } from "./vendor/lit-html.js";
import { nameOf } from "./keys.js";
import { escaped, tokens } from "./search.js";
import { brief, grouped, oneLine } from "./text.js";
import * as time from "./time.js";

const $ = (id) => document.getElementById(id);
const OTHER = "other";
const STRETCHES = [["", "All time"], ["15m", "Last 15 min"], ["1h", "Last hour"], ["6h", "Last 6 hours"], ["1d", "Last day"], ["7d", "Last 7 days"]];

/** Draw the buttons at the right of the bar. Those for the messages are hidden in other views. */
export function drawTools({ actions, isUtc, list, live, state }) {
  const isOther = state.get("view") !== "";
  const button = (name, label, title, text, isHidden = false) =>
    html`<button id="tool-${name}" aria-label=${label} title=${title} ?hidden=${isHidden} @click=${() => actions[name]()}>${text}</button>`;
  render(
    html`<button id="live" aria-pressed=${live.isOn ? "true" : "false"} title="pause and resume (Space)" ?hidden=${isOther} @click=${() => actions.live()}>${stateOf(live, list)}</button>
      ${button("facets", "Facets", "facets (t)", "☰", isOther)}
      ${button("zone", `Time zone: ${time.zoneName(isUtc)}`, "times: local or UTC (z)", time.zoneName(isUtc))}
      ${button("save", "Saved searches", "saved searches (s)", "★", isOther)}
      ${button("alert", "Make an alert", "make an alert of the search (a)", "⚑", isOther)}
      ${button("download", "Download", "download the messages that match", "⤓", isOther)}
      ${button("theme", "Dark or light", "dark or light", "◐")}
      ${button("help", "Help", "keys and search (?)", "?")}`,
    $("tools"),
  );
}

/** Draw the choice of a stretch of time, and the one that is in force. */
export function drawRange({ actions, state, isUtc }) {
  $("range").hidden = state.get("view") !== "";
  const [from, to] = [state.get("from"), state.get("to")];
  const known = to === "" && STRETCHES.some(([value]) => value === from);
  const choose = ({ target }) => {
    if (target.value !== OTHER) return state.set({ from: target.value, to: "", at: "" });
    target.value = from;
    return actions.period();
  };
  const shown = (text, name) => (text ? (time.isMoment(text) ? time.whole(text, isUtc, true) : oneLine(text, 40)) : name);
  render(
    known
      ? html`<select id="stretch" aria-label="Stretch of time" @change=${choose}>
          ${STRETCHES.map(([value, name]) => html`<option value=${value} .selected=${value === from}>${name}</option>`)}
          <option value=${OTHER}>Other…</option>
        </select>`
      : html`<span class="chip" id="stretch-chip">
          <button id="stretch-edit" title="choose another period" @click=${() => actions.period()}>${shown(from, "start")} – ${shown(to, "now")}</button>
          <button class="quiet" aria-label="All time" title="all time" @click=${() => state.set({ from: "", to: "" })}>✕</button></span>`,
    $("range"),
  );
}

const HINTS = [["/", "search"], ["e", "next error"], ["c", "context"], [" ", "pause"], ["?", "all keys"]];

/** Draw the line below the list. */
export function drawStatus({ list, live, isUtc, rpc, histogram, state }) {
  drawLiveButton(live, list);
  const top = list.topMessage;
  const behind = live.isOn && live.passedOver ? html`<span class="behind">+${grouped(live.passedOver)} not shown</span>` : nothing;
  render(
    html`<span>${top ? `${time.whole(top.time, isUtc, true)} ${time.zoneName(isUtc, new Date(time.milliseconds(top.time)))}` : ""}</span>
      <span id="place">${list.finding.isRunning ? "searching…" : list.rows.length ? placeOf(list) : ""}</span>
      <span id="total">${isFiltered(state) ? totalOf(list, histogram) : ""}</span> ${behind}
      <span>${rpc.state === "open" ? "" : rpc.state}</span>
      <span class="hints" aria-hidden="true">${HINTS.map(([key, text]) => html`<span><kbd>${nameOf(key)}</kbd> ${text}</span>`)}</span>`,
    $("status"),
  );
}

/** Return the word for how the list follows. */
function stateOf(live, list) {
  if (!live.isOn) return list.finding.isRunning ? "Searching" : "Paused";
  return live.rate >= 1 ? `Live ${brief(Math.round(live.rate))}/s` : "Live";
}

function drawLiveButton(live, list) {
  const button = $("live");
  if (!button) return;
  button.setAttribute("aria-pressed", live.isOn ? "true" : "false");
  const now = performance.now();
  if (now - (live.ratedAt ?? 0) > 1000) {
    live.rate = ((live.arrived - (live.arrivedBefore ?? 0)) / (now - (live.ratedAt ?? now - 1000))) * 1000;
    [live.ratedAt, live.arrivedBefore] = [now, live.arrived];
  }
  button.lastChild.textContent = stateOf(live, list);
}

const isFiltered = (state) => Boolean(state.get("q") || state.get("from") || state.get("to"));

/** Return how many messages match, as far as it is known: from the list, if it has all of them. */
function totalOf({ rows, finding, isStale }, histogram) {
  const words = (count) => (count === 1 ? "1 message matches" : `${grouped(count)} messages match`);
  if (rows.isStart && rows.isEnd && !finding.isRunning && !isStale) return words(rows.length);
  const { value } = histogram;
  if (!value || histogram.isStale) return "";
  if (!histogram.isPartial) return words(value.messages);
  return value.messages > rows.length ? `${words(value.messages)} so far` : "counting…";
}

function placeOf({ range, topMessage }) {
  if (!topMessage) return "";
  return `${grouped(topMessage.sequence)} of ${grouped(Math.max(range.last, topMessage.sequence))}`;
}

/** Draw what is said above the list about a search: how far it is, or that it was cancelled; both with a button. */
export function drawSearching(page) {
  const { list, actions } = page;
  const { finding } = list;
  const isCancelled = finding.state === "cancelled";
  $("searching").hidden = !finding.isRunning && !isCancelled;
  if ($("searching").hidden) return;
  const place = page.state.get("from") || page.state.get("to") ? "period" : "journal";
  const share = `${Math.floor(finding.share * 100)} % of the ${place} searched`;
  const found = list.isStale || !list.rows.length ? "" : `, ${grouped(list.rows.length)} found so far`;
  const seconds = Math.floor((performance.now() - finding.began) / 1000);
  const query = oneLine(page.state.get("q"), 80);
  render(
    isCancelled
      ? html`<span>The search was cancelled: ${share}${found}.</span> <button @click=${() => page.show()}>Search again</button>`
      : html`<span>Searching… <b>${query}</b></span> <span aria-hidden="true">${share}${found}, ${seconds} s</span>
          <button @click=${() => actions.cancel()}>Cancel <kbd>Esc</kbd></button>`,
    $("searching"),
  );
}

/** Return the two words of a text that is searched for, and the search for them in any order; nothing for other texts. */
function wordsIn(q) {
  const [words, others] = [[], []];
  for (const token of tokens(q)) (token.kind === "text" && !token.isNegated ? words : others).push(token);
  const each = words.length === 1 ? words[0].value.split(/\s+/) : words.map(({ value }) => value);
  if (each.length !== 2 || others.some(({ kind }) => kind === "regex" || kind === "text")) return ["", ""];
  const [one, other] = each.map((word) => escaped(word).replaceAll("/", "\\/"));
  const expression = `/${one}.*${other}|${other}.*${one}/${each.join("") === each.join("").toLowerCase() ? "i" : ""}`;
  return [each.join(" "), [...others.map(({ start, end }) => q.slice(start, end)), expression].join(" ")];
}

/** Draw what stands in the place of a list without rows. */
export function drawEmpty({ list, state, actions, fault, rpc }) {
  const error = list.fault;
  const isEmpty = list.rows.length === 0 && (rpc.state !== "open" || !["running", "cancelled"].includes(list.finding.state));
  $("empty").hidden = !isEmpty;
  if (!isEmpty) return;
  const clear = () => state.set({ q: "", from: "", to: "", at: "", context: "" });
  let content;
  if (error) content = html`<p>The hub could not answer.</p><p>${oneLine(error, 500)}</p>`;
  else if (fault) content = html`<p>The search cannot be understood.</p><p>${fault}</p>`;
  else if (rpc.state === "refused") content = html`<p>Not allowed</p>`;
  else if (rpc.state !== "open") content = html`<p class="muted">Connecting…</p>`;
  else if (isFiltered(state)) {
    const [phrase, both] = wordsIn(state.get("q"));
    const search = () => state.set({ q: both, at: "", context: "" });
    content = html`<p>No message matches.</p>
      ${phrase ? html`<p>The words <b>${oneLine(phrase, 80)}</b> are searched for as they stand, with the space. <button @click=${search}>Search for both words</button></p>` : nothing}
      <p><button @click=${clear}>Clear the search</button> <button @click=${() => actions.help()}>How to search</button></p>`;
  }
  else content = html`<p>No messages yet.</p><p>They appear here as they arrive. Try: <kbd>mpsr send 'hello'</kbd></p>`;
  render(content, $("empty"));
}

/** Draw the line that says that the list is the context of a message. */
export function drawContext({ isContext, state, actions }) {
  $("context-banner").hidden = !isContext;
  if (!isContext) return;
  render(
    html`<span>The context of message ${grouped(Number(state.get("at")))}: everything around it, under all tags.</span>
      <button @click=${() => actions.context()}>Back to the search</button>`,
    $("context-banner"),
  );
}
