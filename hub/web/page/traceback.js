/**
 * Tracebacks: which lines of a text are frames of somebody's own code, which are of libraries, and which is the error.
 *
 * Knows the forms of Python, Java and its relatives, Node, Go and .NET. A text without a known form is plain lines.
 *
 * Always true: the lines are those of the text, in their order; a line has one kind.
 */

const FRAMES = [
  /^\s*File "([^"]+)", line \d+/, // Python
  /^\s*at .*\(?([^()\s]+\.(?:java|kt|scala|groovy|clj)):\d+\)?/, // Java
  /^\s*at .*?\(?((?:file:\/\/|\/|[A-Za-z]:\\|node:)[^()]+):\d+:\d+\)?$/, // Node
  /^\s*(\/[^\s:]+\.go):\d+/, // Go
  /^\s*at .+ in (.+):line \d+/, // .NET
  /^\s+at ([\w.$<>]+)\(/,
];
const LIBRARY = /site-packages|dist-packages|\/lib\/python|<frozen |node_modules|^node:|\/usr\/(?:lib|local\/go)|^(?:java|javax|jdk|sun|org\.(?:apache|springframework))[./]/;
const HEAD = /^(?:Traceback \(most recent call last\)|goroutine \d+|Caused by:|During handling of|The above exception|Exception in thread)/;
const ERROR = /^(?:[A-Za-z_$][\w.$]*(?:Error|Exception|Warning|Interrupt|Exit|Fault|Timeout)\b|panic:|Caused by:)/;
/** After a frame, an error needs no name that says so. */
const NAMED = /^[A-Za-z_$][\w.$]*(?:: |$)/;

/** The keys under which log libraries put a traceback. */
export const BLOCK_KEYS = ["traceback", "exc_text", "exception", "stack_info", "stack", "stacktrace", "exception.stacktrace"];

/** Return whether `text` looks like a traceback: it has a frame. */
export function isTraceback(text) {
  return text.includes("\n") && text.split("\n", 200).some((line) => frameOf(line) !== null);
}

/** Return the lines of `text`, each with its kind: `own`, `library`, `code`, `error`, `head` or `text`. */
export function linesOf(text) {
  let kind = "text";
  return text.replace(/\n+$/, "").split("\n").map((line) => {
    const place = frameOf(line);
    if (place !== null) kind = LIBRARY.test(place) ? "library" : "own";
    else if (HEAD.test(line)) kind = "head";
    else if (ERROR.test(line) || (kind !== "text" && kind !== "error" && NAMED.test(line))) kind = "error";
    else if (/^\s{4,}/.test(line) && (kind === "own" || kind === "library")) return { text: line, kind: kind === "own" ? "code" : "library" };
    else kind = "text";
    return { text: line, kind };
  });
}

function frameOf(line) {
  for (const form of FRAMES) {
    const match = form.exec(line);
    if (match) return match[1];
  }
  return null;
}
