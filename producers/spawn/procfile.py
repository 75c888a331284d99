"""
Parses a Procfile, a .env file and a formation.

    Procfile      web: gunicorn app:app        .env      PORT=5000          formation      web=2 worker=4
                  # a comment                            export NAME='a b'

The value in quotes may have several lines. A byte order mark and ``\\r\\n`` are accepted.

Always true: a line that is not understood is an error with its number; no file is read, no variable is set or expanded.
Not here: files and environments (hub.cli.specs), starting processes (producers.spawn.processes).
Source: the formats of foreman and honcho.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

COUNT_MAX = 10_000
"""Maximum children per name, so that a typing error does not become a fork bomb."""
PORT_FIRST, PORT_MAX = 5000, 65535

_PROCESS = re.compile(r"([A-Za-z0-9_-]+):\s*(.*)")
_VARIABLE = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=")
_QUOTED = re.compile(r"""[ \t]*(?:'([^']*)'|"((?:[^"\\]|\\.)*)")""", re.DOTALL)
_REST = re.compile(r"[ \t\r]*(?:#[^\n]*)?(?:\n|\Z)")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def parse_procfile(text: str) -> dict[str, str]:
    """Return each process's name and its shell command, in order. Raises ValueError."""
    commands: dict[str, str] = {}
    for number, line in _lines(text):
        match = _PROCESS.fullmatch(line)
        if match is None or not match[2]:
            raise ValueError(f"line {number}: {line!r} (write it as NAME: COMMAND)")
        if match[1] in commands:
            raise ValueError(f"line {number}: {match[1]} is defined twice")
        commands[match[1]] = match[2]
    if not commands:
        raise ValueError("it defines no process (write one per line, as NAME: COMMAND)")
    return commands


def parse_env(text: str) -> dict[str, str]:
    """Return the variables. Single quotes keep all characters; in double quotes \\ is an escape. Raises ValueError."""
    variables: dict[str, str] = {}
    text = _plain(text)
    at = 0
    while at < len(text):
        if blank := _REST.match(text, at):
            at = max(blank.end(), at + 1)
            continue
        end = text.find("\n", at) % (len(text) + 1)  # -1: the end of the text
        match = _VARIABLE.match(text, at, end)
        if match is None:
            raise ValueError(f"line {_number(text, at)}: {text[at:end].strip()!r} (write it as NAME=VALUE)")
        variables[match[1]], at = _value(text, match.end(), end)
    return variables


def parse_formation(words: Sequence[str], names: Iterable[str]) -> dict[str, int]:
    """
    Return how many children of each of *names* to run, for words like ``web=2``. A name without a word runs once.

    If any word is a NAME alone, only the given names run. Raises ValueError.
    """
    counts = dict.fromkeys(names, 1)
    given: dict[str, int] = {}
    for word in words:
        name, equals, number = word.partition("=")
        if "," in word:
            raise ValueError(f"{word!r}: write {word.replace(',', ' ')}, with spaces")
        if name not in counts:
            raise ValueError(_not_there(name, counts))
        if equals and not (re.fullmatch(r"[0-9]{1,9}", number) and int(number) <= COUNT_MAX):
            raise ValueError(f"{word!r}: the part after = must be a number, as in {name}=2 ({COUNT_MAX} at most)")
        given[name] = int(number) if equals else 1
    if any("=" not in word for word in words):
        counts = dict.fromkeys(counts, 0)
    return {**counts, **given}


def nearest(name: str, names: Iterable[str]) -> str:
    """Return a question after the one of *names* that is most like *name*; empty if none is like it."""
    near = difflib.get_close_matches(name, list(names), n=1)
    return f". Did you mean {near[0]!r}?" if near else ""


def _not_there(name: str, names: Iterable[str]) -> str:
    """Return the error for a name that is not in the Procfile."""
    entry, colon, number = name.partition(":")
    if colon and entry in names:
        return f"{name!r}: write {entry}={number or 2}"
    return f"{name!r} is not in the Procfile (there are: {', '.join(names)}){nearest(name, names)}"


def parse_port(text: str) -> int:
    """Return the number in *text*, the PORT of the first child; 5000 if it is empty. Raises ValueError."""
    if text and not (re.fullmatch(r"[0-9]{1,5}", text) and 0 < int(text) <= PORT_MAX):
        raise ValueError(f"PORT={text!r} (write a number from 1 to {PORT_MAX})")
    return int(text) if text else PORT_FIRST


def port_of(position: int, index: int, first: int) -> int:
    """
    Return PORT for child *index* (from 1) of the name at *position* (from 0): *first*, plus 100 per name. Raises
    ValueError if there is no such port.
    """
    port = first + 100 * position + index - 1
    if port > PORT_MAX:
        raise ValueError(f"its PORT would be {port}, but the highest is {PORT_MAX} (begin with a lower --port)")
    return port


def _lines(text: str) -> Iterable[tuple[int, str]]:
    """Yield number and text of each line, without blank lines and comments."""
    for number, line in enumerate(_plain(text).split("\n"), 1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            yield number, stripped


def _plain(text: str) -> str:
    """Return *text* without a byte order mark, with ``\\n`` as the only line end. Raises ValueError for a NUL."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    if "\0" in text:
        raise ValueError(f"line {_number(text, text.index(chr(0)))}: there is a NUL character (is it UTF-8 text?)")
    return text


def _number(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _value(text: str, begin: int, end: int) -> tuple[str, int]:
    """Return the value that begins at *begin*, in a line that ends at *end*, and where the next line begins."""
    quoted = _QUOTED.match(text, begin)
    rest = _REST.match(text, quoted.end()) if quoted else None
    if quoted and rest:
        value = quoted[1]
        if value is None:
            value = _ESCAPE.sub(lambda escape: _ESCAPES.get(escape[1], escape[1]), quoted[2])
        return value, rest.end()
    line = text[begin:end]
    if line.lstrip()[:1] in ("'", '"') and (quoted is None or quoted.end() > end):
        raise ValueError(f"line {_number(text, begin)}: the quote is not closed")
    return re.split(r"\s+#", line, maxsplit=1)[0].strip(), end + 1
