/**
 * The colours of a terminal in foreign text: pieces of text, each with a class and a colour of its own.
 *
 * Only the sequences that set colours and weights (SGR, ECMA-48 8.3.117) have an effect. Every other control sequence
 * is left out, because what it would do to a terminal has no meaning here.
 *
 * Always true: the texts of the pieces together are the text without its sequences; a class and a colour are made from
 * numbers, never from the text; there are at most `PIECES_MAX` pieces.
 */

/** The rest of a text with more pieces has the look of the last one. */
export const PIECES_MAX = 500;
const ESC = String.fromCharCode(27);
const SEQUENCE = new RegExp(`${ESC}\\[([0-9;:]*)([ -/]*[@-~])|${ESC}\\][^${String.fromCharCode(7)}${ESC}]*(?:${String.fromCharCode(7)}|${ESC}\\\\)`, "g");

/** Return whether `text` has sequences. */
export const isColoured = (text) => text.includes(`${ESC}[`) || text.includes(`${ESC}]`);

/** Return `text` without its sequences. */
export const plain = (text) => (isColoured(text) ? text.replace(SEQUENCE, "") : text);

/** Return pieces: `{text, classes, style}`. */
export function pieces(text) {
  const found = [];
  let look = {};
  let at = 0;
  for (const match of text.matchAll(SEQUENCE)) {
    add(found, text.slice(at, match.index), look);
    at = match.index + match[0].length;
    if (match[2] === "m") look = after(look, match[1]);
    if (found.length >= PIECES_MAX) {
      add(found, plain(text.slice(at)), look);
      return found;
    }
  }
  add(found, text.slice(at), look);
  return found;
}

function add(found, text, look) {
  if (!text) return;
  const [front, back] = look.inverse ? [look.back ?? "bg", look.front ?? "fg"] : [look.front, look.back];
  const classes = ["bold", "dim", "italic", "underline", "strike"].filter((name) => look[name]).map((name) => `ansi-${name}`);
  const style = [];
  for (const [property, colour, prefix] of [["color", front, "fg"], ["background-color", back, "bg"]]) {
    if (colour === undefined) continue;
    if (Array.isArray(colour)) style.push(`${property}: rgb(${colour.join(" ")})`);
    else classes.push(`ansi-${prefix}-${colour}`);
  }
  found.push({ text, classes: classes.join(" "), style: style.join("; ") });
}

const ON = { 1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "inverse", 9: "strike" };
const OFF = { 22: ["bold", "dim"], 23: ["italic"], 24: ["underline"], 27: ["inverse"], 29: ["strike"], 39: ["front"], 49: ["back"] };

function after(look, parameters) {
  const codes = parameters.split(/[;:]/).map(Number);
  const next = { ...look };
  for (let at = 0; at < codes.length; at += 1) {
    const code = codes[at];
    if (code === 0) Object.keys(next).forEach((name) => delete next[name]);
    else if (code in ON) next[ON[code]] = true;
    else if (code in OFF) OFF[code].forEach((name) => delete next[name]);
    else if (code >= 30 && code <= 37) next.front = code - 30;
    else if (code >= 90 && code <= 97) next.front = code - 82;
    else if (code >= 40 && code <= 47) next.back = code - 40;
    else if (code >= 100 && code <= 107) next.back = code - 92;
    else if (code === 38 || code === 48) {
      const [colour, used] = extended(codes.slice(at + 1));
      if (colour !== undefined) next[code === 38 ? "front" : "back"] = colour;
      at += used;
    }
  }
  return next;
}

function extended([kind, ...rest]) {
  if (kind === 5) return [ofPalette(rest[0]), 2];
  if (kind === 2 && rest.slice(0, 3).every((each) => each >= 0 && each <= 255)) return [rest.slice(0, 3), 4];
  return [undefined, rest.length + 1];
}

function ofPalette(number) {
  if (!(number >= 0 && number <= 255)) return undefined;
  if (number < 16) return number;
  if (number >= 232) return Array(3).fill(8 + 10 * (number - 232));
  const cube = number - 16;
  return [Math.floor(cube / 36), Math.floor(cube / 6) % 6, cube % 6].map((each) => (each ? 55 + 40 * each : 0));
}
