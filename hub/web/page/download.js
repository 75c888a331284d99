/**
 * Downloads what the search finds: the whole result, as it streams from the hub.
 *
 * Always true: where the browser can write files, nothing is kept in memory; elsewhere the file is at most
 * `MEMORY_MAX` bytes, and a longer one is an Error that says so.
 */

import { levelOf } from "./levels.js";
import { textOf } from "./text.js";
import { parts } from "./time.js";

const MEMORY_MAX = 512 << 20;

const COLUMNS = ["sequence", "time", "received", "tag", "pid", "uid", "comm", "unit", "host", "level", "message", "record"];

/** Return the address of the messages that `filters` select, as JSON lines. */
export function addressOf(filters) {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(filters)) {
    for (const each of Array.isArray(value) ? value : [value]) given.append(name, each);
  }
  return `messages?${given}`;
}

/** Save the messages that `filters` select; call `onProgress` with the bytes that have arrived. Throws an Error. */
export async function download({ filters, format, token, signal, onProgress }) {
  const name = `messages-${parts(Date.now(), true).day}.${format}`;
  const file = await chosenFile(name);
  const response = await fetch(addressOf(filters), { headers: { Authorization: `Bearer ${token}` }, signal, credentials: "omit" });
  if (!response.ok) throw new Error((await response.text()).trim().slice(0, 300) || `the hub answered ${response.status}`);
  let size = 0;
  const counted = new TransformStream({
    transform(chunk, controller) {
      size += chunk.byteLength;
      onProgress(size);
      if (!file && size > MEMORY_MAX) throw new Error("more than 512 MiB: narrow the search, or use mpsr export");
      controller.enqueue(chunk);
    },
  });
  const lines = response.body.pipeThrough(counted);
  const body = format === "csv" ? lines.pipeThrough(new TextDecoderStream()).pipeThrough(asCsv()).pipeThrough(new TextEncoderStream()) : lines;
  if (file) await body.pipeTo(await file.createWritable(), { signal });
  else offer(await new Response(body).blob(), name);
  return size;
}

async function chosenFile(name) {
  if (!("showSaveFilePicker" in window) || navigator.webdriver) return null;
  return showSaveFilePicker({ suggestedName: name });
}

/** Have the browser save `blob` as a file. */
export function offer(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** Return a stream that takes pieces of JSON lines, and gives the rows of a table with the columns of `mpsr export`. */
export function asCsv() {
  let rest = "";
  const rows = (text, controller) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    const shown = lines.filter(Boolean).map((line) => csvLine(cellsOf(JSON.parse(line))));
    if (shown.length) controller.enqueue(shown.join(""));
  };
  return new TransformStream({
    start: (controller) => controller.enqueue(csvLine(COLUMNS)),
    transform: rows,
    flush: (controller) => rows("\n", controller),
  });
}

function cellsOf(message) {
  const { record } = message;
  const known = { ...message, level: levelOf(record)[0], message: textOf(record)[1], record: JSON.stringify(record) };
  return COLUMNS.map((name) => known[name]);
}

/** Return a line of CSV with these values; null and undefined are empty. */
export function csvLine(values) {
  const cells = values.map((value) => {
    const text = String(value ?? "");
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  });
  return `${cells.join(",")}\r\n`;
}
