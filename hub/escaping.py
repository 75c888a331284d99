"""
Makes foreign text safe for a terminal: characters that could control it, or deceive its reader, are escaped.

There is one definition for all outputs. The escaped characters are those of the categories Cc (control characters), Cf
(format characters: direction of writing, zero width), Zl and Zp (line and paragraph separators), Cs, Co and unassigned.
These are the characters that `str.isprintable` rejects, except spaces of category Zs (U+00A0, U+3000), which are text.
Characters of other categories that show nothing are escaped too: fillers of Hangul and others, variation selectors
(which can carry hidden text), the blank Braille pattern.

U+200C and U+200D, the zero width non-joiner and joiner, are in category Cf, but Persian, the scripts of India and many
emoji are not legible without them. Output for people keeps them between two characters of such scripts (from U+0600
on), where they change the display. Elsewhere they are invisible and could make two texts look alike, so they are
escaped. U+FE0E and U+FE0F, which choose between text and emoji, are kept after a visible symbol. JSON is for programs,
which decode an escape to its character, so JSON escapes all of these everywhere.

Always true:
- `escape` and `escape_json` return one line; `escape_lines` keeps the line feeds of the text;
- printable ASCII, the common case, costs one `isprintable` and no copy.

Not here: which parts of a message are shown (hub.query.rendering), the hub's own log (hub.log).
Source: Unicode Standard Annex 44 (General_Category), 9 (bidirectional text); Technical Standard 39 (join controls);
DerivedCoreProperties.txt, Default_Ignorable_Code_Point.
"""

from __future__ import annotations

import re
import unicodedata

_INVISIBLE = "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
_INVISIBLE += "\U00016fe4\U0001d159\U000e0100-\U000e01ef"
"""Printable to Python, and nothing to see."""
_is_invisible = re.compile(f"[{_INVISIBLE}]").match
_find_invisible = re.compile(f"[{_INVISIBLE}]").search
_PLAIN = bytes((0x0A, *range(0x20, 0x7F)))
# Everything except letters, digits and printable ASCII: rare in text, and with these a superset of what is escaped.
_CANDIDATE = re.compile(rf"[^\w\x20-\x7e]|[{_INVISIBLE}]")
_PRESENTATIONS = ("\ufe0e", "\ufe0f")
_SYMBOL_MIN = "\u00a9"  # the first symbol that can be an emoji
_JOINS = ("\u200c", "\u200d")
_JOINING_MIN = "\u0600"  # the beginning of Arabic; Latin, Greek, Cyrillic and Hebrew, before it, need no join controls


def escape(text: str) -> str:
    """Return *text* on one line, for people: ``\\x1b``, ``\\u202e``, ``\\U000e0001``."""
    return text if text.isascii() and text.isprintable() else _CANDIDATE.sub(_for_people, text)


def escape_lines(text: str, indent: str = "") -> str:
    """Return *text* for people. Line feeds and tabs are kept; each line after the first is indented by *indent*."""
    if text.isascii() and text.isprintable():
        return text
    return f"\n{indent}".join("\t".join(map(escape, line.split("\t"))) for line in text.split("\n"))


def escape_json(text: str) -> str:
    """Return JSON *text* with ``\\uXXXX`` escapes. *text* has no control characters outside of its strings."""
    return text if text.isascii() and text.isprintable() else _CANDIDATE.sub(_for_programs, text)


def is_harmless(lines: bytes) -> bool:
    """Return whether `escape_json` would return each of these *lines* of UTF-8 as it is."""
    if lines.isascii():
        return b"\x7f" not in lines
    try:
        rest = lines.translate(None, _PLAIN).decode()
    except UnicodeDecodeError:
        return False
    return rest.isprintable() and _find_invisible(rest) is None


def _is_harmless(character: str) -> bool:
    if _is_invisible(character):
        return False
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _for_people(match: re.Match[str]) -> str:
    character = match[0]
    if _is_harmless(character) or (character in _JOINS and _is_joining(match)) or _is_presentation(match):
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _is_joining(match: re.Match[str]) -> bool:
    """Return whether the match is between two visible characters of scripts that join."""
    text, at = match.string, match.start()
    neighbours = text[max(at - 1, 0) : at] + text[at + 1 : at + 2]
    return len(neighbours) == 2 and neighbours.isprintable() and min(neighbours) >= _JOINING_MIN


def _is_presentation(match: re.Match[str]) -> bool:
    """Return whether the match chooses how the visible symbol before it is shown."""
    before = match.string[max(match.start() - 1, 0) : match.start()]
    return match[0] in _PRESENTATIONS and before >= _SYMBOL_MIN and before.isprintable() and not _is_invisible(before)


def _for_programs(match: re.Match[str]) -> str:
    character = match[0]
    if _is_harmless(character):
        return character
    units = character.encode("utf-16-be", "surrogatepass")  # two units for a character beyond the BMP (RFC 8259)
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
