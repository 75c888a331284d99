/**
 * The hub itself: what it has stored, who sends, sources and sinks with their lag, losses, the configuration.
 *
 * It is asked every two seconds, only while this view is visible; rates are differences of two answers.
 *
 * Always true: what the caller may not see, or this hub does not have, leaves its place empty and says why; the rest is
 * shown.
 */

import { html, nothing, render } from "./vendor/lit-html.js";
import { isAbort } from "./rpc.js";
import { brief, bytes, grouped, oneLine } from "./text.js";
import * as time from "./time.js";

const EVERY_MS = 2000;

export class HubView {
  constructor(box, rpc) {
    this.box = box;
    this.rpc = rpc;
    this.work = null;
    this.answers = {};
    this.before = null;
    this.isUtc = false;
  }

  start() {
    if (this.work) return;
    this.work = new AbortController();
    this.before = null;
    this.#run(this.work.signal);
  }

  stop() {
    this.work?.abort();
    this.work = null;
  }

  async #run(signal) {
    const once = Promise.all(["config"].map((method) => this.#ask(method, {}, signal)));
    this.#countTags(signal);
    while (!signal.aborted) {
      if (!document.hidden) {
        const earlier = { stats: this.answers.stats, peers: this.answers.peers, at: this.askedAt };
        await Promise.all(["stats", "sources", "sinks"].map((method) => this.#ask(method, {}, signal)));
        await Promise.all([this.#ask("peers", { limit: 100 }, signal), this.#ask("losses", { limit: 100 }, signal)]);
        this.before = earlier;
        this.askedAt = performance.now();
        await once;
        if (signal.aborted) return;
        this.draw();
      }
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    }
  }

  async #ask(method, params, signal) {
    try {
      this.answers[method] = await this.rpc.call(method, params, { signal });
    } catch (error) {
      if (!isAbort(error)) this.answers[method] = { fault: error.message };
    }
  }

  async #countTags(signal) {
    try {
      await this.rpc.stream("counts", { by: ["tag"], limit: 30 }, (value) => {
        this.answers.tags = value;
        this.draw();
      }, { signal });
    } catch (error) {
      if (!isAbort(error)) this.answers.tags = { fault: error.message };
    }
  }

  draw() {
    if (!this.work) return;
    const { stats } = this.answers;
    render(
      html`<h1>${this.rpc.hub?.name ? oneLine(this.rpc.hub.name, 100) : "Hub"}
          <span class="muted">${this.rpc.hub?.host ? `on ${oneLine(this.rpc.hub.host, 100)}` : nothing} ${this.rpc.hub?.version ?? ""}</span></h1>
        ${this.#stats(stats)} ${this.#sources()} ${this.#sinks()} ${this.#peers()} ${this.#tags()} ${this.#losses()} ${this.#config()}`,
      this.box,
    );
  }

  #rate(now, before) {
    const seconds = (this.askedAt - (this.before?.at ?? Infinity)) / 1000;
    return before !== undefined && seconds > 0 ? `${brief((now - before) / seconds)}/s` : "";
  }

  #stats(stats) {
    if (!stats || stats.fault) return fault(stats);
    const before = this.before?.stats ?? {};
    const figure = (name, value, hint = "") => html`<div class="figure"><dt>${name}</dt><dd>${value}</dd><dd class="muted">${hint}</dd></div>`;
    return html`<dl class="figures">
      ${figure("messages", grouped(stats.messages ?? 0), this.#rate(stats.messages, before.messages))}
      ${figure("received", bytes(stats.bytes ?? 0), this.#rate(stats.bytes, before.bytes))}
      ${figure("losses", grouped(stats.losses ?? 0), stats.losses ? "see below" : "nothing was lost")}
      ${figure("journal", bytes(stats.journal_bytes), `up to number ${grouped(stats.last_sequence)}`)}
      ${stats.commits === undefined ? nothing : figure("commits", grouped(stats.commits), this.#rate(stats.commits, before.commits))}
      ${Object.keys(stats).filter((key) => /latency|commit_.*ms/.test(key)).map((key) => figure(key.replaceAll("_", " "), brief(stats[key])))}
      ${figure("connections", grouped(stats.connections))}
      ${figure("inbox", bytes(stats.inbox_bytes))}
      ${figure("memory", bytes(stats.rss_bytes))}
      ${figure("running for", time.duration(stats.uptime_s), `pid ${stats.pid}`)}
    </dl>`;
  }

  #sources() {
    return table("Sources", this.answers.sources, (answer) => answer.sources, ["type", "place", "state", "messages", "bytes", "losses", "lag", "last fault"], (row) => [
      row.type, row.path ?? row.address ?? row.name ?? "", state(row.state), grouped(row.messages ?? 0), bytes(row.bytes ?? 0), row.losses ?? 0, lag(row.lag), row.last_error ?? "",
    ]);
  }

  #sinks() {
    return table("Sinks", this.answers.sinks, (answer) => answer.sinks, ["name", "type", "state", "delivered", "lag", "last fault"], (row) => [
      row.name, row.type ?? "", state(row.state), grouped(row.messages ?? row.delivered ?? 0), lag(row.lag ?? row.lag_messages), row.last_error ?? "",
    ]);
  }

  #peers() {
    const before = new Map((this.before?.peers?.peers ?? []).map((row) => [`${row.pid} ${row.comm} ${row.protocol}`, row]));
    return table("Producers", this.answers.peers, (answer) => answer.peers, ["program", "pid", "uid", "unit", "protocol", "messages", "rate", "bytes", "losses", "connected"], (row) => [
      row.comm, row.pid, row.uid, row.unit ?? row.container ?? "", row.protocol ?? "", grouped(row.messages),
      this.#rate(row.messages, before.get(`${row.pid} ${row.comm} ${row.protocol}`)?.messages), bytes(row.bytes), row.losses, time.duration(row.connected_s),
    ]);
  }

  #tags() {
    return table("Messages in the journal, by tag", this.answers.tags, (answer) => answer.rows, ["tag", "messages"], ([[tag], count]) => [tag ?? "", grouped(count)]);
  }

  #losses() {
    return table("Losses", this.answers.losses, (answer) => answer.rows, ["last", "reason", "tag", "program", "pid", "uid", "messages", "bytes"], (row) => [
      time.whole(row.last, this.isUtc, true), row.reason, row.tag, row.comm, row.pid, row.uid, grouped(row.count), bytes(row.bytes),
    ]);
  }

  #config() {
    const { config } = this.answers;
    if (!config || config.fault) return html`<section><h2>Configuration</h2>${fault(config)}</section>`;
    return html`<section><h2>Configuration</h2><pre tabindex="0" aria-label="The configuration in force">${typeof config === "string" ? config : JSON.stringify(config, null, 2)}</pre></section>`;
  }
}

function table(name, answer, rowsOf, heads, cellsOf) {
  if (!answer || answer.fault) return html`<section><h2>${name}</h2>${fault(answer)}</section>`;
  const rows = rowsOf(answer) ?? [];
  return html`<section><h2>${name}</h2>
    ${rows.length
      ? html`<div class="wide" tabindex="0" role="region" aria-label=${name}><table>
          <thead><tr>${heads.map((head) => html`<th scope="col">${head}</th>`)}</tr></thead>
          <tbody>${rows.map((row) => html`<tr>${cellsOf(row).map((cell) => html`<td class=${/^[\d,.]+( [KMGT]?i?B|\/s)?$/.test(cell) ? "number" : ""}>${typeof cell === "object" ? cell : html`<bdi>${oneLine(String(cell), 300)}</bdi>`}</td>`)}</tr>`)}</tbody>
        </table></div>`
      : html`<p class="muted">none</p>`}
    ${answer.left_off ? html`<p class="muted">${grouped(answer.left_off)} more</p>` : nothing}
  </section>`;
}

const fault = (answer) => html`<p class="muted">${answer ? oneLine(answer.fault, 300) : "asking…"}</p>`;
const state = (text) => html`<span class="state state-${/^[a-z]+$/.test(text) ? text : "other"}">${text}</span>`;

function lag(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return grouped(value);
  const parts = [];
  if (value.messages !== null && value.messages !== undefined) parts.push(`${grouped(value.messages)} messages`);
  if (value.bytes !== null && value.bytes !== undefined) parts.push(bytes(value.bytes));
  if (value.seconds !== null && value.seconds !== undefined) parts.push(time.duration(value.seconds));
  return parts.join(", ") || "none";
}
