/**
 * The level of a record, as hub/query/level.py finds it: which field holds it, what its names and numbers mean.
 *
 * Always true: both give the same level for the same record; a test compares them.
 */

export const LEVELS = ["trace", "debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];
const NAMES = {
  trace: "verbose silly finest finer all notset vrb t v",
  debug: "fine dbg d",
  info: "information informational config http inf default i",
  notice: "success",
  warning: "warn wrn w",
  error: "err severe exception e",
  critical: "crit fatal panic dpanic f c",
  emergency: "emerg",
};
const KEYS = [
  "level", "severity", "levelname", "log.level", "@l", "lvl", "loglevel", "log_level", "level_name",
  "severity_text", "severityText", "levelno", "level_number", "severity_number", "severityNumber", "priority",
  "PRIORITY",
];
const RANKS = new Map(LEVELS.map((name, rank) => [name, rank]));
for (const [level, names] of Object.entries(NAMES)) {
  for (const name of names.split(" ")) RANKS.set(name, RANKS.get(level));
}
const SYSLOG = ["emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"];
const PYTHON = [[50, "critical"], [40, "error"], [30, "warning"], [25, "notice"], [20, "info"], [10, "debug"], [0, "trace"]];
const PINO = [[60, "critical"], [50, "error"], [40, "warning"], [30, "info"], [20, "debug"], [0, "trace"]];
const OTEL = [[21, "critical"], [17, "error"], [13, "warning"], [9, "info"], [5, "debug"], [1, "trace"]];
// Built from a code, so that no control character stands in this file.
const COLOUR = new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*m`, "g");

/** Return the name of the level of `record`, and the key that holds it: `["", ""]` if it has none that is known. */
export function levelOf(record) {
  for (const key of KEYS) {
    if (!Object.hasOwn(record, key) || record[key] === null) continue;
    const rank = rankOf(key, record[key], record);
    if (rank !== undefined) return [LEVELS[rank], key];
  }
  const log = Object.hasOwn(record, "log") ? record.log : null; // of the Elastic Common Schema
  if (log !== null && typeof log === "object" && typeof log.level === "string") {
    const rank = rankOfName(log.level);
    if (rank !== undefined) return [LEVELS[rank], "log"];
  }
  return ["", ""];
}

/** Return the place in `LEVELS` of a level's name, undefined if it is not known. */
export function rankOfName(name) {
  return RANKS.get(name) ?? RANKS.get(name.replace(COLOUR, "").trim().toLowerCase());
}

function rankOf(key, value, record) {
  if (typeof value === "string") {
    if (!/^[0-9]{1,3}$/.test(value)) return rankOfName(value);
    value = Number(value);
  }
  if (typeof value !== "number" || value < 0) return undefined;
  if (key === "severity_number" || key === "severityNumber") return lookUp(OTEL, value);
  if (key === "severity" || key === "priority" || key === "PRIORITY" || (key === "level" && value < SYSLOG.length)) {
    return value < SYSLOG.length ? RANKS.get(SYSLOG[Math.trunc(value)]) : undefined;
  }
  const isPino = key === "level" && (Object.hasOwn(record, "hostname") || Object.hasOwn(record, "v"));
  return lookUp(isPino ? PINO : PYTHON, value);
}

function lookUp(table, number) {
  const row = table.find(([least]) => number >= least);
  return row && RANKS.get(row[1]);
}
