"""
Whether the files of a sink are among those that something else of the same hub reads or writes.

The template of a sink and the glob of a source are compared part by part, as two patterns: each field of the template
stands for the characters that it can have.

Always true: what is found to be apart is apart. What is found to overlap may need tags that nobody sends.

Not here: two sinks (hub.sinks.pathtemplate), what a glob matches (hub.sources.fileglob).
"""

from __future__ import annotations

import fnmatch
import functools
import os
import re
import string
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hub.sinks.pathtemplate import PathTemplate

_FIELDS = re.compile(r"\{(\w*)\}")
_DIGITS = frozenset(string.digits)
_OF_TAGS = frozenset(string.ascii_letters + string.digits + "_.%-")
_ASCII = frozenset(chr(code) for code in range(128)) - {"/"}
_SPECIAL = re.compile(r"\*+|\?|\[[!^]?\]?[^\]]*\]|.", re.DOTALL)
_SAMPLES = (b"app", b"app.web", b"a/b")


class _Token(NamedTuple):
    """A character of *chars* (None: any one), or any number of them."""

    chars: frozenset[str] | None
    is_many: bool = False


def is_followed(path: str, globs: Iterable[str], excluded: Sequence[str]) -> str | None:
    """Return the glob of *globs* that can match a file of the template *path*; None if all are apart, or excluded."""
    template = PathTemplate(path)
    parts = [_tokens_of_template(part) for part in path.strip("/").split("/")]
    for glob in globs:
        names = glob.strip("/").split("/")
        is_plain = not set(names[-1]) & set("*?[")
        if _parts_meet(names, parts) and (is_plain or not _are_excluded(template, excluded)):
            return glob
    return None


def leads_into(path: str, folder: str) -> bool:
    """Return whether the template *path* can make a file in *folder* or below it."""
    template = PathTemplate(path)
    base, folder = os.path.normpath(template.base), os.path.normpath(folder)
    if base == folder or base.startswith(f"{folder.rstrip('/')}/"):
        return True
    if not folder.startswith(f"{base.rstrip('/')}/"):
        return False
    names = os.path.relpath(folder, base).split("/")
    patterns = template.folders[: len(names)]
    return len(patterns) == len(names) and all(map(re.Pattern.fullmatch, patterns, names))


def _are_excluded(template: PathTemplate, excluded: Sequence[str]) -> bool:
    """Return whether the files of some usual tags are left out."""
    return all(
        any(fnmatch.fnmatchcase(path if "/" in glob else os.path.basename(path), glob) for glob in excluded)
        for path in (template.path(tag, 0) for tag in _SAMPLES)
    )


def _parts_meet(names: Sequence[str], parts: Sequence[Sequence[_Token]]) -> bool:
    """Return whether a path can match the glob with these *names*, and the template with these *parts*."""
    if not names or not parts:
        return not parts and all(name == "**" for name in names)
    if names[0] == "**":
        return _parts_meet(names[1:], parts) or _parts_meet(names, parts[1:])
    return _meet(_tokens_of_glob(names[0]), parts[0]) and _parts_meet(names[1:], parts[1:])


def _meet(one: Sequence[_Token], other: Sequence[_Token]) -> bool:
    """Return whether a text can match both."""

    @functools.cache
    def from_here(at: int, to: int) -> bool:
        if at == len(one) or to == len(other):
            return all(token.is_many for token in (*one[at:], *other[to:]))
        mine, theirs = one[at], other[to]
        if mine.is_many and from_here(at + 1, to):
            return True
        if theirs.is_many and from_here(at, to + 1):
            return True
        if mine.chars is not None and theirs.chars is not None and not mine.chars & theirs.chars:
            return False
        if mine.is_many and theirs.is_many:  # one of them ends before the other: both ways were tried above
            return False
        return from_here(at if mine.is_many else at + 1, to if theirs.is_many else to + 1)

    return from_here(0, 0)


def _tokens_of_template(part: str) -> list[_Token]:
    tokens: list[_Token] = []
    for at, text in enumerate(_FIELDS.split(part)):  # text and names of fields by turns
        if at % 2 == 0:
            tokens += [_Token(frozenset(char)) for char in text]
        elif text == "tag":
            tokens += [_Token(_OF_TAGS), _Token(_OF_TAGS, is_many=True)]
        else:
            shape = "dddd-dd-dd" if text == "date" else "dd"
            tokens += [_Token(_DIGITS if char == "d" else frozenset(char)) for char in shape]
    return tokens


def _tokens_of_glob(name: str) -> list[_Token]:
    tokens: list[_Token] = []
    for found in _SPECIAL.findall(name):
        if found.startswith("*"):
            tokens.append(_Token(None, is_many=True))
        elif found == "?":
            tokens.append(_Token(None))
        elif found.startswith("[") and len(found) > 1:
            match = re.compile(fnmatch.translate(found)).match
            tokens.append(_Token(frozenset(char for char in _ASCII if match(char))))
        else:
            tokens.append(_Token(frozenset(found)))
    return tokens
