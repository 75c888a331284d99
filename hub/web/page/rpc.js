/**
 * JSON-RPC with the hub over one WebSocket: requests, streams, and a new connection after a break.
 *
 * The first message is the token; the answer describes the hub. After a break, requests that wait fail with an error of
 * the code `BROKEN`; the next request connects again. The modules ask again from their own cursor, so nothing is
 * missing and nothing is there twice.
 *
 * Always true: a reply or a value reaches only the request that it belongs to; after `cancel` of a stream nothing of it
 * arrives any more.
 */

export const BROKEN = -1;
export const CANCELLED = -32800;
const REFUSED = 4401;
const WAIT_MS = [250, 500, 1000, 2000, 5000];

export class RpcError extends Error {
  constructor(message, code, data = null) {
    super(message);
    this.code = code;
    this.data = data;
  }
}

export class Rpc extends EventTarget {
  /** `address` is that of the WebSocket. Sends the event `state`: `connecting`, `open`, `broken` or `refused`. */
  constructor(address, token) {
    super();
    this.hub = null;
    this.state = "connecting";
    this.address = address;
    this.token = token;
    this.socket = null;
    this.ready = null;
    this.failures = 0;
    this.lastId = 0;
    this.waiting = new Map();
  }

  /** Connect, unless it is. The promise is kept when the hub has accepted the token. */
  connect() {
    this.ready ??= new Promise((resolve, reject) => {
      const socket = new WebSocket(this.address);
      this.socket = socket;
      socket.onopen = () => socket.send(JSON.stringify({ token: this.token }));
      socket.onmessage = ({ data }) => {
        this.hub = JSON.parse(data).hub;
        this.failures = 0;
        socket.onmessage = (event) => this.#take(JSON.parse(event.data));
        this.#change("open");
        resolve();
      };
      socket.onclose = ({ code }) => {
        const isRefused = code === REFUSED;
        const error = new RpcError(isRefused ? "the token is not accepted" : "the connection to the hub is broken", BROKEN);
        this.ready = null;
        for (const each of this.waiting.values()) each.reject(error);
        this.waiting.clear();
        reject(error);
        this.#change(isRefused ? "refused" : "broken");
        if (!isRefused) this.#connectLater();
      };
    });
    this.ready.catch(() => {});
    return this.ready;
  }

  /** Call `method`; return the result. `signal` cancels it. Throws RpcError. */
  call(method, params = {}, { signal } = {}) {
    return this.#start(method, params, null, signal);
  }

  /** Call a method that streams, `onValue` with each value; return at the end of the stream. */
  stream(method, params, onValue, { signal } = {}) {
    return this.#start(method, params, onValue, signal);
  }

  async #start(method, params, onValue, signal) {
    await this.connect();
    signal?.throwIfAborted();
    const id = (this.lastId += 1);
    return new Promise((resolve, reject) => {
      const stop = () => {
        if (!this.waiting.delete(id)) return;
        this.#send({ jsonrpc: "2.0", method: "cancel", params: { id } });
        reject(signal.reason);
      };
      const done = (settle) => (value) => {
        signal?.removeEventListener("abort", stop);
        settle(value);
      };
      this.waiting.set(id, { resolve: done(resolve), reject: done(reject), onValue });
      signal?.addEventListener("abort", stop);
      this.#send({ jsonrpc: "2.0", id, method, params });
    });
  }

  #send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  #take(message) {
    if (message.method === "stream") {
      this.waiting.get(message.params.id)?.onValue?.(message.params.value);
      return;
    }
    const request = this.waiting.get(message.id);
    if (!request) return;
    this.waiting.delete(message.id);
    if (message.error) request.reject(new RpcError(message.error.message, message.error.code, message.error.data));
    else request.resolve(message.result);
  }

  #change(state) {
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }

  #connectLater() {
    const wait = WAIT_MS[Math.min(this.failures, WAIT_MS.length - 1)];
    this.failures += 1;
    setTimeout(() => this.connect(), wait);
  }
}

/** Return whether `error` only says that somebody asked for something else meanwhile. */
export const isAbort = (error) => error?.name === "AbortError" || error?.code === CANCELLED;
